//! The adapter against a real HTTP server that misbehaves to the byte.

mod answers;
mod contract;
mod cuts;
mod embeddings;
mod requests;
mod responses;
mod retries;
mod secrets;
mod support;
mod wire;
