//! Too much, and too little.

use std::time::Duration;

use super::{HttpEnd, Told, Wired, ask, request};
use crate::LlmError;

/// Ten megabytes at once, words without an end, and a word that is the last for long.
///
/// # Panics
///
/// When the provider bears it.
pub async fn excess(subject: &dyn Wired) {
    let connected = subject.connect().await;
    let request_ = request(&connected);
    let huge = subject.record(&Told::text("x".repeat(10_000_000))).expect("every protocol says words");
    connected.server.otherwise(huge.reply());
    let (_, answer) = ask(&connected, &request_).await;
    assert!(matches!(answer, Err(LlmError::Invalid { .. })), "ten megabytes at once gave no error");

    // More than the limit in words alone, however a protocol frames them.
    let word = format!("{} ", "on".repeat(250));
    let endless = subject.record(&Told::text(word.repeat(20_000))).expect("every protocol says words");
    connected.server.otherwise(endless.reply());
    let (_, answer) = ask(&connected, &request_).await;
    assert!(matches!(answer, Err(LlmError::Invalid { .. })), "words without an end gave no error");

    let slow = subject.record(&Told::text("One word and then another.")).expect("every protocol says words");
    let mut hasty = request(&connected);
    hasty.idle_timeout = Duration::from_millis(100);
    // Somewhere among the frames the first word has come and the last has not.
    for frames in 1..=slow.end {
        let heard: usize = slow.frames[..frames].iter().map(Vec::len).sum();
        hasty.timeout = Duration::from_millis(400);
        connected.server.otherwise(slow.reply().ending(HttpEnd::Silent(heard)));
        let (_, answer) = ask(&connected, &hasty).await;
        assert!(matches!(answer, Err(LlmError::Timeout { .. })), "silence after frame {frames} gave {answer:?}");
    }
}
