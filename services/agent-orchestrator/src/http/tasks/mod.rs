//! Tasks: pieces of work for agents.

pub(super) mod approvals;
pub(super) mod artifacts;
pub(super) mod budget;
pub(super) mod cancel;
pub(super) mod dead_letters;
pub(super) mod events;
pub(super) mod get;
pub(super) mod journal;
pub(super) mod list;
pub(super) mod retry;
pub(super) mod signal;
pub(super) mod submit;

use common::problem::{Kind, Problem};
use domain::TaskId;
use serde::Deserialize;
use tracing::Instrument as _;
use utoipa::IntoParams;

/// The path of a task.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TaskPath {
    /// The task's id.
    #[param(value_type = Uuid)]
    task_id: TaskId,
}

/// Runs a change to its end even when the caller hangs up: otherwise what is committed might not be announced until the
/// sweeper finds it.
async fn to_its_end<T, E>(change: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Into<Problem> + Send + 'static,
{
    match tokio::spawn(change.in_current_span()).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => {
            tracing::error!(%error, "a change to a task panicked");
            Err(Problem::new(Kind::Internal))
        }
    }
}
