//! What this service hears: ready tasks, cancellations and questions about tool servers, one message a file.

pub(crate) mod cancellations;
pub(crate) mod ready_tasks;
pub(crate) mod tool_servers;
