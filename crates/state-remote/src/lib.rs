//! The system of record behind requests: a client that is a `State`, and the server that answers for any other one.
//!
//! Only one service has the database; whoever else needs the record calls it over `bus::Requests`. Any number of servers
//! share the calls, and a client does not know which one answered.
//!
//! # What travels
//!
//! Every method has a subject of its own, `state.METHOD`. A request is a version, a header and the arguments; an answer is a
//! version, a word and what the word says:
//!
//! ```text
//! 1 {"budget_ms":5000}            1 ok
//! {"namespace":"a","task":"…"}    {"id":"…", …}
//! ```
//!
//! The word is `ok` with the method's answer, `error` with a `StateError`, or `refused` with the reason why the server did not
//! do what it was asked. The lines are JSON: whoever looks at the wire can read it, and the domain's types are written as
//! they are, once.
//!
//! Calls that every task needs and that are under way at once are sent together, as one request to `state.batch`; each of them
//! and each answer is as it would be alone (`batch.rs`).
//!
//! # Versions n and n - 1 together
//!
//! - A field that is not known is ignored. A new field has a default that means what was meant before there was one.
//! - No field, method or word is renamed, and none gets another meaning; what is no longer used is left in place for one
//!   release.
//! - A new method is a new subject: only servers that know it are asked, and without one the caller hears `Unavailable`.
//! - A new value of an enumeration may be refused by who does not know it: release the reader first, the writer after it.
//! - The leading version changes only when a request could not be read otherwise. A server that does not speak it says so.
//!
//! `tests/golden` holds messages as they were recorded; they are never changed, only added to.
//!
//! # Deadlines
//!
//! A request says how long its sender waits for the answer. The server begins nothing whose time has passed and waits for the
//! store no longer; a claim that is granted too late is given back, so that nobody waits for a lease to run out.
//!
//! # Repeated calls
//!
//! The client repeats a call by itself, with full jitter, for at most `ClientOptions::patience`: always when nothing can
//! have been done (nobody serves, the server refused to begin), and otherwise only what the one table in `method.rs`
//! proves to be harmless. What is not repeated is `StateError::Unavailable`, and the caller decides.

mod batch;
mod call;
mod calls;
mod client;
mod frame;
mod method;
mod server;

pub use client::{ClientOptions, RemoteState};
pub use server::{ServerOptions, Serving, serve};
