//! People decide about calls and money; files are downloaded.

use serde_json::{Value, json};

use crate::home::{Home, until};

/// Waits until a task waits for somebody.
fn waiting(home: &Home, id: &str) -> Value {
    until("the task waits", || {
        let view = home.run(&["tasks", "show", id, "-o", "json"]).code(0).json();
        (view["status"] == "waiting").then(|| view["waiting_for"][0].clone())
    })
}

fn submit(home: &Home, agent: &str, prompt: &str) -> String {
    home.run(&["submit", agent, prompt]).code(0).stdout.trim().to_owned()
}

fn journal(home: &Home, id: &str) -> String {
    home.run(&["tasks", "journal", id]).code(0).stdout
}

#[test]
fn a_payment_is_allowed_made_once_and_its_receipt_downloaded() {
    let home = Home::new();
    let dev = home.dev();
    let id = submit(&home, "demo-payments", "ACME");
    let waits = waiting(&home, &id);
    assert_eq!((&waits["kind"], &waits["arguments"]["text"]), (&json!("approval"), &json!("Pay 20 dollars: ACME")));
    assert!(home.run(&["tasks", "show", &id]).code(0).stdout.contains(&format!("tasks approve {id}")));
    assert!(home.run(&["tasks", "approvals"]).code(0).stdout.contains(&id));

    let approved = home.run(&["tasks", "approve", &id, "--by", "kim"]).code(0);
    assert!(approved.stderr.contains("may echo be called") && approved.stderr.contains("Pay 20 dollars: ACME"));
    assert!(approved.stdout.contains("approved") && approved.stdout.contains("kim"), "{}", approved.stdout);
    home.run(&["tasks", "watch", &id]).code(0);

    let told = journal(&home, &id);
    for line in ["waiting for permission to call echo", "kim allowed the call", "tool_started  echo", "← echo in"] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    assert_eq!(told.matches("echo begins").count(), 1, "{told}");
    let again = home.run(&["tasks", "approve", &id, "--by", "alex"]).code(1);
    assert!(again.stderr.contains("was approved by kim"), "{}", again.stderr);

    assert!(home.run(&["tasks", "artifacts", &id]).code(0).stdout.contains("receipt.md"));
    home.run(&["tasks", "artifacts", &id, "--download", "receipt.md"]).code(0);
    let receipt = std::fs::read_to_string(home.path("receipt.md")).unwrap();
    assert!(receipt.contains("Pay 20 dollars: ACME"), "{receipt}");
    home.run(&["tasks", "artifacts", &id, "--download", "receipt.md"]).code(2);
    home.run(&["tasks", "artifacts", &id, "--download", "receipt.md", "--force"]).code(0);
    assert_eq!(home.run(&["tasks", "artifacts", &id, "--download", "receipt.md", "--to", "-"]).code(0).stdout, receipt);
    assert!(home.run(&["tasks", "artifacts", &id, "--download", "none"]).code(1).stderr.contains("no such file"));

    let budgets = home.run(&["budgets", &id, "-o", "json"]).code(0).json();
    assert_eq!(budgets[0]["spent"]["usd"], 20.0, "{budgets}");
    dev.stop().code(0);
}

#[test]
fn a_call_is_made_with_the_arguments_that_a_person_edited() {
    let home = Home::new();
    let dev = home.dev();
    let id = submit(&home, "demo-payments", "ACME");
    waiting(&home, &id);
    std::fs::write(home.path("edited.json"), "{\"text\": \"Pay 5 dollars\"}").unwrap();
    let approve = ["tasks", "approve", &id, "--by", "kim", "--arguments"];
    home.run(&[&approve[..], &["[1]"]].concat()).code(2);
    home.run(&[&approve[..], &["@edited.json"]].concat()).code(0);
    home.run(&["tasks", "watch", &id]).code(0);
    let told = journal(&home, &id);
    assert!(told.contains("kim allowed the call with other arguments: {\"text\":\"Pay 5 dollars\"}"), "{told}");
    assert!(told.contains(": Pay 5 dollars"), "{told}");
    dev.stop().code(0);
}

#[test]
fn a_call_that_is_denied_is_not_made_and_the_model_is_told_why() {
    let home = Home::new();
    let dev = home.dev();
    let id = submit(&home, "demo-payments", "ACME");
    waiting(&home, &id);
    home.run(&["tasks", "deny", &id, "--by", "kim"]).code(2);
    home.run(&["tasks", "deny", &id, "--by", "kim", "--reason", "no invoice"]).code(0);
    home.run(&["tasks", "watch", &id]).code(0);
    let told = journal(&home, &id);
    assert!(told.contains("kim denied the call: no invoice") && !told.contains("echo begins"), "{told}");
    dev.stop().code(0);
}

#[test]
fn whoever_decides_must_be_named_and_have_seen_the_call() {
    let home = Home::new();
    let dev = home.dev();
    let id = submit(&home, "demo-payments", "ACME");
    waiting(&home, &id);
    assert!(home.run(&["tasks", "approve", &id]).code(2).stderr.contains("--by"));
    home.run(&["tasks", "approve", &id, "--by", "kim", "--digest", "another"]).code(1);
    home.run(&["tasks", "approve", &id, "another-call", "--by", "kim"]).code(1);
    home.run(&["tasks", "grant", &id, "--usd", "1", "--by", "kim"]).code(1);
    assert_eq!(waiting(&home, &id)["kind"], "approval");
    let signal = home.run(&["tasks", "signal", &id, "yes", "--name", "approval/call"]).code(1);
    assert!(signal.stderr.contains("decisions of people"), "{}", signal.stderr);
    dev.stop().code(0);
}

#[test]
fn a_budget_that_is_used_up_is_raised_by_a_person() {
    let home = Home::new();
    let settings = "tools: [{name: echo, cost_usd: 20}]\nbudget: {usd: 10, on_limit: ask}\n";
    let call = "tool_calls: [{name: echo, arguments: {text: hi}}]";
    home.scripted("spender", settings, &format!("turns:\n  - {call}\n  - text: Done.\n"));
    let dev = home.dev();
    let id = submit(&home, "spender", "x");
    let waits = waiting(&home, &id);
    assert_eq!((&waits["kind"], &waits["limit"]), (&json!("budget"), &json!("$10.00")));
    assert!(home.run(&["tasks", "show", &id]).code(0).stdout.contains(&format!("tasks grant {id}")));
    home.run(&["tasks", "grant", &id, "--by", "kim"]).code(2);
    let granted = home.run(&["tasks", "grant", &id, "--usd", "15", "--by", "kim"]).code(0);
    assert!(granted.stderr.contains("allows $10.00"), "{}", granted.stderr);
    assert_eq!(home.run(&["tasks", "watch", &id]).code(0).stdout, "Done.\n");
    assert!(journal(&home, &id).contains("kim granted $15.00 more"));

    let id = submit(&home, "spender", "x");
    waiting(&home, &id);
    home.run(&["tasks", "grant", &id, "--deny", "--by", "kim"]).code(0);
    home.run(&["tasks", "watch", &id]).code(1);
    assert!(home.run(&["tasks", "show", &id]).code(0).stdout.contains("limit_exceeded"));
    dev.stop().code(0);
}

#[test]
fn a_decision_is_recorded_while_no_platform_runs() {
    let home = Home::new();
    let dev = home.dev();
    let id = submit(&home, "demo-payments", "ACME");
    waiting(&home, &id);
    dev.stop().code(0);
    let approved = home.run(&["tasks", "approve", &id, "--by", "kim"]).code(0);
    assert!(approved.stderr.contains("no platform runs"), "{}", approved.stderr);
    assert!(home.run(&["tasks", "watch", &id]).code(0).stdout.contains("Done."));
    assert!(home.run(&["tasks", "approvals"]).code(0).stdout.contains("no call waits"));
}
