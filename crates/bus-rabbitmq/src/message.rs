//! What is in a message: which task, for which pool, how urgent.

use domain::{ExecutionMode, ReadyTask, TaskId};
use lapin::BasicProperties;
use serde::{Deserialize, Serialize};

/// The only version so far. A later one that older services could misread gets another number.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Body {
    v: u8,
    task: TaskId,
    mode: ExecutionMode,
    priority: u8,
}

/// Writes a message.
pub(crate) fn encode(ready: ReadyTask) -> Vec<u8> {
    let body = Body { v: VERSION, task: ready.task, mode: ready.mode, priority: ready.priority };
    serde_json::to_vec(&body).expect("a struct of plain fields becomes JSON")
}

/// Reads a message; `None` when it is not one of ours.
pub(crate) fn decode(bytes: &[u8]) -> Option<ReadyTask> {
    let body: Body = serde_json::from_slice(bytes).ok()?;
    (body.v == VERSION).then_some(ReadyTask { task: body.task, mode: body.mode, priority: body.priority })
}

/// What the broker is to know of a message.
pub(crate) fn properties(ready: ReadyTask, ttl_ms: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_priority(level(ready.priority))
        .with_expiration(ttl_ms.into())
}

/// A quorum queue knows two levels, 0 to 4 and 5 or more (older brokers none): the usual priority of 5 is not to be the
/// upper one.
fn level(priority: u8) -> u8 {
    priority.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let ready = ReadyTask { task: TaskId(uuid::Uuid::from_u128(7)), mode: ExecutionMode::Continuous, priority: 9 };
        assert_eq!(decode(&encode(ready)), Some(ready));
        assert_eq!(
            String::from_utf8(encode(ready)).unwrap(),
            r#"{"v":1,"task":"00000000-0000-0000-0000-000000000007","mode":"continuous","priority":9}"#
        );
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        for bytes in [
            "",
            "{}",
            "null",
            r#"{"v":2,"task":"00000000-0000-0000-0000-000000000007","mode":"continuous","priority":9}"#,
        ] {
            assert_eq!(decode(bytes.as_bytes()), None);
        }
    }
}
