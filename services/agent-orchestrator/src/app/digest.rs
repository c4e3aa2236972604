//! What makes two requests the same request.

use serde_json::{Value, json};
use wire::SubmitTask;

/// Digests what a request asks for: written in another order, or with the same text as `prompt` or as `input`, it is the
/// same request. Times count as they were written, so that a repeated `delay` is a repetition.
pub(super) fn of(request: &SubmitTask) -> [u8; 32] {
    let (prompt, data, images) = match &request.input {
        Some(input) => (Some(&input.prompt), input.data.as_ref(), &input.images),
        None => (request.prompt.as_ref(), request.data.as_ref(), &request.images),
    };
    let mut content = json!([
        request.agent,
        prompt,
        data,
        request.priority,
        request.run_at,
        request.delay,
        request.ttl,
        request.deadline,
        request.thread_id,
        request.user,
        request.metadata,
    ]);
    // What came later is added only where it is: requests of before keep their digests.
    if let Value::Array(parts) = &mut content {
        if !images.is_empty() {
            parts.push(json!({ "images": images }));
        }
        if let Some(limit_key) = &request.limit_key {
            parts.push(json!({ "limit_key": limit_key }));
        }
    }
    let mut hasher = blake3::Hasher::new();
    canonical(&content, &mut hasher);
    *hasher.finalize().as_bytes()
}

/// Feeds a value with the keys of its objects in order. Every part carries its length, so that no two values look alike.
fn canonical(value: &Value, hasher: &mut blake3::Hasher) {
    match value {
        Value::Array(items) => {
            hasher.update(format!("[{}", items.len()).as_bytes());
            for item in items {
                canonical(item, hasher);
            }
        }
        Value::Object(fields) => {
            hasher.update(format!("{{{}", fields.len()).as_bytes());
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            for (name, field) in sorted {
                text(name, hasher);
                canonical(field, hasher);
            }
        }
        Value::String(string) => text(string, hasher),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            hasher.update(format!("{value};").as_bytes());
        }
    }
}

fn text(text: &str, hasher: &mut blake3::Hasher) {
    hasher.update(format!("\"{}:", text.len()).as_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use domain::AgentName;
    use wire::InputBody;

    use super::*;

    fn request() -> SubmitTask {
        SubmitTask::new(AgentName::new("writer").unwrap(), "hello")
    }

    #[test]
    fn the_order_of_keys_and_the_place_of_the_prompt_do_not_matter() {
        let first: Value = serde_json::from_str(r#"{"a":1,"b":{"c":[2,3],"d":null}}"#).unwrap();
        let second: Value = serde_json::from_str(r#"{"b":{"d":null,"c":[2,3]},"a":1}"#).unwrap();
        let one = SubmitTask { data: Some(first), ..request() };
        let input = InputBody { data: Some(second), ..InputBody::new("hello") };
        let other = SubmitTask { prompt: None, input: Some(input), ..request() };
        assert_eq!(of(&one), of(&other));
    }

    #[test]
    fn the_key_does_not_matter_but_everything_else_does() {
        let key = SubmitTask { idempotency_key: Some("k".to_owned()), ..request() };
        assert_eq!(of(&request()), of(&key));
        let changes: [fn(&mut SubmitTask); 8] = [
            |r| r.agent = AgentName::new("reader").unwrap(),
            |r| r.prompt = Some("hello!".to_owned()),
            |r| r.data = Some(json!({ "a": [1, "2"] })),
            |r| r.priority = Some(3),
            |r| r.user = Some("kim".to_owned()),
            |r| r.limit_key = Some("kim".to_owned()),
            |r| r.limit_key = Some("ann".to_owned()),
            |r| r.metadata = [("a".to_owned(), "b".to_owned())].into(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut changed = request();
            change(&mut changed);
            assert_ne!(of(&request()), of(&changed), "change {at}");
        }
    }

    #[test]
    fn texts_that_run_together_are_told_apart() {
        let one = SubmitTask { data: Some(json!(["ab", "c"])), ..request() };
        let other = SubmitTask { data: Some(json!(["a", "bc"])), ..request() };
        assert_ne!(of(&one), of(&other));
    }
}
