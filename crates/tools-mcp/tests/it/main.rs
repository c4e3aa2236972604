//! The client against servers that behave and servers that do not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calls;
mod config;
mod http;
mod lives;
mod pins;
mod real;
mod remote;
mod support;
mod tree;
