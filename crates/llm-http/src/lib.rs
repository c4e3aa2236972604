//! What all dialects share that speak with models over HTTP, in no vendor's words.
//!
//! A dialect brings how a request is written and how a piece of an answer is read. Everything that is easy to get wrong
//! is here, once: a client that goes nowhere it was not told to go, secrets that do not print, errors that repeat neither
//! the key nor the conversation, `Retry-After`, repetition while nothing was spoken, silence, caps on size, frames that are
//! cut anywhere, usage that nobody can believe, names of tools that a protocol does not allow.
//!
//! An adapter's call goes like this:
//!
//! ```text
//! in_time(&model, request.timeout, async {
//!     let asked = server.asked_to_chat(request);          // speaks of failures without telling secrets
//!     let spoken = Spoken::default();                     // after the first word nothing is repeated
//!     let on_delta = spoken.noting(on_delta);
//!     let mut retries = server.retries(deadline);
//!     loop {
//!         match attempt(&asked, request, &on_delta).await {
//!             Ok(answer) => return Ok(answer),
//!             Err(failed) => retries.pause(failed, spoken.anything()).await?,
//!         }
//!     }
//! })
//!
//! // One attempt:
//! let names = WireNames::of(request);
//! let response = asked.send(server.post(&url, body)).await?;          // anything but 200 is a failure
//! let mut stream = asked.listen(response, Events::new(limits.line_bytes), limits, request.idle_timeout);
//! let mut draft = Draft::new(limits.tool_calls);
//! while let Some(frame) = stream.next().await? {
//!     // read the frame into the draft: draft.say(), draft.think(), draft.call(), draft.end(); then
//!     stream.heard();
//!     if draft.is_ended() { stream.ended(); }
//! }
//! draft.complete(&names, reported, request_bytes)
//! ```

mod client;
mod config;
mod draft;
mod failure;
mod framing;
mod image;
mod listening;
mod names;
mod retries;
mod retry_after;
mod server;
mod sse;
mod usage;

pub use client::{http_client, install_tls};
pub use config::{ApiKey, ConfigError, Limits, ServerConfig};
pub use draft::{CallDraft, Draft, Flaw};
pub use failure::{Asked, Complaint, Failed, Words};
pub use framing::{Framing, FramingError, Lines};
pub use image::{ImageError, ImageSource, image_source};
pub use listening::{Listening, content_type, read_up_to};
pub use names::WireNames;
pub use retries::{LONGEST_CALL, LONGEST_PAUSE, Retries, Spoken, in_time};
pub use retry_after::{LONGEST_RETRY_AFTER, retry_after};
pub use server::Server;
pub use sse::{Event, Events};
pub use usage::{Reported, count};
