//! The service through its REST API, on a real record.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene fails")]

mod operations;
mod service;
mod values;
