//! The use cases: the rules behind the REST API, without HTTP.

mod agents;
mod digest;
mod feed;
mod room;
mod submission;
mod tasks;
mod waiting;
mod watch;

pub use agents::{AgentError, AgentsView};
pub use feed::{InvalidResume, Resume, Told};
pub use submission::{Submission, SubmitError};
pub use tasks::{JournalError, SignalError, TaskError, Tasks};
pub use watch::{Watch, WatchError};
