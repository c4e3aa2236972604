//! The bus over NATS, against real servers.

mod requests;
mod support;
