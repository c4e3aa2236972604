//! Which limits and accounts a task has: from its agent, its namespace, and the task that it works for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::{AmountSpec, QueueSpec, limits};
use crate::file::{self, FileProblem, Finding};
use crate::{AgentSpec, BudgetAccount, BudgetWindow, Gate, GateLimit, Namespace, OnLimit, TaskId, Terms};

/// What the operator allows a namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceLimits {
    /// What all its tasks may cost in an hour (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<AmountSpec>,
    /// What all its tasks may cost in a day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day: Option<AmountSpec>,
    /// What happens when that does not allow the next call.
    pub on_limit: OnLimit,
    /// How many of its tasks may run, or start, at once.
    #[serde(skip_serializing_if = "QueueSpec::is_empty")]
    pub queue: QueueSpec,
}

/// What the operator allows all namespaces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlatformLimits {
    /// The limits by namespace; one that is not named has none.
    pub namespaces: BTreeMap<Namespace, NamespaceLimits>,
}

impl PlatformLimits {
    /// The JSON Schema of the operator's file.
    pub fn json_schema() -> Value {
        file::schema::<Self>("AgentRunner limits")
    }

    /// Reads the operator's file; all problems are told at once, and the list is never empty.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, Vec<FileProblem>> {
        file::parse_with(&Self::json_schema(), file, text, Self::findings)
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, limits) in &self.namespaces {
            let path = format!("namespaces.{name}");
            limits::windows(&path, limits.per_hour.as_ref(), limits.per_day.as_ref(), &mut findings);
            limits::queue(&format!("{path}.queue"), &limits.queue, &mut findings);
        }
        findings
    }

    /// The limits of a namespace.
    pub fn of(&self, namespace: &Namespace) -> NamespaceLimits {
        self.namespaces.get(namespace).cloned().unwrap_or_default()
    }
}

/// The terms of a new task. A sub-task has every account of `parent`, and counts under its parent's key unless it has one.
///
/// Gates come in a fixed order, the widest first, so that two tasks never wait for each other's places.
pub fn terms_of(
    task: TaskId,
    agent: &AgentSpec,
    namespace: &NamespaceLimits,
    limit_key: Option<String>,
    parent: Option<&Terms>,
) -> Terms {
    let limit_key = limit_key.or_else(|| parent.and_then(|parent| parent.limit_key.clone()));
    let mut gates = Vec::new();
    gates_of(&mut gates, "namespace", &namespace.queue, limit_key.as_deref());
    gates_of(&mut gates, &format!("agent/{}", agent.name), &agent.queue, limit_key.as_deref());
    let mut accounts = parent.map(|parent| parent.accounts.clone()).unwrap_or_default();
    let mut add = |key: String, window, limit: crate::AmountLimit, on_limit| {
        let known = accounts.iter().any(|account: &BudgetAccount| account.key == key && account.window == window);
        if !limit.is_empty() && !known {
            accounts.push(BudgetAccount { key, window, limit, on_limit });
        }
    };
    let windows = |hour: &Option<AmountSpec>, day: &Option<AmountSpec>| {
        [(BudgetWindow::Hour, hour.clone()), (BudgetWindow::Day, day.clone())]
    };
    if let Some(budget) = &agent.budget {
        add(format!("task/{task}"), BudgetWindow::Task, budget.limit(), budget.on_limit);
        for (window, limit) in windows(&budget.per_hour, &budget.per_day) {
            add(format!("agent/{}", agent.name), window, limit.unwrap_or_default().limit(), budget.on_limit);
        }
    }
    for (window, limit) in windows(&namespace.per_hour, &namespace.per_day) {
        add("namespace".to_owned(), window, limit.unwrap_or_default().limit(), namespace.on_limit);
    }
    Terms { limit_key, gates, accounts }
}

fn gates_of(gates: &mut Vec<Gate>, key: &str, queue: &QueueSpec, limit_key: Option<&str>) {
    let mut add = |key: String, running: Option<u32>, rate: Option<&crate::agent::RateSpec>| {
        if let Some(max) = running {
            gates.push(Gate { key: key.clone(), limit: GateLimit::Running { max } });
        }
        if let Some(rate) = rate {
            let per_ms = u64::try_from(rate.per.0.as_millis()).unwrap_or(u64::MAX);
            gates.push(Gate { key, limit: GateLimit::Starts { max: rate.starts, per_ms } });
        }
    };
    add(key.to_owned(), queue.concurrency, queue.rate.as_ref());
    if let Some(limit_key) = limit_key {
        add(format!("{key}/key/{limit_key}"), queue.concurrency_per_key, queue.rate_per_key.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn agent(text: &str) -> AgentSpec {
        crate::agent::parse("a.yml", text.as_bytes()).expect("a sound agent")
    }

    fn keys(terms: &Terms) -> Vec<(&str, bool)> {
        terms.gates.iter().map(|gate| (gate.key.as_str(), matches!(gate.limit, GateLimit::Running { .. }))).collect()
    }

    #[test]
    fn gates_come_with_the_widest_first_and_those_of_keys_only_with_a_key() {
        let text = "namespaces: {default: {queue: {concurrency: 9, concurrency_per_key: 5}}}\n";
        let limits = PlatformLimits::parse("l.yml", text.as_bytes()).expect("sound").of(&Namespace::default());
        let spec = agent("name: a\nqueue: {concurrency: 3, concurrency_per_key: 1, rate: {starts: 2, per: 1m}}\n");
        let task = TaskId(Uuid::nil());
        let terms = terms_of(task, &spec, &limits, Some("ann".to_owned()), None);
        let all = [
            ("namespace", true),
            ("namespace/key/ann", true),
            ("agent/a", true),
            ("agent/a", false),
            ("agent/a/key/ann", true),
        ];
        assert_eq!(keys(&terms), all);
        assert_eq!(terms.gates[3].limit, GateLimit::Starts { max: 2, per_ms: 60_000 });
        let without = terms_of(task, &spec, &limits, None, None);
        assert_eq!(keys(&without), [all[0], all[2], all[3]]);
        let child = terms_of(task, &agent("name: b\n"), &limits, None, Some(&terms));
        assert_eq!(child.limit_key.as_deref(), Some("ann"), "a sub-task counts under its parent's key");
        assert_eq!(keys(&child), [all[0], all[1]]);
        assert!(terms_of(task, &agent("name: b\n"), &NamespaceLimits::default(), None, None).is_empty());
    }
}
