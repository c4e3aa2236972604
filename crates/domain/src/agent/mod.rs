//! An agent: what its YAML file says, and what is wrong with a file that does not say it right.

mod cron;
pub(crate) mod limits;
mod output_schema;
mod parse;
mod reference;
mod schema;
mod spec;
mod tool_rules;
mod validate;

pub use crate::file::FileProblem;
pub use output_schema::{SchemaProblem, compile_output_schema};
pub use parse::{BUILT_IN_TOOLS, MAX_FILE_BYTES, locate, parse, parse_for, parse_with};
pub use reference::reference;
pub use schema::json_schema;
pub use spec::{
    AgentSpec, AmountSpec, BudgetSpec, ContinuousSpec, Effort, ExecutionMode, LimitsSpec, MemorySpec, ModelSpec,
    QueueSpec, RateSpec, RetrySpec, ScheduleSpec, TeamPattern, TeamSpec, ToolSettings,
};
