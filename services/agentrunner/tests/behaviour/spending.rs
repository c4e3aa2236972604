//! Budgets that hold, as a model counts that keeps its own bill: with many tasks at once, over crashes, and with people who
//! grant more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use testkit::fake_openai::{FakeOpenAi, Reply, Seen};
use tokio::time::Instant;

use crate::house::{House, PATIENCE, Plan};

const TASKS: usize = 64;
/// Tokens that an agent may use in an hour: less than half of what all its tasks need.
const TOKENS: u64 = 5_000;
/// The same in money, in billionths of a dollar: `usd: 0.12`.
const NANOS: u64 = 120_000_000;
/// Prices of a token in billionths of a dollar, as `models.yml` has them by the million.
const READ_NANOS: u64 = 10_000;
const WRITTEN_NANOS: u64 = 40_000;
const MODELS: &str = "models:\n  openai/fake-large: {price: {input: 10, output: 40}}\n";

/// What was really used.
#[derive(Debug, Default, Clone, Copy)]
struct Bill {
    calls: u64,
    tokens: u64,
    nanos: u64,
}

/// A model that writes down what every request used before it answers, whether or not anybody reads the answer.
struct Biller {
    server: FakeOpenAi,
    bill: Arc<Mutex<Bill>>,
}

impl Biller {
    async fn start() -> Self {
        let server = FakeOpenAi::start().await;
        let bill = Arc::new(Mutex::new(Bill::default()));
        let written = Arc::clone(&bill);
        server.otherwise(move |seen| answer(seen, &mut written.lock().expect("the bill")));
        Self { server, bill }
    }

    fn bill(&self) -> Bill {
        *self.bill.lock().expect("the bill")
    }

    async fn until_calls(&self, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.bill().calls < count {
            assert!(Instant::now() < deadline, "{:?}", self.bill());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Asks for a tool first, and then has an answer; each as long as is allowed, or shorter.
fn answer(seen: &Seen, bill: &mut Bill) -> Reply {
    let allowed = seen.body["max_tokens"].as_u64().or(seen.body["max_completion_tokens"].as_u64());
    let allowed = allowed.expect("every request of a task with a budget says how long its answer may be");
    // Ordinary text and its frame have far fewer tokens than bytes.
    let length = |part: &str| seen.body[part].to_string().len() as u64;
    let read = (length("messages") + length("tools")) / 8;
    let said = 1 + bill.calls * 37 % allowed;
    bill.calls += 1;
    bill.tokens += read + said;
    bill.nanos += read * READ_NANOS + said * WRITTEN_NANOS;
    let messages = seen.body["messages"].as_array().expect("messages");
    let chunks = if messages.iter().any(|message| message["role"] == "assistant") {
        [Reply::text_chunks("Done."), vec![Reply::finish("stop")]].concat()
    } else {
        [Reply::call_chunks(&[("call_1", "echo", r#"{"text":"once more"}"#)]), vec![Reply::finish("tool_calls")]]
            .concat()
    };
    let usage = vec![Reply::usage(read as i64, said as i64)];
    Reply::stream(&[chunks, usage].concat()).after(Duration::from_millis(30))
}

/// An agent with a budget, and whatever else its file says.
async fn house(model: &Biller, rest: &str, settings: &[(&str, &str)]) -> House {
    let file =
        format!("name: saver\nmodel: {{name: openai/fake-large, max_output_tokens: 40}}\ntools: [echo]\n{rest}\n");
    House::new(Plan { agents: &[("saver", &file)], openai: Some(model.server.base_url()), settings, ..Plan::default() })
        .await
}

async fn submit_all(house: &House) -> Vec<String> {
    join_all((0..TASKS).map(|n| async move { house.ask("saver", &format!("task {n}")).await })).await
}

/// Checks the ends of the tasks, and returns how many succeeded. Those that failed say which account was short.
fn check_ends(tasks: &[Value]) -> usize {
    for task in tasks.iter().filter(|task| task["status"] != "succeeded") {
        assert_eq!((&task["status"], &task["failure"]["kind"]), (&json!("failed"), &json!("limit_exceeded")), "{task}");
        let message = task["failure"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("budget agent/saver (this hour)"), "{message}");
    }
    tasks.iter().filter(|task| task["status"] == "succeeded").count()
}

/// The hours in which the tasks worked: each has a budget of its own.
fn hours(tasks: &[Value]) -> u64 {
    let moments = tasks.iter().flat_map(|task| [&task["created_at"], &task["finished_at"]]);
    let hours: BTreeSet<&str> = moments.filter_map(|moment| moment.as_str()?.get(..13)).collect();
    hours.len() as u64
}

/// How the account stands in its current hour.
async fn account(house: &House) -> Value {
    let (status, accounts) = house.get("agent-orchestrator", "/budgets").await;
    assert_eq!(status, 200, "{accounts}");
    let account = accounts.as_array().and_then(|all| all.iter().find(|one| one["account"] == "agent/saver"));
    account.unwrap_or_else(|| panic!("no account: {accounts}")).clone()
}

fn assert_settled(account: &Value) {
    let reserved = json!({ "usd": 0.0, "tokens": 0, "model_calls": 0, "tool_calls": 0 });
    assert_eq!(account["reserved"], reserved, "{account}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_at_once_never_use_more_tokens_than_their_agent_may() {
    let model = Biller::start().await;
    let house = house(&model, &format!("budget: {{per_hour: {{tokens: {TOKENS}}}}}"), &[]).await;
    let ids = submit_all(&house).await;
    let tasks = join_all(ids.iter().map(|id| house.ended(id))).await;
    let succeeded = check_ends(&tasks);
    let (bill, hours) = (model.bill(), hours(&tasks));
    println!("figures: {succeeded} of {TASKS} succeeded; {bill:?} of {TOKENS} tokens");
    assert!((1..TASKS).contains(&succeeded), "{succeeded} of {TASKS} succeeded: {bill:?}");
    assert!(bill.tokens <= TOKENS * hours, "{bill:?}");
    let account = account(&house).await;
    assert_settled(&account);
    if hours == 1 {
        let spent = &account["spent"];
        assert_eq!((&spent["tokens"], &spent["model_calls"]), (&json!(bill.tokens), &json!(bill.calls)), "{account}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_without_budget_wait_for_a_person_and_go_on_with_what_was_granted() {
    let model = Biller::start().await;
    let house = house(&model, &format!("budget: {{per_hour: {{tokens: {TOKENS}}}, on_limit: ask}}"), &[]).await;
    let ids = submit_all(&house).await;
    let deadline = Instant::now() + PATIENCE;
    // A person's question ends no task, so all of them end or wait.
    while house.count("waiting").await + house.count("succeeded").await + house.count("failed").await < TASKS as u64 {
        assert!(Instant::now() < deadline, "{}", house.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let tasks = join_all(ids.iter().map(|id| house.task(id))).await;
    let before = model.bill();
    assert!(before.tokens <= TOKENS * hours(&tasks), "{before:?}");
    let waiting: Vec<&Value> = tasks.iter().filter(|task| task["status"] == "waiting").collect();
    assert!(!waiting.is_empty() && waiting.len() < TASKS, "{} wait", waiting.len());
    assert_settled(&account(&house).await);

    for (n, task) in waiting.iter().enumerate() {
        let wait = &task["waiting_for"][0];
        assert_eq!(
            (&wait["kind"], &wait["account"], &wait["what"]),
            (&json!("budget"), &json!("agent/saver"), &json!("tokens"))
        );
        let mut body = json!({ "call_id": wait["call_id"], "by": "kim" });
        if n == 0 {
            body["deny"] = json!(true);
        } else {
            body["grant"] = json!({ "tokens": 100_000 });
        }
        let (status, answer) =
            house.post(&format!("/tasks/{}/budget", task["id"].as_str().expect("an id")), &body).await;
        assert_eq!(status, 200, "{answer}");
    }
    let ended = join_all(ids.iter().map(|id| house.ended(id))).await;
    let failed: Vec<&Value> = ended.iter().filter(|task| task["status"] != "succeeded").collect();
    let [denied] = failed[..] else { panic!("only the denied one fails: {failed:?}") };
    assert_eq!((&denied["id"], &denied["failure"]["kind"]), (&waiting[0]["id"], &json!("limit_exceeded")), "{denied}");
    let journal = house.journal(waiting[1]["id"].as_str().expect("an id")).await;
    let granted = journal.iter().filter(|step| step["type"] == "resolved" && step["by"]["from"] == "kim").count();
    assert_eq!(granted, 1, "who granted it is in the journal");
    println!("figures: {} waited; {before:?} before the grants, {:?} after", waiting.len(), model.bill());
    let account = account(&house).await;
    assert_settled(&account);
    if hours(&ended) == 1 {
        assert_eq!(account["spent"]["tokens"], json!(model.bill().tokens), "{account}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_is_never_spent_beyond_the_limit_not_even_over_crashes() {
    let model = Biller::start().await;
    let prices = tempfile::NamedTempFile::with_suffix(".yml").expect("a file");
    std::fs::write(prices.path(), MODELS).expect("prices");
    let path = prices.path().to_str().expect("a path");
    let rest = "queue: {concurrency: 8}\nbudget: {per_hour: {usd: 0.12}}";
    let mut house = house(&model, rest, &[("AGENTRUNNER_MODELS", path)]).await;
    let ids = submit_all(&house).await;
    for calls in [6, 14] {
        model.until_calls(calls).await;
        house.kill().await;
        house.start().await;
    }
    let tasks = join_all(ids.iter().map(|id| house.ended(id))).await;
    let succeeded = check_ends(&tasks);
    let (bill, hours) = (model.bill(), hours(&tasks));
    let account = account(&house).await;
    let spent = (account["spent"]["usd"].as_f64().expect("dollars") * 1e9).round() as u64;
    println!("figures: {succeeded} of {TASKS} succeeded; {bill:?}; {spent} spent of {NANOS}");
    assert!((1..TASKS).contains(&succeeded), "{succeeded} of {TASKS} succeeded: {bill:?}");
    assert!(bill.nanos <= NANOS * hours, "{bill:?}");
    assert_settled(&account);
    assert!(spent <= NANOS, "{account}");
    if hours == 1 {
        assert!(spent >= bill.nanos, "what a crash cut off counts, too: {account} {bill:?}");
    }
    house.stop().await;
}
