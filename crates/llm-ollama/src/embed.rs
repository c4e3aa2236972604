//! Vectors of texts.

use domain::Usage;
use llm::{EmbedRequest, Embeddings};
use llm_http::{Asked, Complaint, Failed, LONGEST_CALL, Reported, Server, count};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Thousands of vectors of thousands of numbers, each written with some 16 letters.
const MOST_BYTES: usize = 128 * 1024 * 1024;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [String],
    /// A text that does not fit is an error, instead of being cut off without a word.
    truncate: bool,
}

#[derive(Deserialize)]
struct Answer {
    embeddings: Vec<Vec<f32>>,
    prompt_eval_count: Option<Value>,
}

/// Makes a vector of each text, in one call.
pub(crate) async fn embed(server: &Server, asked: &Asked<'_>, request: &EmbedRequest) -> Result<Embeddings, Failed> {
    let body = serde_json::to_vec(&Body { model: &request.model, input: &request.texts, truncate: false })
        .map_err(|_| asked.not_sendable(&"the request cannot be written as JSON"))?;
    let request_bytes = body.len();
    let response = asked.send(server.post(&server.url("api/embed"), body)).await?;
    let answer = asked.read_json(response, MOST_BYTES, LONGEST_CALL).await?;
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        return Err(asked.broke_off(&Complaint::from_value(&answer)));
    }
    let answer: Answer =
        serde_json::from_value(answer).map_err(|_| asked.invalid(&"the answer is no list of vectors"))?;
    check(&answer.embeddings, request.texts.len()).map_err(|reason| asked.invalid(&reason))?;
    // Nothing is written by a model that makes vectors.
    let reported = Reported { input: count(answer.prompt_eval_count.as_ref()), output: Some(1), ..Reported::default() };
    let usage = Usage { output_tokens: 0, ..reported.usage(request_bytes, 0) };
    Ok(Embeddings { vectors: answer.embeddings, usage })
}

fn check(vectors: &[Vec<f32>], texts: usize) -> Result<(), &'static str> {
    let length = vectors.first().map_or(0, Vec::len);
    if vectors.len() != texts {
        return Err("there is not one vector for each text");
    }
    if vectors.iter().any(|vector| vector.is_empty() || vector.len() != length) {
        return Err("the vectors differ in length, or are empty");
    }
    if !vectors.iter().flatten().all(|number| number.is_finite()) {
        return Err("a vector has something that is no number");
    }
    Ok(())
}
