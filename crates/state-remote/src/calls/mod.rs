//! All calls, by who makes them.

pub(crate) mod claim;
pub(crate) mod operator;
pub(crate) mod reader;
pub(crate) mod signal;
pub(crate) mod sweeper;
pub(crate) mod values;
pub(crate) mod worker;
