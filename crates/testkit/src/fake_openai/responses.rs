//! The responses protocol: named, numbered events; what comes in pieces comes again as a whole.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::fake_http::Reply;

/// A stream of these events, in this order, numbered here.
pub fn stream(events: &[Value]) -> Reply {
    Reply::raw(200, "text/event-stream; charset=utf-8", frames(events).concat())
}

/// The same, event by event.
pub fn frames(events: &[Value]) -> Vec<String> {
    let numbered = events.iter().enumerate().map(|(number, event)| {
        let mut event = event.clone();
        event["sequence_number"] = json!(number);
        let mut frame = String::new();
        let _ = write!(frame, "event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        frame
    });
    numbered.collect()
}

/// A text, word by word, with usage.
pub fn text(text: &str) -> Reply {
    stream(&answer(&[message(text)], &usage(&json!(12), &json!(5))))
}

/// Tool calls as (id, name, arguments), in small pieces, with usage.
pub fn tool_calls(calls: &[(&str, &str, &str)]) -> Reply {
    let items: Vec<Value> = calls.iter().map(|(id, name, arguments)| call(id, name, arguments)).collect();
    stream(&answer(&items, &usage(&json!(12), &json!(5))))
}

/// The events of a whole answer of these items.
pub fn answer(items: &[Value], usage: &Value) -> Vec<Value> {
    [begin(items), vec![completed(items, usage)]].concat()
}

/// The events of an answer of these items, without its end.
pub fn begin(items: &[Value]) -> Vec<Value> {
    let nothing = json!({ "id": "resp_1", "object": "response", "status": "in_progress", "output": [], "usage": null });
    let mut events = vec![
        json!({ "type": "response.created", "response": nothing }),
        json!({ "type": "response.in_progress", "response": nothing }),
    ];
    for (index, item) in items.iter().enumerate() {
        events.extend(item_events(index, item));
    }
    events
}

/// The end of an answer of these items.
pub fn completed(items: &[Value], usage: &Value) -> Value {
    json!({ "type": "response.completed", "response":
        { "id": "resp_1", "object": "response", "status": "completed", "error": null, "incomplete_details": null,
          "output": items, "usage": usage } })
}

/// The end of an answer that was cut off.
pub fn incomplete(reason: &str, items: &[Value], usage: &Value) -> Value {
    json!({ "type": "response.incomplete", "response":
        { "id": "resp_1", "object": "response", "status": "incomplete", "error": null,
          "incomplete_details": { "reason": reason }, "output": items, "usage": usage } })
}

/// The end of an answer at which the provider failed.
pub fn failed(code: &str, message: &str) -> Value {
    json!({ "type": "response.failed", "response":
        { "id": "resp_1", "object": "response", "status": "failed", "error": { "code": code, "message": message },
          "output": [], "usage": null } })
}

/// Counts, which may be nonsense.
pub fn usage(input: &Value, output: &Value) -> Value {
    json!({ "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": output, "output_tokens_details": { "reasoning_tokens": 0 } })
}

/// A message.
pub fn message(text: &str) -> Value {
    json!({ "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
        "content": [{ "type": "output_text", "text": text, "annotations": [] }] })
}

/// A tool call.
pub fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({ "type": "function_call", "id": format!("fc_{id}"), "status": "completed", "call_id": id, "name": name,
        "arguments": arguments })
}

/// Reasoning: a summary, and what is sealed.
pub fn reasoning(summary: &str, sealed: Option<&str>) -> Value {
    json!({ "type": "reasoning", "id": "rs_1", "summary": [{ "type": "summary_text", "text": summary }],
        "encrypted_content": sealed })
}

fn item_events(index: usize, item: &Value) -> Vec<Value> {
    let id = &item["id"];
    let mut begun = item.clone();
    begun["status"] = json!("in_progress");
    let mut between = Vec::new();
    match item["type"].as_str() {
        Some("message") => {
            begun["content"] = json!([]);
            let text = item["content"][0]["text"].as_str().unwrap_or_default();
            let at = |kind: &str| json!({ "type": kind, "item_id": id, "output_index": index, "content_index": 0 });
            let with = |kind: &str, key: &str, value: Value| {
                let mut event = at(kind);
                event[key] = value;
                event
            };
            let empty = json!({ "type": "output_text", "text": "", "annotations": [] });
            between.push(with("response.content_part.added", "part", empty));
            let words = text.split_inclusive(' ');
            between.extend(words.map(|word| with("response.output_text.delta", "delta", json!(word))));
            between.push(with("response.output_text.done", "text", json!(text)));
            between.push(with("response.content_part.done", "part", item["content"][0].clone()));
        }
        Some("function_call") => {
            begun["arguments"] = json!("");
            let arguments = item["arguments"].as_str().unwrap_or_default();
            let letters: Vec<char> = arguments.chars().collect();
            for piece in letters.chunks(7) {
                let piece: String = piece.iter().collect();
                between.push(json!({ "type": "response.function_call_arguments.delta", "item_id": id,
                    "output_index": index, "delta": piece }));
            }
            between.push(json!({ "type": "response.function_call_arguments.done", "item_id": id,
                "output_index": index, "name": item["name"], "arguments": arguments }));
        }
        _ => {
            begun["summary"] = json!([]);
            let text = &item["summary"][0]["text"];
            between.push(json!({ "type": "response.reasoning_summary_text.delta", "item_id": id,
                "output_index": index, "summary_index": 0, "delta": text }));
            between.push(json!({ "type": "response.reasoning_summary_text.done", "item_id": id,
                "output_index": index, "summary_index": 0, "text": text }));
        }
    }
    let added = json!({ "type": "response.output_item.added", "output_index": index, "item": begun });
    let done = json!({ "type": "response.output_item.done", "output_index": index, "item": item });
    [vec![added], between, vec![done]].concat()
}
