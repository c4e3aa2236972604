//! The use cases: the rules behind the REST API, without HTTP.

mod agents;
mod approvals;
mod artifacts;
mod budgets;
mod decisions;
mod digest;
mod ends;
mod feed;
mod images;
mod pools;
mod room;
mod servers;
mod submission;
mod tasks;
mod waiting;
mod watch;

pub use agents::{AgentError, AgentsView};
pub use approvals::DecisionError;
pub use artifacts::ArtifactError;
pub use ends::Ends;
pub use feed::{InvalidResume, Resume, Told};
pub use pools::{Judge, Judgement, Pools, Trouble, Worker, rate, recent};
pub use servers::ServersOfPools;
pub use submission::{Submission, SubmitError};
pub use tasks::{JournalError, SignalError, TaskError, Tasks};
pub use watch::{Watch, WatchError};
