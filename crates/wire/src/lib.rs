//! What crosses a process border: the bodies of the REST API and of its event stream, for services and clients alike.
//!
//! They are separate from the domain so that the record and the API can change at their own pace. Requests refuse unknown
//! fields; answers may grow fields, and a client ignores those that it does not know.

mod agent;
mod approval;
mod artifact;
mod budget;
mod journal;
mod page;
mod platform;
mod schema;
mod stream;
mod submit;
mod task;
mod thread;
mod tool;
mod waiting;

pub use agent::{AgentStatus, AgentView};
pub use approval::{ApprovalStatus, ApprovalView, DecideApproval, Decision};
pub use artifact::ArtifactView;
pub use budget::{AccountView, AmountView, BudgetEvent, BudgetView, DecideBudget};
pub use journal::JournalStep;
pub use page::Page;
pub use platform::{ModelError, ModelKind, ModelPrice, ModelView, PoolStats, PoolView, WorkerView};
pub use schema::{AgentSpecSchema, ExecutionModeSchema, FailureSchema, TaskInputSchema, TaskStatusSchema, UsageSchema};
pub use stream::{DeltaEvent, ProgressEvent, RestartEvent, StatusEvent, event_name};
pub use submit::{ImageBody, InputBody, RetryBody, SignalBody, SubmitTask};
pub use task::{ParentView, TaskLinks, TaskView};
pub use thread::{MessageView, ThreadView};
pub use tool::{ApproveTools, ToolServerView, ToolView};
pub use waiting::WaitingFor;
