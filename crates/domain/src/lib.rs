//! What things are: agents, tasks, steps, threads, events, ids and clocks.
//!
//! Everything here is a plain value: no async, no I/O, no randomness, so that the rules built on it can be tested with
//! values alone. Whatever crosses a process border or reaches a disk is built from these types.

pub mod agent;
mod budget;
mod clock;
mod duration;
mod event;
mod failure;
pub mod file;
mod ids;
mod message;
mod pool;
mod step;
mod task;
mod terms;
mod thread;
mod tool;

pub use agent::{AgentSpec, ExecutionMode};
pub use budget::{
    Amount, AmountLimit, BudgetAccount, BudgetLevel, BudgetWindow, Dimension, Gate, GateLimit, OnLimit, Terms, Usd,
};
pub use clock::{Clock, Ids, ManualClock, SystemClock, SystemIds, Timestamp};
pub use duration::{DurationError, HumanDuration};
pub use event::{Delta, Event, EventBody, EventKind};
pub use failure::{Failure, FailureKind};
pub use ids::{AgentName, NameError, Namespace, TaskId, ThreadId, WorkerId};
pub use message::{FinishReason, Image, Message, Reasoning, ToolCall, Usage};
pub use pool::{AgentWork, Durations, PoolPhase, PoolReport};
pub use step::{
    APPROVAL_SIGNALS, ApprovalDecision, BUDGET_SIGNALS, BudgetDecision, ChildOutcome, ModelStep, ModelTry, Resolution,
    Step, StepBody, ToolOutcome, ToolStep, Wait, WaitFor,
};
pub use task::{Lease, NewTask, ParentRef, ReadyTask, Task, TaskInput, TaskStatus};
pub use terms::{NamespaceLimits, PlatformLimits, terms_of};
pub use thread::{Thread, ThreadMessage};
pub use tool::{Approval, Effect, ToolPrice, ToolSpec, UnknownPolicy};
