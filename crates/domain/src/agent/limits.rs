//! The rules of budgets and queues that a schema cannot say, for agents' files and the operator's own.

use std::time::Duration;

use super::{AmountSpec, BudgetSpec, QueueSpec, RateSpec};
use crate::HumanDuration;
use crate::file::Finding;

const SHORTEST_RATE: Duration = Duration::from_secs(1);
const LONGEST_RATE: Duration = Duration::from_hours(7 * 24);

/// What is wrong with a budget.
pub(super) fn budget(path: &str, budget: &BudgetSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    positive(path, budget.usd, &mut findings);
    windows(path, budget.per_hour.as_ref(), budget.per_day.as_ref(), &mut findings);
    if budget.limit().is_empty() && budget.usd.is_none() && budget.per_hour.is_none() && budget.per_day.is_none() {
        findings.push(nothing(path, "usd: 0.5"));
    }
    findings
}

/// What is wrong with what may be used in an hour and in a day.
pub(crate) fn windows(
    path: &str,
    per_hour: Option<&AmountSpec>,
    per_day: Option<&AmountSpec>,
    findings: &mut Vec<Finding>,
) {
    for (name, amount) in [("per_hour", per_hour), ("per_day", per_day)] {
        let Some(amount) = amount else { continue };
        let path = format!("{path}.{name}");
        positive(&path, amount.usd, findings);
        if amount.limit().is_empty() && amount.usd.is_none() {
            findings.push(nothing(&path, "usd: 5"));
        }
    }
}

/// What is wrong with a queue.
pub(crate) fn queue(path: &str, queue: &QueueSpec, findings: &mut Vec<Finding>) {
    let mut check = |name: &str, rate: &RateSpec| {
        if rate.per.0 < SHORTEST_RATE || rate.per.0 > LONGEST_RATE {
            let (least, most) = (HumanDuration(SHORTEST_RATE), HumanDuration(LONGEST_RATE));
            findings.push(Finding::new(format!("{path}.{name}.per"), format!("must be from {least} to {most}")));
        }
    };
    for (name, rate) in [("rate", &queue.rate), ("rate_per_key", &queue.rate_per_key)] {
        if let Some(rate) = rate {
            check(name, rate);
        }
    }
}

fn positive(path: &str, usd: Option<f64>, findings: &mut Vec<Finding>) {
    if usd.is_some_and(|usd| usd <= 0.0) {
        findings.push(Finding::new(format!("{path}.usd"), "must be more than 0"));
    }
}

fn nothing(path: &str, example: &str) -> Finding {
    Finding::new(path, "limits nothing").hint(format!("write for example {example}, or leave it out"))
}
