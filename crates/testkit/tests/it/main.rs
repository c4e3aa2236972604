//! The test kit itself, tested: what it says must be so.

mod cutting_proxy;
mod effect_sink;
mod servers;
