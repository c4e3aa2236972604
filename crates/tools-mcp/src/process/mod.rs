//! Programs that speak on their standard input and output, and their end.

pub(crate) mod child;
pub mod supervisor;
pub(crate) mod transport;
