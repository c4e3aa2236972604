//! The test kit itself, tested: what it says must be so.

mod effect_sink;
mod servers;
