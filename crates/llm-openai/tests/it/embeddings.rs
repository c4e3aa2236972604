//! Vectors of texts, and the list of models, through the port.

use std::time::Duration;

use llm::{ChatModel, EmbedRequest, LlmError};
use llm_openai::{Responses, http_client};
use serde_json::json;
use testkit::fake_openai::Reply;

use crate::support::{config, start};

fn texts(texts: Vec<String>) -> EmbedRequest {
    EmbedRequest { model: "fake-vectors".to_owned(), texts, timeout: Duration::from_secs(10) }
}

#[tokio::test]
async fn many_texts_are_sent_in_batches_and_come_back_in_order() {
    let (server, model) = start().await;
    let words: Vec<String> = (0..5_000).map(|index| "x".repeat(1 + index % 37)).collect();
    let embeddings = model.embed(&texts(words.clone())).await.unwrap();
    let lengths: Vec<Vec<f32>> = words.iter().map(|word| vec![word.len() as f32]).collect();
    assert_eq!(embeddings.vectors, lengths);
    assert_eq!(embeddings.usage.input_tokens, 3 * 8, "each batch counts");
    let seen = server.requests();
    let sizes: Vec<usize> = seen.iter().map(|seen| seen.body["input"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [2_048, 2_048, 904]);
    assert_eq!((seen[0].path.as_str(), &seen[0].body["model"]), ("/v1/embeddings", &json!("fake-vectors")));
}

#[tokio::test]
async fn no_texts_are_no_request() {
    let (server, model) = start().await;
    let embeddings = model.embed(&texts(Vec::new())).await.unwrap();
    assert!(embeddings.vectors.is_empty() && embeddings.usage.is_empty());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn vectors_in_base64_are_understood() {
    let (server, model) = start().await;
    server.push(Reply::embeddings(&[json!("AACAPwAAAMA="), json!([0.5, 0.25])]));
    let embeddings = model.embed(&texts(vec!["a".to_owned(), "b".to_owned()])).await.unwrap();
    assert_eq!(embeddings.vectors, [[1.0, -2.0], [0.5, 0.25]]);
    for broken in ["AACAPwAA", "not base64!", "AADAfw=="] {
        server.push(Reply::embeddings(&[json!(broken)]));
        let answer = model.embed(&texts(vec!["a".to_owned()])).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{broken}: {answer:?}");
    }
}

#[tokio::test]
async fn vectors_that_differ_between_batches_are_refused() {
    let (server, model) = start().await;
    server.push(Reply::embeddings(&vec![json!([1, 2]); 2_048]));
    server.push(Reply::embeddings(&[json!([1, 2, 3])]));
    let answer = model.embed(&texts(vec!["x".to_owned(); 2_049])).await;
    assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{answer:?}");
}

#[tokio::test]
async fn vectors_numbered_twice_or_beyond_are_refused() {
    let (server, model) = start().await;
    for indices in [[0, 0], [0, 2]] {
        let data = indices.map(|index| json!({ "object": "embedding", "index": index, "embedding": [1] }));
        server.push(Reply::raw(200, "application/json", json!({ "data": data }).to_string()));
        let answer = model.embed(&texts(vec!["a".to_owned(), "b".to_owned()])).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_silent_one_is_given_up() {
    let (server, model) = start().await;
    server.push(Reply::error(503, "overloaded", "busy"));
    assert_eq!(model.embed(&texts(vec!["abc".to_owned()])).await.unwrap().vectors, [[3.0]]);
    server.push(Reply::silence());
    let hasty = EmbedRequest { timeout: Duration::from_millis(200), ..texts(vec!["abc".to_owned()]) };
    let answer = model.embed(&hasty).await;
    assert!(matches!(answer, Err(LlmError::Timeout { millis: 200, .. })), "{answer:?}");
}

#[tokio::test]
async fn both_protocols_list_the_models_of_their_server() {
    let (server, model) = start().await;
    let responses = Responses::new(config(server.base_url()), http_client().unwrap()).unwrap();
    let models: [&dyn ChatModel; 2] = [&model, &responses];
    for model in models {
        assert_eq!(model.list().await.unwrap(), ["fake-large", "fake-small"]);
    }
    assert!(matches!(model.pull("fake-large", &|_| {}).await, Err(LlmError::Refused { .. })));
}
