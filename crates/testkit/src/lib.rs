//! testkit

pub mod effect_sink;
pub mod fake_openai;
