//! Everything that is checked when a run is over.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::effect_sink::EffectSink;

use crate::client::{Client, GATE, PERSON};
use crate::history::{
    Told, check_approved, check_budget, check_counts, check_journal, check_keyed, check_once, journaled,
};
use crate::house::{House, Platform};
use crate::record::check_record;

/// What a run may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Calls whose outcome nobody knows, and answers of models that were cut off.
    Unknowns,
    /// Nothing: whoever stopped did so in order.
    Nothing,
}

/// Numbers of a run, for the table.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) tasks: usize,
    pub(crate) unknown: usize,
    pub(crate) forfeited: u64,
    pub(crate) deliveries: usize,
}

/// Decides whether all promises were kept. `record` is the port of the PostgreSQL itself. Slow tasks and others that the
/// client does not own must have ended.
pub(crate) async fn check(
    client: &mut Client,
    house: &House,
    platform: &Platform,
    sink: &EffectSink,
    record: u16,
    allowed: Allowed,
) -> Figures {
    let mut problems = Vec::new();
    let urls = platform.urls();
    let url = &urls[0];
    client.ask_again(&urls).await;
    problems.extend(client.problems.iter().cloned());

    let listed = client.get(format!("{url}/tasks?limit=1000")).await.expect("a list");
    let listed = listed["items"].as_array().expect("items").clone();
    let mut figures = Figures { tasks: listed.len(), ..Figures::default() };
    let mine: BTreeSet<&str> = client.tasks.values().filter_map(|(_, id)| id.as_deref()).collect();
    for task in listed.iter().filter(|task| ["keyed", "once", "approved", "asker"].contains(&agent(task))) {
        if !mine.contains(task["id"].as_str().unwrap_or("?")) {
            problems.push(format!("a task that nobody knows to have submitted: {task}"));
        }
    }
    let (mut once, mut keyed) = (Vec::new(), Vec::new());
    for (key, (_, id)) in &client.tasks {
        let told = client.told(url, id.as_deref().expect("submitted")).await;
        check_journal(&told, &mut problems);
        match key.split('-').next() {
            Some("keyed") => {
                check_counts(&told, 3, 5, &mut problems);
                keyed.push(told);
            }
            Some("asker") => check_counts(&told, 2, 1, &mut problems),
            Some("approved") => {
                check_approved(&told, PERSON, &mut problems);
                once.push(told);
            }
            _ => once.push(told),
        }
    }
    let children: Vec<&Value> = listed.iter().filter(|task| agent(task) == "child").collect();
    if children.len() != 2 * client.load.keyed {
        problems.push(format!("{} sub-tasks instead of {}", children.len(), 2 * client.load.keyed));
    }
    for child in children {
        let told = client.told(url, child["id"].as_str().expect("an id")).await;
        check_counts(&told, 1, 0, &mut problems);
        check_journal(&told, &mut problems);
        keyed.push(told);
    }
    figures.forfeited = check_budgets(client, url, &once, &keyed, &mut problems).await;
    if client.most > GATE {
        problems.push(format!("{} tasks ran at once where {GATE} may", client.most));
    }
    let deliveries: Vec<_> = sink.deliveries().into_iter().map(|entry| (entry.path, entry.key)).collect();
    figures.deliveries = deliveries.len();
    check_keyed(&deliveries, "/keyed/a", client.load.keyed, &mut problems);
    check_keyed(&deliveries, "/keyed/b", client.load.keyed, &mut problems);
    check_once(&deliveries, &once.iter().collect::<Vec<_>>(), &mut problems);
    figures.unknown = once.iter().filter(|task| task.view["status"] == "failed").count();
    if allowed == Allowed::Nothing && (figures.unknown, figures.forfeited) != (0, 0) {
        problems.push(format!("an orderly stop cut off calls and answers: {figures:?}"));
    }
    check_record(&house.backends.record_url(record), &mut problems);
    for ((role, copy), service) in &platform.services {
        if let Err(reason) = service.ready(&client.http).await {
            problems.push(format!("{} {copy} is not ready: {reason}", role.program()));
        }
    }
    println!("figures: {figures:?}, {} of the gate at once", client.most);
    assert!(problems.is_empty(), "{}\n{}", problems.join("\n"), platform.logs());
    figures
}

fn agent(task: &Value) -> &str {
    task["agent"].as_str().unwrap_or("?")
}

/// All that was reserved is settled, and what is spent lies between what the journals say and the limits. Returns the
/// model calls that are spent beyond those of the journals.
async fn check_budgets(client: &Client, url: &str, once: &[Told], keyed: &[Told], problems: &mut Vec<String>) -> u64 {
    let mut beyond = 0;
    for task in once {
        let id = task.view["id"].as_str().expect("an id");
        let accounts = client.get(format!("{url}/tasks/{id}/budget")).await.expect("its budget");
        beyond += check_budget(task, &accounts, problems);
    }
    let accounts = client.get(format!("{url}/budgets")).await.expect("the accounts");
    for account in accounts.as_array().expect("a list") {
        let reserved = &account["reserved"];
        if ["tokens", "model_calls", "tool_calls"].iter().any(|what| reserved[what] != 0) {
            problems.push(format!("something is still reserved: {account}"));
        }
    }
    let account = accounts.as_array().and_then(|all| all.iter().find(|account| account["account"] == "agent/keyed"));
    // What was used before the full hour stands in another window.
    let since = account.and_then(|account| account["since"].as_str()).unwrap_or("9");
    if keyed.iter().any(|task| task.view["created_at"].as_str().unwrap_or("0") < since) {
        return beyond;
    }
    let spent = |what: &str| account.and_then(|account| account["spent"][what].as_u64()).unwrap_or(0);
    let (tokens, answers) = journaled(keyed);
    // A tool call is paid once for ever, however often a crash has it repeated.
    if spent("tokens") < tokens || spent("model_calls") < answers || spent("tool_calls") != 5 * client.load.keyed as u64
    {
        problems.push(format!("{tokens} tokens and {answers} answers are journaled, but: {account:?}"));
    }
    beyond + spent("model_calls").saturating_sub(answers)
}
