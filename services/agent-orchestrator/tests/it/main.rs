//! The orchestrator through its public door: HTTP on a free port, a real record in a temporary folder, the in-process bus,
//! and a worker that the test leads by hand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agents;
mod approvals;
mod artifacts;
#[cfg(feature = "program")]
#[path = "../../../support/backends.rs"]
mod backends;
mod background;
mod budgets;
mod hints;
mod hostile;
mod limits;
mod openapi;
mod platform;
#[cfg(feature = "program")]
#[path = "../../../support/process.rs"]
mod process;
#[cfg(feature = "program")]
mod program;
mod raw_events;
mod streams;
mod submit;
mod tasks;
mod worker;
