//! The rules: which runs this worker has, and what is told to them.

mod recent;
mod report;
mod runs;
mod worker;

pub(crate) use report::Identity;
pub use runs::RunCounts;
pub(crate) use runs::Runs;
pub(crate) use worker::Worker;
