//! The real binary, as a person or a script uses it.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod agents;
mod bench;
mod decisions;
mod dev;
mod docs;
mod home;
mod models;
mod run;
mod screen;
mod settings;
mod submit;
mod tasks;
mod tools;
