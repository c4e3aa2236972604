//! A stream may be cut anywhere: then there is no answer, and no tool call.

use domain::ToolCall;
use serde_json::json;

use super::{HttpEnd, HttpReply, Told, Wired, ask, request};
use crate::LlmError;

/// Cuts the stream of a tool call at every byte, with a clean end of the body and with a broken connection.
///
/// # Panics
///
/// When a prefix yields an answer that is not the whole one.
pub async fn cuts(subject: &dyn Wired) {
    let arguments = json!({ "amount": 12.5, "to": { "name": "Zoë" } });
    let recording = subject.record(&Told::call("call_a", "lookup", &arguments)).expect("every protocol calls tools");
    let whole = recording.bytes();
    let connected = subject.connect().await;
    let request = request(&connected);
    connected.server.otherwise(recording.reply());
    let said = ask(&connected, &request).await.1.expect("the whole stream is an answer");
    let meant = ToolCall { id: said.tool_calls[0].id.clone(), name: "lookup".to_owned(), arguments };
    assert_eq!(said.tool_calls, std::slice::from_ref(&meant));

    for end in 0..=whole.len() {
        let clean = HttpReply { body: whole[..end].to_vec(), ..recording.reply() };
        let broken = recording.reply().ending(HttpEnd::Broken(end));
        for (reply, how) in [(clean, "ends"), (broken, "breaks")] {
            connected.server.otherwise(reply);
            match ask(&connected, &request).await.1 {
                Ok(answer) => {
                    assert!(end >= recording.whole_at(), "a stream that {how} at byte {end} has not said why it ended");
                    assert_eq!(answer.tool_calls, std::slice::from_ref(&meant), "a stream that {how} at byte {end}");
                }
                Err(LlmError::Invalid { .. } | LlmError::Unavailable { .. }) => {
                    assert!(end < whole.len() || how == "breaks", "the whole stream is an answer");
                }
                Err(error) => panic!("a stream that {how} at byte {end} gave {error:?}"),
            }
        }
    }
}
