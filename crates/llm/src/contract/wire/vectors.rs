//! Vectors are as many as the texts, in their order, of one length, and of numbers.

use std::time::Duration;

use serde_json::{Value, json};

use super::{AT_MOST, Connected, HttpReply, Wired, tells_nothing};
use crate::{EmbedRequest, Embeddings, LlmError};

/// Good and bad answers to a request for vectors.
///
/// # Panics
///
/// When the provider takes something for vectors that is none.
pub async fn vectors(subject: &dyn Wired) {
    let good = [json!([0.5, -1, 2.25]), json!([1, 0, 0])];
    let Some(reply) = subject.vectors(&good) else { return };
    let connected = subject.connect().await;
    let embeddings = embed(&connected, reply).await.expect("vectors");
    assert_eq!(embeddings.vectors, [[0.5, -1.0, 2.25], [1.0, 0.0, 0.0]], "in the order of the texts");
    assert!(embeddings.usage.input_tokens > 0, "{:?}", embeddings.usage);
    assert_eq!(embeddings.usage.output_tokens, 0, "nothing is written");

    for bad in [
        vec![json!([1, 2])],
        vec![json!([1, 2]), json!([3, 4]), json!([5, 6])],
        vec![],
        vec![json!([1, 2]), json!([3])],
        vec![json!([]), json!([])],
        vec![json!([1, 2]), json!([3, null])],
        vec![json!([1, 2]), json!([3, 1e39])],
        vec![json!([1, 2]), json!([3, "NaN"])],
        vec![json!([1, 2]), Value::Null],
    ] {
        let reply = subject.vectors(&bad).expect("the protocol has embeddings");
        let answer = embed(&connected, reply).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{bad:?} gave {answer:?}");
    }
    for (reply, kind) in [
        (HttpReply::new(200, "text/html", "<html>"), "invalid"),
        (HttpReply::new(200, "application/json", ""), "invalid"),
        (HttpReply::new(200, "application/json", "{\"data\": [{"), "invalid"),
        (subject.error(401, "no such key"), "refused"),
        (subject.error(503, "busy"), "unavailable"),
    ] {
        let answer = embed(&connected, reply.clone()).await;
        let right = match kind {
            "invalid" => matches!(answer, Err(LlmError::Invalid { .. })),
            "refused" => matches!(answer, Err(LlmError::Refused { .. })),
            _ => matches!(answer, Err(LlmError::Unavailable { .. })),
        };
        assert!(right, "{reply:?} gave {answer:?}");
    }
}

async fn embed(connected: &Connected, reply: HttpReply) -> Result<Embeddings, LlmError> {
    connected.server.otherwise(reply);
    let request = EmbedRequest {
        model: connected.name.clone(),
        texts: vec!["one".to_owned(), "two".to_owned()],
        timeout: Duration::from_secs(10),
    };
    let answer = tokio::time::timeout(AT_MOST, connected.model.embed(&request)).await;
    let answer = answer.unwrap_or_else(|_| panic!("the model did not end within {AT_MOST:?}"));
    if let Err(error) = &answer {
        tells_nothing(error);
    }
    answer
}
