//! Kills the whole platform at named points of a task's life, starts it again, and checks the recorded history and an
//! independent effect sink against what is promised in docs/guarantees.md.
//!
//! The sink and the client live in this process, which is never killed; the platform is the real binary.

mod history;
mod matrix;
#[path = "../support/platform.rs"]
mod platform;
