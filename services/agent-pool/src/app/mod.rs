//! The rules: which runs this worker has, and what is told to them.

mod runs;
mod worker;

pub(crate) use runs::Runs;
pub use runs::RunCounts;
pub(crate) use worker::Worker;
