//! Reconcilers.

pub(crate) mod retention;
