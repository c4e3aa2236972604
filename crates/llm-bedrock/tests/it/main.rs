//! The adapter against a server that speaks the protocol, checks every signature, and misbehaves on demand.

mod answers;
mod contract;
mod credentials;
mod cuts;
mod failures;
mod requests;
mod support;
mod wire;
