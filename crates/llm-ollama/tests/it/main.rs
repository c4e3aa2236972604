//! The adapter against a server that speaks the protocol, and misbehaves on demand.

mod answers;
mod contract;
mod failures;
mod models;
mod pieces;
mod requests;
mod support;
mod wire;
