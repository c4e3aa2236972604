//! Tasks that wait, delegate, fail and come back.

use serde_json::{Value, json};
use testkit::effect_sink::EffectSink;
use testkit::fake_openai::{FakeOpenAi, Reply};

use crate::house::{House, Plan};

const ASKER: (&str, &str) = ("asker", "name: asker\nmodel: scripted/asker\ntools: [ask]\n");
const ASKER_SAYS: (&str, &str) = (
    "asker",
    "turns:
  - text: I ask.
    tool_calls: [{name: ask, arguments: {question: \"May I?\", options: [\"yes\", \"no\"]}}]
  - text: \"You said: {{last_tool_result}}\"
",
);

async fn signal(house: &House, id: &str, value: &str) -> (u16, Value) {
    house.post(&format!("/tasks/{id}/signal"), &json!({ "name": "answer", "value": value, "from": "kim" })).await
}

async fn waiting_for(house: &House, id: &str) -> Value {
    house.until_status(id, "waiting").await["waiting_for"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_shown_until_a_person_answers_it() {
    let house = House::new(Plan { agents: &[ASKER], dialogues: &[ASKER_SAYS], ..Plan::default() }).await;
    let id = house.ask("asker", "ask me").await;
    let wait = waiting_for(&house, &id).await;
    assert_eq!((&wait["kind"], &wait["question"]), (&json!("signal"), &json!("May I?")), "{wait}");
    assert_eq!((&wait["name"], &wait["options"]), (&json!("answer"), &json!(["yes", "no"])), "{wait}");
    assert!(wait["expires_at"].is_string(), "no wait is for ever: {wait}");
    let (_, agent) = house.get("agent-orchestrator", "/agents/asker").await;
    assert_eq!((&agent["status"], &agent["waiting"]), (&json!("waiting"), &json!(1)), "{agent}");

    let (status, answer) = signal(&house, &id, "yes").await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(house.ended(&id).await["output"], "You said: yes");
    let resolved = house.journal(&id).await.into_iter().find(|step| step["type"] == "resolved").expect("an answer");
    assert_eq!((&resolved["by"]["value"], &resolved["by"]["from"]), (&json!("yes"), &json!("kim")));
    let (status, problem) = signal(&house, &id, "no").await;
    assert_eq!((status, &problem["type"]), (409, &json!("/errors/task-ended")), "an answer that comes too late");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_answers_takes_its_default() {
    let dialogue = ASKER_SAYS.1.replace("May I?\"", "May I?\", expires_in: 1s, default: \"no\"");
    let house = House::new(Plan { agents: &[ASKER], dialogues: &[("asker", &dialogue)], ..Plan::default() }).await;
    let id = house.ask("asker", "nobody is there").await;
    let wait = waiting_for(&house, &id).await;
    assert_eq!(wait["default"], "no", "{wait}");
    let task = house.ended(&id).await;
    let output = task["output"].as_str().expect("an answer");
    assert!(output.contains("\"no\"") && output.contains("default"), "{output}");
    house.stop().await;
}

const TEAM: [(&str, &str); 2] =
    [("boss", "name: boss\nmodel: scripted/boss\ntools: [delegate]\ndelegates: [asker]\n"), ASKER];
const TEAM_SAYS: [(&str, &str); 2] = [
    (
        "boss",
        "turns:
  - tool_calls: [{name: delegate, arguments: {agent: asker, prompt: \"find out\"}}]
  - text: \"It told me: {{last_tool_result}}\"
",
    ),
    ASKER_SAYS,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_waits_for_its_child_and_gets_its_answer() {
    let house = House::new(Plan { agents: &TEAM, dialogues: &TEAM_SAYS, ..Plan::default() }).await;
    let parent = house.ask("boss", "delegate").await;
    let wait = waiting_for(&house, &parent).await;
    assert_eq!((&wait["kind"], &wait["agent"]), (&json!("child"), &json!("asker")), "{wait}");
    let child = wait["task"].as_str().expect("the child").to_owned();
    waiting_for(&house, &child).await;
    let listed = house.list(&format!("/tasks?parent={parent}"), 10).await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(child)));
    let shown = house.task(&child).await;
    assert_eq!((&shown["parent"]["task"], &shown["depth"]), (&json!(parent), &json!(1)), "{shown}");
    assert_eq!(signal(&house, &child, "yes").await.0, 202);
    assert_eq!(house.ended(&parent).await["output"], "It told me: You said: yes");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_a_parent_cancels_its_child() {
    let house = House::new(Plan { agents: &TEAM, dialogues: &TEAM_SAYS, ..Plan::default() }).await;
    let parent = house.ask("boss", "delegate").await;
    let child = waiting_for(&house, &parent).await["task"].as_str().expect("the child").to_owned();
    waiting_for(&house, &child).await;
    let (status, answer) = house.post(&format!("/tasks/{parent}/cancel"), &Value::Null).await;
    assert_eq!(status, 202, "{answer}");
    for id in [&parent, &child] {
        assert_eq!(house.ended(id).await["status"], "cancelled");
    }
    let (status, problem) = house.post(&format!("/tasks/{parent}/cancel"), &Value::Null).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/errors/task-ended")), "{problem}");
    assert_eq!(signal(&house, &child, "yes").await.0, 409);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_goes_on_after_its_last_step_or_begins_anew() {
    let sink = EffectSink::start(None).await.expect("the sink starts");
    let call = "turns:
  - text: I call.
    tool_calls: [{name: http_request, arguments: {method: POST, url: \"http://SINK/{{prompt}}\"}}]
";
    let refuses = format!("{call}  - fail: refused\n");
    let house = House::new(Plan {
        agents: &[("doomed", "name: doomed\nmodel: scripted/doomed\ntools: [http_request]\n")],
        dialogues: &[("doomed", &refuses)],
        sink: Some(sink.address().to_string()),
        ..Plan::default()
    })
    .await;
    let [kept, anew] = [house.run("doomed", "kept").await, house.run("doomed", "anew").await];
    for task in [&kept, &anew] {
        assert_eq!((&task["status"], &task["failure"]["kind"]), (&json!("failed"), &json!("model_refused")), "{task}");
    }
    let letters = house.list("/dead-letters?agent=doomed", 1).await;
    let ids: Vec<&Value> = letters.iter().map(|letter| &letter["id"]).collect();
    assert_eq!(ids, [&anew["id"], &kept["id"]], "the newest first");
    assert!(letters.iter().all(|letter| letter["failure"]["message"].is_string()));

    // The model is repaired, and a person brings both back.
    house.write_dialogue("doomed", &format!("{call}  - text: Done.\n").replace("SINK", &sink.address().to_string()));
    let deliveries = |path: &str| sink.deliveries().into_iter().filter(|one| one.path == format!("/{path}")).count();
    let [kept, anew] = [&kept, &anew].map(|task| task["id"].as_str().expect("an id").to_owned());
    let (status, answer) = house.post(&format!("/tasks/{kept}/retry"), &json!({ "keep_journal": true })).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(house.ended(&kept).await["output"], "Done.");
    assert_eq!((deliveries("kept"), house.steps(&kept, "tool").await), (1, 1), "what was done is not done again");
    let (status, answer) = house.post(&format!("/tasks/{anew}/retry"), &json!({ "keep_journal": false })).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(house.ended(&anew).await["output"], "Done.");
    assert_eq!((deliveries("anew"), house.steps(&anew, "tool").await), (2, 2), "everything is done again");
    assert!(house.list("/dead-letters", 10).await.is_empty());
    let (status, problem) = house.post(&format!("/tasks/{kept}/retry"), &json!({})).await;
    assert_eq!(status, 409, "a task that succeeded is not retried: {problem}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_task_of_a_thread_waits_for_the_first_and_knows_what_was_said() {
    let model = FakeOpenAi::start().await;
    model.otherwise(|_| Reply::text("I remember."));
    let house = House::new(Plan {
        agents: &[ASKER, ("listener", "name: listener\nmodel: openai/fake-large\n")],
        dialogues: &[ASKER_SAYS],
        openai: Some(model.base_url()),
        ..Plan::default()
    })
    .await;
    let thread = "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c11";
    let first = house.submit(&json!({ "agent": "asker", "prompt": "My name is Kim.", "thread_id": thread })).await;
    waiting_for(&house, &first).await;
    let second = house.submit(&json!({ "agent": "listener", "prompt": "What is my name?", "thread_id": thread })).await;
    let task = house.task(&second).await;
    let wait = &task["waiting_for"][0];
    assert_eq!(
        (&task["status"], &wait["kind"], &wait["task"]),
        (&json!("queued"), &json!("thread"), &json!(first)),
        "{task}"
    );
    assert!(model.requests().is_empty(), "it has not begun");

    assert_eq!(signal(&house, &first, "yes").await.0, 202);
    assert_eq!(house.ended(&second).await["output"], "I remember.");
    let seen = model.requests();
    let said: Vec<_> = seen[0].body["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| (message["role"].as_str().unwrap_or("?"), message["content"].as_str().unwrap_or("?")))
        .collect();
    assert_eq!(said, [("user", "My name is Kim."), ("assistant", "You said: yes"), ("user", "What is my name?")]);
    let messages = house.list(&format!("/threads/{thread}/messages"), 3).await;
    let texts: Vec<_> = messages.iter().map(|message| (message["seq"].as_u64(), message["text"].as_str())).collect();
    let expected = ["My name is Kim.", "You said: yes", "What is my name?", "I remember."];
    assert_eq!(texts, expected.iter().zip(1..).map(|(text, seq)| (Some(seq), Some(*text))).collect::<Vec<_>>());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_names_the_same_task_and_another_request_under_it_is_a_conflict() {
    let house = House::new(Plan { agents: &[ASKER], dialogues: &[ASKER_SAYS], ..Plan::default() }).await;
    let send = |prompt: &'static str| {
        let request = house.http.post(house.tasks_url("/tasks")).header("idempotency-key", "order-4711");
        house.send(request.json(&json!({ "agent": "asker", "prompt": prompt })))
    };
    let answers = futures::future::join_all((0..50).map(|_| send("once"))).await;
    let ids: std::collections::BTreeSet<_> = answers.iter().map(|(_, task)| task["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[48], statuses[49]), (200, 202), "one of fifty made the task");
    let (status, problem) = send("something else").await;
    assert_eq!((status, &problem["type"]), (409, &json!("/errors/idempotency-mismatch")), "{problem}");
    assert_eq!(house.list("/tasks", 10).await.len(), 1);
    house.stop().await;
}
