//! Vectors of texts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::Usage;
use llm::{EmbedRequest, Embeddings, LlmError};
use llm_http::{Asked, Failed, LONGEST_CALL, Reported, Server, count, in_time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

/// The protocol takes no more texts at once.
const MOST_TEXTS: usize = 2_048;
/// 2,048 vectors of 4,096 numbers, each written with 16 letters.
const MOST_BYTES: usize = 128 * 1024 * 1024;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [String],
    /// The one form that all servers know.
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Entry {
    index: usize,
    embedding: Numbers,
}

/// Some servers give base64 although they are asked for numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    Plain(Vec<f32>),
    Base64(String),
}

/// Makes a vector of each text, in as many calls as it takes.
pub(crate) async fn embed(server: &Server, request: &EmbedRequest) -> Result<Embeddings, LlmError> {
    let limit = request.timeout.min(LONGEST_CALL);
    let deadline = Instant::now() + limit;
    let call = async {
        let mut whole = Embeddings { vectors: Vec::with_capacity(request.texts.len()), usage: Usage::default() };
        for texts in request.texts.chunks(MOST_TEXTS) {
            let asked = server.asked(&request.model, texts.iter().map(String::as_str).collect());
            let mut retries = server.retries(deadline);
            let part = loop {
                match attempt(server, &asked, &request.model, texts).await {
                    Ok(part) => break part,
                    Err(failed) => retries.pause(failed, false).await?,
                }
            };
            let lengths = |vectors: &[Vec<f32>]| vectors.first().map(Vec::len);
            if !whole.vectors.is_empty() && lengths(&whole.vectors) != lengths(&part.vectors) {
                return Err(asked.invalid(&"the vectors differ in length").error);
            }
            whole.vectors.extend(part.vectors);
            whole.usage += part.usage;
        }
        Ok(whole)
    };
    in_time(&server.full_name(&request.model), limit, call).await
}

async fn attempt(server: &Server, asked: &Asked<'_>, model: &str, texts: &[String]) -> Result<Embeddings, Failed> {
    let body = serde_json::to_vec(&Body { model, input: texts, encoding_format: "float" })
        .map_err(|_| asked.not_sendable(&"the request cannot be written as JSON"))?;
    let request_bytes = body.len();
    let response = asked.send(server.post(&server.url("embeddings"), body)).await?;
    let answer = asked.read_json(response, MOST_BYTES, LONGEST_CALL).await?;
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        return Err(asked.broke_off(&llm_http::Complaint::from_value(&answer)));
    }
    let list: List = serde_json::from_value(answer).map_err(|_| asked.invalid(&"the answer is no list of vectors"))?;
    let vectors = in_order(list.data, texts.len()).map_err(|reason| asked.invalid(&reason))?;
    let reported = Reported {
        input: count(list.usage.as_ref().and_then(|usage| usage.get("prompt_tokens"))),
        output: Some(1),
        ..Reported::default()
    };
    // Nothing is written, and the rest of the usage is judged as that of a chat is.
    Ok(Embeddings { vectors, usage: Usage { output_tokens: 0, ..reported.usage(request_bytes, 0) } })
}

/// Puts the vectors into the order of their texts, and checks them.
fn in_order(entries: Vec<Entry>, texts: usize) -> Result<Vec<Vec<f32>>, &'static str> {
    if entries.len() != texts {
        return Err("there is not one vector for each text");
    }
    let mut vectors = vec![Vec::new(); texts];
    for Entry { index, embedding } in entries {
        let place = vectors.get_mut(index).ok_or("a vector belongs to no text")?;
        if !place.is_empty() {
            return Err("two vectors belong to one text");
        }
        *place = numbers(embedding)?;
    }
    let length = vectors.first().map_or(0, Vec::len);
    if vectors.iter().any(|vector| vector.len() != length || vector.is_empty()) {
        return Err("the vectors differ in length, or are empty");
    }
    if !vectors.iter().flatten().all(|number| number.is_finite()) {
        return Err("a vector has something that is no number");
    }
    Ok(vectors)
}

fn numbers(numbers: Numbers) -> Result<Vec<f32>, &'static str> {
    match numbers {
        Numbers::Plain(numbers) => Ok(numbers),
        Numbers::Base64(text) => {
            let bytes = STANDARD.decode(text).map_err(|_| "a vector is neither numbers nor base64")?;
            let (fours, rest) = bytes.as_chunks::<4>();
            if rest.is_empty() {
                Ok(fours.iter().map(|four| f32::from_le_bytes(*four)).collect())
            } else {
                Err("a vector in base64 is cut off")
            }
        }
    }
}
