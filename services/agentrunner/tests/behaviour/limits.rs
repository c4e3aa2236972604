//! Limits on how many tasks run and start, as the model sees them; budgets are in `spending`.

use std::collections::BTreeSet;

use domain::Timestamp;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, Plan};
use crate::turnstile::Turnstile;

async fn house(model: &Turnstile, agent: (&str, &str)) -> House {
    House::new(Plan { agents: &[agent], openai: Some(model.base_url()), ..Plan::default() }).await
}

/// Submits a task for each prompt, one after another.
async fn submit(house: &House, agent: &str, prompts: impl Iterator<Item = String>) -> Vec<String> {
    let mut ids = Vec::new();
    for prompt in prompts {
        ids.push(house.ask(agent, &prompt).await);
    }
    ids
}

/// Waits until a limit holds a task back, and returns what is said of that.
async fn held_back(house: &House, id: &str) -> Value {
    let path = format!("/tasks/{id}");
    let held = |_: u16, task: &Value| task["waiting_for"][0]["kind"] == "limit";
    house.until("agent-orchestrator", &path, held).await["waiting_for"][0].clone()
}

async fn all_succeed(house: &House, ids: &[String]) {
    for task in join_all(ids.iter().map(|id| house.ended(id))).await {
        assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(0)), "{task}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_tasks_run_at_once_than_allowed_and_the_others_come_in_their_order() {
    let model = Turnstile::start().await;
    let house = house(&model, ("narrow", "name: narrow\nmodel: openai/fake-large\nqueue: {concurrency: 2}\n")).await;
    let ids = submit(&house, "narrow", (0..20).map(|n| format!("task {n}"))).await;
    let first: BTreeSet<String> = model.until_came(2).await.into_iter().collect();
    assert_eq!(first, BTreeSet::from(["task 0".to_owned(), "task 1".to_owned()]));
    for (place, id) in (1..).zip(&ids[2..]) {
        let wait = held_back(&house, id).await;
        assert_eq!((&wait["gate"], &wait["limit"]), (&json!("agent/narrow"), &json!("2 running at once")), "{wait}");
        assert_eq!(wait["position"], json!(place), "{wait}");
        let holders: BTreeSet<&str> =
            wait["holders"].as_array().expect("holders").iter().filter_map(Value::as_str).collect();
        assert_eq!(holders, BTreeSet::from([ids[0].as_str(), ids[1].as_str()]), "{wait}");
    }
    for n in 2..20 {
        model.let_out(1);
        let came = model.until_came(n + 1).await;
        assert_eq!((came.len(), came[n].as_str()), (n + 1, format!("task {n}").as_str()), "one at a time, in order");
        assert!(house.count("running").await <= 2);
    }
    model.let_out(2);
    all_succeed(&house, &ids).await;
    assert_eq!((model.most(), model.prompts().len()), (2, 20));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_running_tasks_holds_over_a_crash() {
    let model = Turnstile::start().await;
    let mut house =
        house(&model, ("narrow", "name: narrow\nmodel: openai/fake-large\nqueue: {concurrency: 2}\n")).await;
    let ids = submit(&house, "narrow", (0..8).map(|n| format!("task {n}"))).await;
    model.until_came(2).await;
    model.let_out(2);
    model.until_came(4).await;
    house.kill().await;
    // Whoever was there is gone with the platform; what they asked for is asked again.
    model.let_out(2);
    house.start().await;
    model.until_came(6).await;
    for n in 7..=10 {
        model.let_out(1);
        let came = model.until_came(n).await;
        assert!(house.count("running").await <= 2, "{came:?}");
    }
    model.let_out(2);
    all_succeed(&house, &ids).await;
    assert_eq!(model.most(), 2);
    let came = model.prompts();
    assert_eq!(came.len(), 10, "eight tasks, two of them asked twice: {came:?}");
    let again: BTreeSet<&String> = came[4..6].iter().collect();
    assert_eq!(again, came[2..4].iter().collect(), "what ran goes on first");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_keys_are_counted_apart_and_tasks_without_one_are_not() {
    let model = Turnstile::start().await;
    let file = "name: fair\nmodel: openai/fake-large\nqueue: {concurrency_per_key: 1}\n";
    let house = house(&model, ("fair", file)).await;
    let mut ids = Vec::new();
    for (prompt, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("free1", ""), ("free2", "")] {
        let mut body = json!({ "agent": "fair", "prompt": prompt });
        if !key.is_empty() {
            body["limit_key"] = json!(key);
        }
        ids.push(house.submit(&body).await);
    }
    let came: BTreeSet<String> = model.until_came(4).await.into_iter().collect();
    assert_eq!(came, ["a1", "b1", "free1", "free2"].map(str::to_owned).into());
    for (second, first, key) in [(1, 0, "a"), (3, 2, "b")] {
        let wait = held_back(&house, &ids[second]).await;
        let expected = json!({ "kind": "limit", "gate": format!("agent/fair/key/{key}"), "limit": "1 running at once",
            "holders": [ids[first]], "position": 1 });
        assert_eq!(wait, expected);
    }
    model.let_out(6);
    all_succeed(&house, &ids).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_tasks_start_within_a_time_than_allowed() {
    let model = Turnstile::start().await;
    let file = "name: steady\nmodel: openai/fake-large\nqueue: {rate: {starts: 5, per: 2s}}\n";
    let house = house(&model, ("steady", file)).await;
    model.let_out(12);
    let ids = submit(&house, "steady", (0..12).map(|n| format!("task {n}"))).await;
    let wait = held_back(&house, &ids[11]).await;
    assert_eq!((&wait["gate"], &wait["limit"]), (&json!("agent/steady"), &json!("5 started within 2s")), "{wait}");
    assert!(wait["until"].is_string(), "{wait}");
    all_succeed(&house, &ids).await;
    let mut started = Vec::new();
    for id in &ids {
        let at: Timestamp = serde_json::from_value(house.task(id).await["started_at"].clone()).expect("a moment");
        started.push(at);
    }
    started.sort_unstable();
    for six in started.windows(6) {
        let apart = six[5] - six[0];
        assert!(apart.num_milliseconds() >= 2_000, "six started within {apart}: {started:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_of_a_task_is_told_once_that_a_budget_is_nearly_used_up() {
    let model = Turnstile::start().await;
    let file = "name: warned\nmodel: openai/fake-large\nqueue: {concurrency: 1}\nbudget: {per_day: {model_calls: 5}}\n";
    let house = house(&model, ("warned", file)).await;
    let ids = submit(&house, "warned", (0..5).map(|n| format!("task {n}"))).await;
    // The first one keeps the others back until all readers are there.
    model.until_came(1).await;
    let mut streams = Vec::new();
    for id in &ids {
        let answer = house.http.get(house.tasks_url(&format!("/tasks/{id}/events"))).send().await.expect("a stream");
        assert_eq!(answer.status(), 200);
        streams.push(answer);
    }
    model.let_out(3);
    // It is a hint, for those who listen while its task works: the task goes on when it was heard.
    let mut heard = String::new();
    while !heard.contains("budget.warning") {
        let piece = tokio::time::timeout(PATIENCE, streams[3].chunk()).await.expect("it is told").expect("a stream");
        heard += std::str::from_utf8(&piece.expect("not its end")).expect("a text");
    }
    model.let_out(2);
    let mut told: Vec<String> =
        join_all(streams.into_iter().map(|stream| async { stream.text().await.expect("a text") })).await;
    told[3].insert_str(0, &heard);
    let warned: Vec<usize> = told.iter().map(|text| text.matches("event: budget.warning").count()).collect();
    assert_eq!(warned, [0, 0, 0, 1, 0], "four fifths are reached with the fourth call: {told:?}");
    let data = told[3].split("event: budget.warning").nth(1).and_then(|rest| {
        rest.lines()
            .find_map(|line| line.strip_prefix("data: "))
            .and_then(|data| serde_json::from_str::<Value>(data).ok())
    });
    let expected = json!({ "id": ids[3], "account": "agent/warned", "window": "day", "what": "model_calls",
        "limit": "5 model calls", "used": "4 model calls" });
    assert_eq!(data, Some(expected), "{}", told[3]);
    all_succeed(&house, &ids).await;
    house.stop().await;
}
