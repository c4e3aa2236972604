//! The agent loop as a pure function: recorded history in, decision out.
//!
//! Nothing here is async, reads a clock or draws a random number: the same journal always gives the same decision, so a
//! run that was cut off anywhere goes on by folding its journal. `driver` performs what is decided here.

mod approval;
mod budget;
mod calls;
mod conversation;
mod history;
mod probe;
mod rules;

#[cfg(test)]
mod tests;

pub use approval::approval_digest;
pub use budget::{BUDGET_CALLS, shortage_of};
pub use calls::PendingCall;
pub use conversation::request;
pub use history::{Decision, History, Verdict};
pub use probe::{probe_arguments, probe_says};
pub use rules::Rules;

/// How often an answer that does not match `output_schema` (or is empty) is sent back to the model.
pub const MAX_REJECTIONS: u32 = 2;
/// How often a call may end without anybody knowing what came of it before a person is asked, whatever its policy says.
pub const MAX_UNKNOWN: u32 = 3;
/// The signal that tells whether a `once` call that was cut off had happened.
pub const OUTCOME_SIGNAL: &str = "outcome_unknown";
/// The value of that signal which has the call made again.
pub const OUTCOME_RETRY: &str = "retry";
