//! The models of a server: listed, fetched, and used to make vectors.

use std::sync::Mutex;
use std::time::Duration;

use llm::{ChatModel, EmbedRequest, LlmError, PullProgress};
use serde_json::{Value, json};
use testkit::fake_http::Reply;
use testkit::fake_ollama as fake;

use crate::support::{adapter, config, start};

fn texts(count: usize) -> EmbedRequest {
    let texts = (0..count).map(|index| format!("text number {index}")).collect();
    EmbedRequest { model: "fake-small".to_owned(), texts, timeout: Duration::from_secs(20) }
}

async fn pull(reply: Reply) -> (Vec<PullProgress>, Result<(), LlmError>) {
    let (server, model) = start().await;
    server.push(reply);
    let heard = Mutex::new(Vec::new());
    let result = model.pull("fake-large", &|progress| heard.lock().expect("no panic").push(progress)).await;
    let request = &server.requests()[0];
    assert_eq!(
        (request.path.as_str(), &request.body),
        ("/api/pull", &json!({ "model": "fake-large", "stream": true }))
    );
    (heard.into_inner().expect("no panic"), result)
}

#[tokio::test]
async fn the_models_of_a_server_are_listed() {
    let (server, model) = start().await;
    assert_eq!(model.list().await.unwrap(), ["fake-large:8b", "fake-small:latest"]);
    assert_eq!(server.requests()[0].path, "/api/tags");
    let elsewhere = adapter(config(format!("{}/none", server.base_url())));
    assert!(elsewhere.list().await.is_err());
}

#[tokio::test]
async fn a_fetch_tells_how_far_it_is_over_all_layers() {
    let (heard, result) = pull(fake::pulled().in_pieces(9, Duration::ZERO)).await;
    result.unwrap();
    let told: Vec<_> = heard.iter().map(|progress| (progress.status.as_str(), progress.done, progress.total)).collect();
    assert_eq!(
        told,
        [
            ("pulling manifest", 0, None),
            ("pulling aa11", 0, Some(100)),
            ("pulling aa11", 40, Some(100)),
            ("pulling aa11", 100, Some(100)),
            ("pulling bb22", 120, Some(120)),
            ("verifying sha256 digest", 120, Some(120)),
            ("writing manifest", 120, Some(120)),
            ("success", 120, Some(120)),
        ]
    );
}

#[tokio::test]
async fn a_fetch_that_is_cut_off_at_any_byte_is_not_taken_for_whole() {
    let (server, model) = start().await;
    let whole = fake::pulled();
    for end in 0..whole.body().len() {
        server.push(whole.clone().cut_at(end));
        let result = model.pull("fake-large", &|_| {}).await;
        assert!(matches!(result, Err(LlmError::Invalid { .. })), "{end}: {result:?}");
    }
}

#[tokio::test]
async fn a_fetch_that_fails_says_why() {
    let failing = |message: &str| fake::stream(&[json!({ "status": "pulling manifest" }), json!({ "error": message })]);
    let (_, result) = pull(failing("pull model manifest: file does not exist")).await;
    let Err(LlmError::Refused { reason, model }) = result else { panic!("{result:?}") };
    assert!(reason.contains("file does not exist") && model == "fake/fake-large", "{reason}");
    let (_, result) = pull(failing("dial tcp: lookup registry.ollama.ai: no such host")).await;
    assert!(matches!(result, Err(LlmError::Unavailable { .. })), "{result:?}");
    let (_, result) = pull(fake::error(500, "disk full")).await;
    assert!(matches!(result, Err(LlmError::Unavailable { .. })), "{result:?}");
    let (_, result) = pull(fake::raw_lines("canary\n")).await;
    assert!(matches!(&result, Err(LlmError::Invalid { reason, .. }) if !reason.contains("canary")), "{result:?}");
}

#[tokio::test]
async fn each_text_gets_its_vector() {
    let (server, model) = start().await;
    server.push(fake::error(503, "server busy"));
    server.push(fake::embedded(&json!([[1.0, 0.5], [0.25, -1.0]]), 7));
    let answer = model.embed(&texts(2)).await.unwrap();
    assert_eq!(answer.vectors, [[1.0, 0.5], [0.25, -1.0]]);
    assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.estimated), (7, 0, false));
    let expected = json!({ "model": "fake-small", "input": ["text number 0", "text number 1"], "truncate": false });
    let request = &server.requests()[1];
    assert_eq!((request.path.as_str(), &request.body), ("/api/embed", &expected));
}

#[tokio::test]
async fn vectors_that_do_not_belong_to_the_texts_are_refused() {
    let strange: [Value; 6] = [
        json!([]),
        json!([[1.0]]),
        json!([[1.0], [1.0, 2.0]]),
        json!([[], []]),
        json!([[1.0], "x"]),
        json!([[1e39], [1.0]]),
    ];
    for vectors in strange {
        let (server, model) = start().await;
        server.push(fake::embedded(&vectors, 7));
        let answer = model.embed(&texts(2)).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{vectors}: {answer:?}");
    }
    let (server, model) = start().await;
    server.push(fake::error(400, "the input length exceeds the context length"));
    let answer = model.embed(&texts(1)).await;
    assert!(matches!(answer, Err(LlmError::ContextTooLong { .. })), "{answer:?}");
    server.push(fake::error(501, "this model does not support embeddings"));
    assert!(model.embed(&texts(1)).await.is_err());
}
