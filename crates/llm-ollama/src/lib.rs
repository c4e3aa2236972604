//! Chat models behind Ollama's own API: chat, embeddings, the list of models, and fetching one.
//!
//! A base URL is what comes before `/api`, such as `http://localhost:11434`. A key is needed only where something that asks
//! for one stands before the server; it is sent as a bearer token.
//!
//! The protocol is read strictly: an answer counts when the line with `done` has come, and each tool call's arguments are
//! one whole JSON object. Its calls have no ids, so they are numbered here, from `call-0` on in each answer. Pictures go
//! as data; one that is given by its address is refused, because the server fetches nothing.
//!
//! A schema is enforced by the server only when no tools are offered: what it enforces leaves no room for a call.

mod adapter;
mod answer;
mod config;
mod embed;
mod pull;
mod request;

pub use adapter::Ollama;
pub use config::{OLLAMA_BASE_URL, OllamaConfig};
pub use llm_http::{ApiKey, ConfigError, Limits, http_client, install_tls};

/// Who understands the reasoning that this adapter keeps.
const DIALECT: &str = "ollama";
