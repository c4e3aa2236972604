//! The driver against the embedded record, with models that are written by hand.

mod actor;
mod approvals;
mod budgets;
mod crashes;
mod driving;
mod probes;
mod routes;
mod workspaces;
mod world;
