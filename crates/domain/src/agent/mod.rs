//! An agent: what its YAML file says.

mod spec;

pub use spec::{
    AgentSpec, BudgetSpec, ContinuousSpec, ExecutionMode, LimitsSpec, MemorySpec, ModelSpec, RetrySpec, ScheduleSpec,
    TeamPattern, TeamSpec, ToolSettings,
};
