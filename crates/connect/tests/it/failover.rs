//! Two real servers behind one name, one of which dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use connect::models::{ModelSettings, discover_with};
use domain::Message;
use llm::{ChatAnswer, ChatRequest, LlmError, Models};
use testkit::fake_openai::{FakeOpenAi, Reply};

pub(crate) async fn ask(models: &Models, name: &str) -> Result<ChatAnswer, LlmError> {
    let request = ChatRequest {
        model: String::new(),
        messages: vec![Message::user("Hello.".to_owned())],
        tools: Vec::new(),
        output_schema: None,
        temperature: None,
        max_output_tokens: Some(50),
        effort: None,
        timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(10),
    };
    models.route(name)?.candidates[0].chat(&request, &|_| {}).await
}

async fn two(a: &FakeOpenAi, b: &FakeOpenAi, settings: &str) -> Models {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("models.yml");
    let node =
        |server: &FakeOpenAi| format!("{{kind: openai-compatible, base_url: \"{}\"{settings}}}", server.base_url());
    let text = format!(
        "providers:\n  infer-a: {}\n  infer-b: {}\nmodels:\n  infer-a/llama: {{price: {{input: 1, output: 2}}}}\n  \
         infer-b/llama: {{price: {{input: 1, output: 2}}}}\nroutes:\n  infer: {{nodes: [infer-a/llama, infer-b/llama]}}\n",
        node(a),
        node(b)
    );
    std::fs::write(&path, text).unwrap();
    let settings = ModelSettings { agentrunner_models: path, agentrunner_probe: false, ..ModelSettings::default() };
    let found = discover_with(&settings, Box::new(|_| None)).await;
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    found.models
}

fn chats(server: &FakeOpenAi) -> usize {
    server.requests().iter().filter(|seen| seen.path.ends_with("/chat/completions")).count()
}

#[tokio::test]
async fn every_request_succeeds_while_one_of_two_servers_dies() {
    let (a, b) = (FakeOpenAi::start().await, FakeOpenAi::start().await);
    let models = two(&a, &b, "").await;
    let done = Arc::new(AtomicU32::new(0));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (models, done) = (models.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                for _ in 0..25 {
                    let answer = ask(&models, "infer").await?;
                    assert_eq!(answer.text, "ok");
                    assert!(answer.usage.cost.0 > 0);
                    done.fetch_add(1, Ordering::SeqCst);
                }
                Ok::<(), LlmError>(())
            })
        })
        .collect();
    let some = async {
        while done.load(Ordering::SeqCst) < 40 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), some).await.expect("forty are done");
    assert!(chats(&a) > 5 && chats(&b) > 5, "both are asked: {} and {}", chats(&a), chats(&b));
    let before = chats(&b);
    drop(a);
    for worker in workers {
        worker.await.unwrap().expect("every request succeeds");
    }
    assert!(chats(&b) > before + 50, "the other one took over");
    let status = models.status();
    let status = |name: &str| status.iter().find(|status| status.name == name).unwrap();
    assert_eq!(status("infer-b/llama").errors, 0);
    assert!(
        status("infer-a/llama").errors >= 1 && status("infer-a/llama").errors <= 16,
        "{:?}",
        status("infer-a/llama")
    );
    assert_eq!(status("infer-a/llama").calls - status("infer-a/llama").errors + status("infer-b/llama").calls, 200);
}

#[tokio::test]
async fn odd_rate_limits_are_answered_by_the_other_server_and_never_spin() {
    for odd in ["0", "-1", "1000000000", "Wed, 21 Oct 2099 07:28:00 GMT", "soon"] {
        let (a, b) = (FakeOpenAi::start().await, FakeOpenAi::start().await);
        a.otherwise(move |_| Reply::rate_limited(odd));
        let models = two(&a, &b, "").await;
        for _ in 0..30 {
            ask(&models, "infer").await.unwrap();
        }
        assert!(chats(&a) <= 10, "{odd}: {} calls", chats(&a));
        assert_eq!(chats(&b), 30);
    }
}

#[tokio::test]
async fn a_single_server_that_limits_is_asked_a_few_times_and_then_left_alone() {
    let (a, b) = (FakeOpenAi::start().await, FakeOpenAi::start().await);
    a.otherwise(|_| Reply::rate_limited("0"));
    let models = two(&a, &b, ", limits: {max_wait: 100ms}").await;
    for _ in 0..20 {
        let error = ask(&models, "infer-a/llama").await.unwrap_err();
        assert!(matches!(error, LlmError::RateLimited { .. } | LlmError::Busy { .. }), "{error:?}");
    }
    assert!(chats(&a) <= 12, "{} calls", chats(&a));
}

#[tokio::test]
async fn the_adapter_repeats_nothing_by_itself() {
    let (a, b) = (FakeOpenAi::start().await, FakeOpenAi::start().await);
    a.otherwise(|_| Reply::error(503, "overloaded", "busy"));
    let models = two(&a, &b, ", retries: 0").await;
    ask(&models, "infer-a/llama").await.unwrap_err();
    assert_eq!(chats(&a), 1);
}

#[tokio::test]
async fn a_web_page_a_wrong_model_and_a_refused_key_fail_at_once_and_say_so() {
    let (a, b) = (FakeOpenAi::start().await, FakeOpenAi::start().await);
    let models = two(&a, &b, "").await;
    for (reply, told) in [
        (Reply::error(404, "model_not_found", "no such model"), "no such model"),
        (Reply::error(401, "invalid_api_key", "bad"), "API key"),
    ] {
        let before = chats(&a);
        a.push(reply);
        let error = ask(&models, "infer-a/llama").await.unwrap_err();
        assert!(matches!(error, LlmError::Refused { .. }) && error.to_string().contains(told), "{error}");
        assert_eq!(chats(&a), before + 1);
    }
}
