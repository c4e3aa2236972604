//! How the platform behaves as a whole: the real binary over HTTP, under loads, inputs, files and models that no unit
//! test has.

mod approvals;
mod configs;
mod corpus;
mod gate;
mod house;
mod life;
mod limits;
mod load;
mod models;
mod operations;
#[path = "../support/platform.rs"]
#[expect(dead_code, reason = "the crash matrix uses the rest")]
mod platform;
mod raw;
mod sizes;
mod spending;
mod streams;
mod turnstile;
