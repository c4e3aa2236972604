//! Settings to ports: the only crate that names adapters.
//!
//! | feature | what it makes | who needs it |
//! |---|---|---|
//! | `embedded` | everything of one process, durable in one folder | `agentrunner` |
//! | `record` | the record in its database | state-manager, and nobody else |
//! | `remote` | the record of another process | all others |
//! | `nats` | events and requests between processes | everybody |
//! | `queue` | the work queue between processes | orchestrator, pools |
//! | `models`, `tools`, `files` | models, tools, files of tasks | pools, and the orchestrator to show them |
//!
//! What speaks with a backend is made without waiting for it: nothing here fails because a server is down. Whether it
//! works is asked by the probes that come with each port.

#[cfg(feature = "embedded")]
mod embedded;
mod limits;
#[cfg(feature = "models")]
pub mod models;
pub mod platform;
#[cfg(feature = "tools")]
pub mod tools;

#[cfg(feature = "embedded")]
pub use embedded::{ConnectError, EmbeddedSettings, Ports, embedded};
pub use limits::{LIMITS_FILE, LimitsError, read_limits};
