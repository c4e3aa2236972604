//! A chat model in this process: a quantized Llama-family GGUF file on the CPU, so that a newcomer without keys, network
//! or Docker gets real answers from the first command.
//!
//! The model is small and says so: it answers plainly. It does not call tools (the tools of a request are ignored, and
//! what tools answered earlier is shown to it as text), and nothing can force its answer into a JSON Schema (it is only
//! asked to). Where its files live is in [`cache`], where they come from in [`pull`].

pub mod cache;
mod conversation;
mod cores;
mod detokenize;
mod engine;
mod local;
pub mod pull;
mod template;
mod tokenizer;
mod weights;

pub use cache::{Cache, DEFAULT_MODEL};
pub use local::{Local, LocalOptions};
