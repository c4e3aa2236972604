//! Models that misbehave: every task ends, says what happened, runs no half call, and tells nobody the key.

use serde_json::{Value, json};
use testkit::effect_sink::EffectSink;
use testkit::fake_openai::{FakeOpenAi, Reply, Seen};

use crate::house::{CANARY, House, Plan};

const IMPATIENT: &str = "name: impatient
model: {name: openai/fake-large, idle_timeout: 1s, timeout: 3s}
retry: {max_attempts: 1}
";
const CALLER: &str = "name: caller
model: openai/fake-large
retry: {max_attempts: 1}
tools: [http_request]
limits: {max_steps: 6}
";

async fn house(model: &FakeOpenAi, sink: Option<&EffectSink>) -> House {
    House::new(Plan {
        agents: &[
            ("impatient", IMPATIENT),
            ("caller", CALLER),
            ("patient", "name: patient\nmodel: openai/fake-large\n"),
            ("careful", "name: careful\nmodel: {name: openai/broken, fallbacks: [openai/fake-large]}\n"),
        ],
        sink: sink.map(|sink| sink.address().to_string()),
        openai: Some(model.base_url()),
        settings: &[("LOG_LEVEL", "debug")],
        ..Plan::default()
    })
    .await
}

/// The task failed with this kind, and its message says why.
fn assert_failed(task: &Value, kind: &str, word: &str) {
    assert_eq!((&task["status"], &task["failure"]["kind"]), (&json!("failed"), &json!(kind)), "{task}");
    let message = task["failure"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(word), "{message:?} does not speak of {word:?}");
    assert!(!message.contains(CANARY), "{message}");
}

/// The call that the model asks for: `n` makes it another one.
fn call(sink: &str, n: usize) -> String {
    json!({ "method": "POST", "url": format!("http://{sink}/effect"), "body": format!("call {n}") }).to_string()
}

/// How many answers the conversation has.
fn answers(seen: &Seen) -> usize {
    let messages = seen.body["messages"].as_array().expect("messages");
    messages.iter().filter(|message| message["role"] == "assistant").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_falls_silent_fails_the_task_with_model_timeout() {
    let model = FakeOpenAi::start().await;
    let house = house(&model, None).await;
    model.push(Reply::text("one two three four").silent_at(600));
    assert_failed(&house.run("impatient", "hang in the middle").await, "model_timeout", "silent");
    model.push(Reply::silence());
    assert_failed(&house.run("impatient", "never begin").await, "model_timeout", "silent");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_speaks_without_end_is_stopped() {
    let model = FakeOpenAi::start().await;
    let house = house(&model, None).await;
    let endless = Reply::text_chunks(&"on and on ".repeat(1_000));
    let drip = Reply::stream(&endless).in_pieces(400, std::time::Duration::from_millis(50));
    model.push(drip);
    assert_failed(&house.run("impatient", "drip").await, "model_timeout", "ms");
    let flood = Reply::chunk(&json!({ "content": "flood ".repeat(10_000) }));
    let flood = Reply::stream(&vec![flood; 150]);
    model.otherwise(move |_| flood.clone());
    assert_failed(&house.run("caller", "flood").await, "model_answer_invalid", "8388608");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_instead_of_an_answer_fails_the_task_with_model_answer_invalid() {
    let model = FakeOpenAi::start().await;
    let house = house(&model, None).await;
    let noise: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let twice = [Reply::text_chunks("yes"), vec![Reply::finish("stop"), Reply::finish("stop")]].concat();
    let garbage = [
        ("no chunk", Reply::events("data: {\"what\":\n\n")),
        ("noise", Reply::events(noise)),
        ("a web page", Reply::html()),
        ("nothing", Reply::events("")),
        ("an empty answer", Reply::stream(&[Reply::finish("stop")])),
        ("cut off", Reply::text("one two three four").cut_at(500)),
        ("two ends", Reply::stream(&twice)),
    ];
    for (name, reply) in garbage {
        model.otherwise(move |_| reply.clone());
        let task = house.run("caller", name).await;
        assert_failed(&task, "model_answer_invalid", "not understood");
        assert_eq!(house.steps(task["id"].as_str().expect("an id"), "model").await, 0, "{name} is no step");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_call_that_is_cut_off_at_any_place_is_not_executed() {
    let sink = EffectSink::start(None).await.expect("the sink starts");
    let model = FakeOpenAi::start().await;
    let house = house(&model, Some(&sink)).await;
    let arguments = call(&sink.address().to_string(), 0);
    let whole = Reply::tool_calls(&[("call_1", "http_request", &arguments)]);
    let text = String::from_utf8(whole.body().to_vec()).expect("text");
    let end = text.find("\"finish_reason\":\"tool_calls\"").expect("an end");
    let cut = whole.clone();
    model.otherwise(move |seen| {
        let Some((how, at)) = seen.last_message().split_once(' ') else { return Reply::error(400, "what", "what?") };
        let at = at.parse().expect("a place");
        if how == "cut" { cut.clone().cut_at(at) } else { cut.clone().broken_at(at) }
    });
    let mut tasks = Vec::new();
    for at in (0..end).step_by(61) {
        for how in ["cut", "broken"] {
            tasks.push(house.ask("caller", &format!("{how} {at}")).await);
        }
    }
    assert!(tasks.len() > 50, "the call is long enough to be cut often");
    for id in tasks {
        assert_failed(&house.ended(&id).await, "model_answer_invalid", "");
        assert_eq!(house.steps(&id, "tool").await, 0);
    }
    assert_eq!(sink.count().deliveries, 0, "no half call was made");
    model.push(whole);
    model.push(Reply::text("Done."));
    assert_eq!(house.run("caller", "whole").await["status"], "succeeded");
    assert_eq!(sink.count().deliveries, 1, "the whole one was");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_repeats_the_same_call_for_ever_is_stopped_as_a_loop() {
    let sink = EffectSink::start(None).await.expect("the sink starts");
    let model = FakeOpenAi::start().await;
    let house = house(&model, Some(&sink)).await;
    let arguments = call(&sink.address().to_string(), 0);
    let again = Reply::tool_calls(&[("call_1", "http_request", &arguments)]);
    let fast = again.clone();
    model.otherwise(move |_| fast.clone());
    assert_failed(&house.run("caller", "fast").await, "loop_detected", "http_request");
    assert_eq!(sink.count().deliveries, 3, "max_repeats is 3");
    // What an answer says of the time is no news.
    model.otherwise(move |_| again.clone().after(std::time::Duration::from_millis(1_050)));
    assert_failed(&house.run("caller", "slow").await, "loop_detected", "http_request");
    assert_eq!(sink.count().deliveries, 6);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_calls_with_new_arguments_for_ever_reaches_max_steps() {
    let sink = EffectSink::start(None).await.expect("the sink starts");
    let model = FakeOpenAi::start().await;
    let house = house(&model, Some(&sink)).await;
    let address = sink.address().to_string();
    model.otherwise(move |seen| {
        let n = answers(seen);
        Reply::tool_calls(&[(&format!("call_{n}"), "http_request", &call(&address, n))])
    });
    let task = house.run("caller", "for ever").await;
    assert_failed(&task, "limit_exceeded", "max_steps");
    assert_eq!((model.requests().len(), sink.count().deliveries), (6, 6));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_asks_for_a_pause_is_given_it_and_then_answers() {
    let model = FakeOpenAi::start().await;
    let house = house(&model, None).await;
    model.push(Reply::rate_limited("1"));
    model.push(Reply::rate_limited("0"));
    let task = house.run("patient", "hello").await;
    assert_eq!((&task["status"], &task["output"]), (&json!("succeeded"), &json!("ok")), "{task}");
    assert_eq!(model.requests().len(), 3);
    let at = |field: &str| task[field].as_str().and_then(|at| at.parse::<domain::Timestamp>().ok());
    let took = at("finished_at").expect("an end") - at("started_at").expect("a start");
    assert!(took.num_milliseconds() >= 1_000, "the pause was kept: {took}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_fails_is_replaced_by_its_fallback() {
    let model = FakeOpenAi::start().await;
    let house = house(&model, None).await;
    model.otherwise(|seen| match seen.body["model"].as_str() {
        Some("broken") => Reply::error(500, "server_error", "it broke"),
        _ => Reply::text("The other one answers."),
    });
    let task = house.run("careful", "hello").await;
    assert_eq!((&task["status"], &task["output"]), (&json!("succeeded"), &json!("The other one answers.")), "{task}");
    let journal = house.journal(task["id"].as_str().expect("an id")).await;
    assert_eq!(journal[1]["model"], "openai/fake-large", "{}", journal[1]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_failure_repeats_the_key_that_the_provider_repeats() {
    let model = FakeOpenAi::start().await;
    let house = house(&model, None).await;
    let told = format!("Incorrect API key provided: {CANARY}. Authorization: Bearer {CANARY}");
    for (status, kind) in [(401, "model_refused"), (400, "model_refused"), (501, "model_unavailable")] {
        let told = told.clone();
        model.otherwise(move |_| Reply::error(status, "invalid_api_key", &told));
        assert_failed(&house.run("caller", "hello").await, kind, "openai/fake-large");
    }
    let events = format!("data: {{\"error\":{{\"message\":\"{told}\"}}}}\n\n");
    model.otherwise(move |_| Reply::events(events.clone()));
    assert_eq!(house.run("caller", "hello").await["status"], "failed");
    let seen = model.requests();
    assert!(seen.iter().all(|seen| seen.header("authorization") == Some(&format!("Bearer {CANARY}"))), "it was sent");
    for (service, _) in house.services().map(|(name, url)| (name.to_owned(), url.to_owned())).collect::<Vec<_>>() {
        for path in ["/metrics", "/health/ready"] {
            let text = house.http.get(house.url(&service, path)).send().await.expect("an answer").text().await;
            assert!(!text.expect("a text").contains(CANARY), "{service}{path}");
        }
    }
    let (_, models) = house.get("agent-orchestrator", "/models").await;
    assert!(models.is_array(), "{models}");
    let (_, letters) = house.get("agent-orchestrator", "/dead-letters").await;
    assert_eq!(letters["items"].as_array().map(Vec::len), Some(4), "{letters}");
    // The log at level debug, every answer and every file are searched at the end.
    house.stop().await;
}
