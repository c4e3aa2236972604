//! Reads of single tasks: those that come in while others are under way are read together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::{Namespace, Task, TaskId};
use serde_json::Value;
use state::StateError;
use state::gather::{Bounds, Gather};
use tokio::sync::oneshot;

use crate::pool::{Pools, within};
use crate::read;

/// Two transactions of up to so many tasks at once; an answer may be large.
const BOUNDS: Bounds = Bounds { lanes: 2, slow: SLOW, beside: 16, jobs: 64, bytes: usize::MAX };
const SLOW: Duration = Duration::from_millis(20);

/// A task, and its answer when it succeeded and was asked for.
pub(crate) type Found = Option<(Task, Option<Value>)>;

struct Lookup {
    namespace: Namespace,
    task: TaskId,
    with_answer: bool,
    reply: oneshot::Sender<Result<Found, StateError>>,
}

/// Finds tasks.
pub(crate) struct Lookups(Gather<Lookup>);

impl Lookups {
    pub(crate) fn new(pools: &Arc<Pools>) -> Self {
        let pools = Arc::clone(pools);
        Self(Gather::new(BOUNDS, move |batch| Box::pin(look(Arc::clone(&pools), batch))))
    }

    /// Finds a task of a namespace.
    pub(crate) async fn find(
        &self,
        namespace: &Namespace,
        task: TaskId,
        with_answer: bool,
    ) -> Result<Found, StateError> {
        let (reply, answer) = oneshot::channel();
        self.0.put(Lookup { namespace: namespace.clone(), task, with_answer, reply }, 0);
        answer.await.unwrap_or(Err(StateError::Closed))
    }
}

async fn look(pools: Arc<Pools>, mut batch: Vec<Lookup>) {
    batch.retain(|lookup| !lookup.reply.is_closed());
    let mut asked = HashMap::with_capacity(batch.len());
    for lookup in &batch {
        *asked.entry(lookup.task).or_default() |= lookup.with_answer;
    }
    if asked.is_empty() {
        return;
    }
    let found = find(&pools, &asked).await;
    for Lookup { namespace, task, with_answer, reply } in batch {
        let one = found.as_ref().map_err(Clone::clone).map(|found| {
            let (found, answer) = found.get(&task).filter(|(found, _)| found.namespace == namespace)?;
            Some((found.clone(), answer.as_ref().filter(|_| with_answer).cloned()))
        });
        // Nobody listens any more when the caller was dropped.
        let _ = reply.send(one);
    }
}

async fn find(
    pools: &Pools,
    asked: &HashMap<TaskId, bool>,
) -> Result<HashMap<TaskId, (Task, Option<Value>)>, StateError> {
    within!(pools.lookups(), conn => read::look_up(conn, asked))
}
