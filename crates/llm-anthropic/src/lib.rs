//! Chat models behind Anthropic's Messages API.
//!
//! The protocol is read strictly: an answer counts when `message_stop` has come, tools are run only when the answer ended
//! with `tool_use`, and each call is one whole JSON object. What the model thought is kept as it came, with its signature,
//! and given back word for word before the calls that followed from it; the protocol refuses anything else.
//!
//! A base URL is what comes before `/v1`: `https://api.anthropic.com`, or another server of the same protocol.
//!
//! The prefix of a long request (the tools and the system's words, from about 4 KB on) is marked for the provider's cache.

mod adapter;
mod answer;
mod config;
mod event;
mod request;

pub use adapter::Anthropic;
pub use config::{ANTHROPIC_BASE_URL, AnthropicConfig};
pub use llm_http::{ApiKey, ConfigError, Limits, http_client, install_tls};

/// Who understands the reasoning that this adapter keeps.
const DIALECT: &str = "anthropic";
