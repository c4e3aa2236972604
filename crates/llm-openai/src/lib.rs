//! Chat models behind the chat completions protocol of OpenAI, which many servers speak: OpenAI itself, vLLM, llama.cpp,
//! LM Studio, Ollama, and most hosted providers.
//!
//! The protocol is read strictly, because what comes over it is about to be done: an answer counts when its finish reason
//! has arrived and every tool call is one whole JSON object; anything else is an error, and nothing is mended here.
//! What goes out and what may come in are our own types, so that no library decides for us what a broken answer means.

mod adapter;
mod answer;
mod chunk;
mod config;
mod failure;
mod http;
mod request;
mod retry_after;
mod sse;

pub use adapter::OpenAi;
pub use config::{ApiKey, ConfigError, Limits, OpenAiConfig};
pub use http::{http_client, install_tls};
