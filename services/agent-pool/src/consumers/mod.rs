//! What this service hears: ready tasks and cancellations, one message a file.

pub(crate) mod cancellations;
pub(crate) mod ready_tasks;
