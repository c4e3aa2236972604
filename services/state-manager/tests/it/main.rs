//! The service through its REST API, on a real record.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene fails")]

#[cfg(feature = "program")]
mod migrating;
mod operations;
#[cfg(feature = "program")]
#[path = "../../../support/process.rs"]
mod process;
#[cfg(feature = "program")]
mod program;
mod service;
mod values;
