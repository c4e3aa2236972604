//! A service through its public door.

mod errors;
