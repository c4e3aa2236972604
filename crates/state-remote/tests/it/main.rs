//! The record over requests: what goes wrong on the way, and what never does.
