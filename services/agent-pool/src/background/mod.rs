//! Reconcilers of this worker.

pub(crate) mod drain;
pub(crate) mod renewal;
pub(crate) mod reports;
