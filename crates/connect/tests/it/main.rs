//! The choice among models as an operator sets it: files, keys, changes of them, and servers that die.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod failover;
mod file;
mod following;
