//! The scripted model, through its public door.

mod contract;
mod observed;
mod scripted;
