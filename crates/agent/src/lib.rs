//! The agent loop: `machine` decides, `driver` makes the decisions durable.

mod announce;
pub mod driver;
pub mod machine;

pub use announce::Announcer;
pub use driver::{Driver, DriverParts, RunControl, RunEnd};
