//! The suite that every adapter of the system of record must pass.
