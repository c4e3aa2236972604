//! The local provider through its public doors: a real model, and a hub on this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene fails")]

mod generation;
mod hub;
mod server;
