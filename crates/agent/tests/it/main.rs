//! The driver against the real embedded record, bus and scripted models.

mod driving;
mod world;
