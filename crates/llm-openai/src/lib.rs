//! Chat models behind the two protocols of OpenAI: chat completions, which many servers speak (OpenAI itself, vLLM,
//! llama.cpp, LM Studio, Ollama, and most hosted providers), and responses, which keeps a model's reasoning.
//!
//! Both are read strictly, because what comes over them is about to be done: an answer counts when it has said why it
//! ended and every tool call is one whole JSON object; anything else is an error, and nothing is mended here.
//! What goes out and what may come in are our own types, so that no library decides for us what a broken answer means.

mod chat;
mod config;
mod embeddings;
mod features;
mod models;
mod request;
mod responses;

pub use chat::OpenAi;
pub use config::OpenAiConfig;
pub use llm_http::{ApiKey, ConfigError, Limits, http_client, install_tls};
pub use responses::Responses;
