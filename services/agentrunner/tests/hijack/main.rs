//! What a fully hijacked model can do: nothing that its agent was not given.

mod corpus;
mod house;
mod library;
#[path = "../support/platform.rs"]
#[expect(dead_code, reason = "the crash matrix uses the rest")]
mod platform;
