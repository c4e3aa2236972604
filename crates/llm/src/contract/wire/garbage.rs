//! What is not understood is an error, never something else than what was meant.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Connected, HttpReply, Recording, Told, Wired, ask, request};
use crate::{ChatAnswer, LlmError, tokens_of};

/// Random bytes, repeated and damaged frames, two ends, usage that nobody can believe, empty answers, and bodies of
/// another kind.
///
/// # Panics
///
/// When the provider makes an answer of what is none.
pub async fn garbage(subject: &dyn Wired) {
    let connected = subject.connect().await;
    random_bytes_are_no_answer(subject, &connected).await;
    repeated_and_damaged_frames_do_no_harm(subject, &connected).await;
    arguments_are_never_mended(subject, &connected).await;
    strange_usage_is_estimated_upward(subject, &connected).await;
    bodies_of_another_kind_are_no_answer(subject, &connected).await;
}

async fn random_bytes_are_no_answer(subject: &dyn Wired, connected: &Connected) {
    let recording = call(subject);
    let mut random = Random(42);
    for round in 0..60 {
        let length = random.next() as usize % 1_500;
        let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        let answer = reply(connected, recording.with(&[bytes])).await;
        assert!(answer.is_err(), "round {round}: random bytes gave {answer:?}");
    }
}

async fn repeated_and_damaged_frames_do_no_harm(subject: &dyn Wired, connected: &Connected) {
    let recording = call(subject);
    let meant = reply(connected, recording.reply()).await.expect("the whole stream is an answer");
    for index in 0..recording.frames.len() {
        let mut twice = recording.frames.clone();
        twice.insert(index, twice[index].clone());
        let answer = reply(connected, recording.with(&twice)).await;
        if index == recording.end {
            assert!(answer.is_err(), "an answer that ended twice gave {answer:?}");
        }
        if let Ok(answer) = answer {
            let ids: BTreeSet<&str> = answer.tool_calls.iter().map(|call| call.id.as_str()).collect();
            assert!(answer.tool_calls.len() == 1 && ids.len() == 1, "frame {index} twice gave {answer:?}");
            assert!(
                !subject.notices_repeated_frames() || answer.tool_calls == meant.tool_calls,
                "frame {index} twice changed the call: {answer:?}"
            );
        }
        let mut without = recording.frames.clone();
        without.remove(index);
        if let Ok(answer) = reply(connected, recording.with(&without)).await {
            assert!(index != recording.end, "an answer that did not say why it ended gave {answer:?}");
            assert_eq!(answer.tool_calls, meant.tool_calls, "without frame {index}");
        }
    }
}

async fn arguments_are_never_mended(subject: &dyn Wired, connected: &Connected) {
    for arguments in
        ["{\"a\":1", "{\"a\":1} and", "{\"a\":1}{}", "{\"a\":1,\"a\":2}", "\"{}\"", "[1]", "null", "{'a':1}"]
    {
        let mut told = Told::call("call_1", "lookup", &json!({}));
        arguments.clone_into(&mut told.calls[0].2);
        // A protocol whose arguments are JSON and not a text with JSON in it cannot say most of these.
        let Some(recording) = subject.record(&told) else { continue };
        let answer = reply(connected, recording.reply()).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{arguments} gave {answer:?}");
    }
}

async fn strange_usage_is_estimated_upward(subject: &dyn Wired, connected: &Connected) {
    let text = "Hello, this is an answer of some length.";
    for count in [json!(-5), json!(1_000_000_000_000_u64), Value::Null, json!(0)] {
        let told = Told { input_tokens: count.clone(), output_tokens: count.clone(), ..Told::text(text) };
        let Some(recording) = subject.record(&told) else { continue };
        let usage = reply(connected, recording.reply()).await.expect("strange usage costs no answer").usage;
        assert!(usage.estimated, "{count}: {usage:?}");
        assert!((tokens_of(text.len())..10_000).contains(&usage.output_tokens), "{count}: {usage:?}");
        assert!((15..10_000).contains(&usage.input_tokens), "{count}: {usage:?}");
    }
}

async fn bodies_of_another_kind_are_no_answer(subject: &dyn Wired, connected: &Connected) {
    let page = "<!doctype html><html><body>Please log in.</body></html>";
    let stream = call(subject).content_type;
    for body in [
        HttpReply::new(200, "text/html; charset=utf-8", page),
        HttpReply::new(200, &stream, page),
        HttpReply::new(200, "application/octet-stream", page),
        HttpReply::new(200, "text/plain", "data: hello\n\n"),
        HttpReply::new(200, &stream, ""),
        HttpReply::new(200, "application/json", ""),
        HttpReply::new(200, "application/json", "{}\n"),
        HttpReply::new(200, "application/json", "[]\n"),
        HttpReply::new(200, &stream, "\n\n\n"),
        HttpReply::new(204, &stream, ""),
    ] {
        let answer = reply(connected, body.clone()).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{body:?} gave {answer:?}");
    }
    if let Some(nothing) = subject.record(&Told::text("")) {
        let answer = reply(connected, nothing.reply()).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "an answer of nothing gave {answer:?}");
    }
}

fn call(subject: &dyn Wired) -> Recording {
    let arguments = json!({ "amount": 12.5, "to": { "name": "Zoë" } });
    subject.record(&Told::call("call_a", "lookup", &arguments)).expect("every protocol calls tools")
}

async fn reply(connected: &Connected, reply: HttpReply) -> Result<ChatAnswer, LlmError> {
    connected.server.otherwise(reply);
    ask(connected, &request(connected)).await.1
}

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}
