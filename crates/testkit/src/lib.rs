//! testkit

pub mod cutting_proxy;
pub mod effect_sink;
pub mod fake_anthropic;
pub mod fake_bedrock;
pub mod fake_http;
pub mod fake_ollama;
pub mod fake_openai;
pub mod servers;
mod wire;
