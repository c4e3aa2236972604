//! The bus over NATS, against real servers.

mod events;
mod faults;
mod requests;
mod support;
