//! The record over requests: what goes wrong on the way, and what never does.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bounds;
mod deadlines;
mod golden;
mod hostile;
mod large;
mod lost_answers;
mod nats;
mod network;
mod observed;
mod restarts;
mod script;
mod support;
