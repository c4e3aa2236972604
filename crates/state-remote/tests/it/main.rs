//! The record over requests: what goes wrong on the way, and what never does.

mod bounds;
mod deadlines;
mod golden;
mod hostile;
mod large;
mod lost_answers;
mod nats;
mod network;
mod observed;
mod restarts;
mod script;
mod support;
