//! The config service as its users meet it: through its folder and its REST API, with the real record behind it.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod api;
#[cfg(feature = "program")]
#[path = "../../../support/backends.rs"]
mod backends;
mod copies;
mod examples;
mod hostile;
mod house;
#[cfg(feature = "program")]
#[path = "../../../support/process.rs"]
mod process;
#[cfg(feature = "program")]
mod program;
mod reload;
mod restart;
