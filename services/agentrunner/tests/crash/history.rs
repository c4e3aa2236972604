//! What the record says afterwards, checked against what is promised.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Everything known of one task at the end.
pub(crate) struct Told {
    pub(crate) view: Value,
    pub(crate) journal: Vec<Value>,
}

impl Told {
    fn id(&self) -> &str {
        self.view["id"].as_str().unwrap_or("?")
    }

    fn steps(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.journal.iter().filter(move |step| step["type"] == kind)
    }
}

/// One journal obeys the laws that hold for every task.
pub(crate) fn check_journal(task: &Told, problems: &mut Vec<String>) {
    let id = task.id().to_owned();
    let status = task.view["status"].as_str().unwrap_or("?");
    if !["succeeded", "failed", "cancelled"].contains(&status) {
        problems.push(format!("{id}: did not end but is {status}"));
    }
    for (expected, step) in task.journal.iter().enumerate() {
        if step["seq"].as_u64() != Some(expected as u64) {
            problems.push(format!("{id}: step {expected} has number {}", step["seq"]));
        }
    }
    if task.steps("input").count() != 1 {
        problems.push(format!("{id}: not one input"));
    }
    let mut last = 0;
    for step in &task.journal {
        let epoch = step["epoch"].as_u64().unwrap_or(0);
        if epoch != 0 && epoch < last {
            problems.push(format!("{id}: step {} was written under epoch {epoch} after {last}", step["seq"]));
        }
        last = last.max(epoch);
    }
    // That a person allowed a call is no outcome of it.
    let mut ended: BTreeMap<&str, u32> = BTreeMap::new();
    for step in task.steps("tool").chain(task.steps("resolved").filter(|step| decision(step).is_none())) {
        *ended.entry(step["call_id"].as_str().unwrap_or("?")).or_default() += 1;
    }
    for (call, count) in ended.into_iter().filter(|(_, count)| *count > 1) {
        problems.push(format!("{id}: call {call} has {count} outcomes"));
    }
}

/// Whether a step says that a person allowed a call.
fn decision(step: &Value) -> Option<bool> {
    step["by"]["value"].get("approved")?.as_bool()
}

/// Every call that was made was allowed before it, by one decision of this person.
pub(crate) fn check_approved(task: &Told, by: &str, problems: &mut Vec<String>) {
    let id = task.id();
    let decided: Vec<&Value> = task.steps("resolved").filter(|step| decision(step).is_some()).collect();
    match decided[..] {
        [step] if decision(step) == Some(true) && step["by"]["from"] == by => {
            let begun = task.steps("tool_started").map(|mark| mark["seq"].as_u64());
            if !begun.into_iter().all(|at| at > step["seq"].as_u64()) {
                problems.push(format!("{id}: the call began before it was allowed"));
            }
        }
        _ => problems.push(format!("{id}: not one decision of {by} but {decided:?}")),
    }
    if task.steps("tool_started").count() != 1 {
        problems.push(format!("{id}: not one mark of its call"));
    }
}

/// What the journals of tasks say that was used: tokens and answers.
pub(crate) fn journaled<'a>(tasks: impl IntoIterator<Item = &'a Told>) -> (u64, u64) {
    let mut used = (0, 0);
    for task in tasks {
        for step in task.steps("model") {
            let count = |what: &str| step["usage"][what].as_u64().unwrap_or(0);
            used = (used.0 + count("input_tokens") + count("output_tokens"), used.1 + 1);
        }
    }
    used
}

/// How the budget of one task stands at its end: all of it is settled, no more is spent than is allowed, and no less than
/// its journal says. Returns the model calls that are spent beyond those of the journal.
pub(crate) fn check_budget(task: &Told, accounts: &Value, problems: &mut Vec<String>) -> u64 {
    let id = task.id();
    let name = format!("task/{id}");
    let account = accounts.as_array().into_iter().flatten().find(|account| account["account"] == name.as_str());
    let Some(account) = account else {
        problems.push(format!("{id}: no account in {accounts}"));
        return 0;
    };
    let of = |part: &str, what: &str| account[part][what].as_u64();
    for what in ["model_calls", "tool_calls"] {
        if of("reserved", what) != Some(0) || of("spent", what) > of("limit", what) {
            problems.push(format!("{id}: {what} do not add up: {account}"));
        }
    }
    let marks = task.steps("tool_started").count() as u64;
    if of("spent", "tool_calls") < Some(marks) {
        problems.push(format!("{id}: {marks} calls were begun, but: {account}"));
    }
    let (_, answers) = journaled([task]);
    let spent = of("spent", "model_calls").unwrap_or(0);
    if spent < answers {
        problems.push(format!("{id}: {answers} answers are journaled, but: {account}"));
    }
    spent.saturating_sub(answers)
}

/// The task succeeded with exactly these numbers of model answers and tool outcomes: nothing ran again.
pub(crate) fn check_counts(task: &Told, answers: usize, outcomes: usize, problems: &mut Vec<String>) {
    let id = task.id();
    if task.view["status"] != "succeeded" {
        problems.push(format!("{id}: {} {}", task.view["status"], task.view["failure"]));
        return;
    }
    let (said, done) = (task.steps("model").count(), task.steps("tool").count() + task.steps("resolved").count());
    if (said, done) != (answers, outcomes) {
        problems.push(format!("{id}: {said} answers and {done} outcomes instead of {answers} and {outcomes}"));
    }
}

/// A sink's entry: path and idempotency key.
pub(crate) type Delivery = (String, String);

/// Each key of `path` was used for `calls` calls of each of `tasks` tasks and no more.
pub(crate) fn check_keyed(deliveries: &[Delivery], path: &str, tasks: usize, problems: &mut Vec<String>) {
    let keys: BTreeSet<&str> =
        deliveries.iter().filter(|(at, _)| at.starts_with(path)).map(|(_, key)| key.as_str()).collect();
    if keys.len() != tasks {
        problems.push(format!("{path}: {} distinct keys for {tasks} tasks", keys.len()));
    }
    if keys.contains("") {
        problems.push(format!("{path}: delivered without a key"));
    }
}

/// No `once` call was delivered twice, and a task without a delivery never claims to have made it.
pub(crate) fn check_once(deliveries: &[Delivery], tasks: &[&Told], problems: &mut Vec<String>) {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, key) in deliveries.iter().filter(|(at, _)| at.starts_with("/once")) {
        *counts.entry(key.split('/').next().unwrap_or("?")).or_default() += 1;
    }
    for task in tasks {
        let id = task.id();
        let delivered = counts.get(id).copied().unwrap_or(0);
        let unknown = task.view["failure"]["kind"] == "outcome_unknown";
        match task.view["status"].as_str() {
            Some("succeeded") if delivered == 1 => {}
            Some("failed") if unknown && delivered <= 1 => {}
            _ => {
                problems
                    .push(format!("{id}: {delivered} deliveries, {} {}", task.view["status"], task.view["failure"]));
            }
        }
    }
}
