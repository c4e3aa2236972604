//! A service through its public door.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene fails")]

mod errors;
mod health;
mod hostile;
mod lifecycle;
mod server;
mod service;
mod signals;
