//! The adapter against a server that speaks the protocol, checks every signature, and misbehaves on demand.

mod answers;
mod contract;
mod credentials;
mod failures;
mod pieces;
mod requests;
mod support;
mod wire;
