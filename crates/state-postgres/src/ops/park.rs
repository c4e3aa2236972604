//! A task begins to wait and releases its worker.

use std::collections::HashMap;

use async_trait::async_trait;
use domain::{Lease, Resolution, StepBody, TaskId, TaskStatus, Timestamp, Wait, WaitFor};
use state::{Park, StateError, Transition};

use super::append::append;
use super::signal::take_early;
use super::submit::{NewRow, record};
use crate::fault::Written;
use crate::rows::Head;
use crate::tx::{EncodedStep, End, Tx};
use crate::writer::Write;
use state::codec::{corrupt, micros, step_place};

/// Parks a task under a lease.
pub(crate) struct ParkTask {
    lease: Lease,
    /// The given steps and `Parked` after them.
    steps: Vec<EncodedStep>,
    at: Timestamp,
    waits: Vec<Wait>,
    children: Vec<NewRow>,
}

impl ParkTask {
    /// Encodes what is to be stored.
    pub(crate) fn encode(lease: Lease, park: Park, threshold: usize) -> Result<Self, StateError> {
        let Park { steps, seq, at, waits, children } = park;
        let mut steps = EncodedStep::encode_all(&steps, threshold)?;
        let parked = StepBody::Parked { waits: waits.clone() };
        steps.push(EncodedStep::of(seq, micros(at), &parked, threshold)?);
        let children = children.into_iter().map(|child| NewRow::encode(child, threshold)).collect::<Result<_, _>>()?;
        Ok(Self { lease, steps, at, waits, children })
    }
}

#[async_trait]
impl Write for ParkTask {
    type Output = Transition;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Transition> {
        let Self { lease, steps, at, waits, children } = self;
        let (lease, at) = (*lease, *at);
        let mut transition = Transition::default();
        let lost = StateError::LeaseLost { task: lease.task, epoch: lease.epoch };
        let owned = tx.held(lease).await?.ok_or_else(|| lost.clone())?;
        let head = tx.head_at(owned.key).await?;
        if head.cancel {
            // What was finished is kept; it stops instead of waiting.
            let finished = &steps[..steps.len().saturating_sub(1)];
            append(tx, lease, &owned, finished).await?;
            tx.end(&head, End::cancelled(), at, &mut transition).await?;
            return Ok(transition);
        }
        append(tx, lease, &owned, steps).await?;
        let mut recorded_as = HashMap::with_capacity(children.len());
        for child in children {
            let recorded = record(tx, child).await?;
            recorded_as.insert(child.id(), recorded.id());
            transition.ready.extend(recorded.ready());
            failpoint::hit("C16");
        }
        // Whatever may be refused is, before others are woken for its places.
        let mut resolutions = Vec::with_capacity(waits.len());
        for wait in waits {
            resolutions.push(resolved(tx, &head, wait, &recorded_as, at).await?);
        }
        let sql = "UPDATE tasks SET status = 2, worker = NULL WHERE key = $1 AND status = 1 AND epoch = $2";
        if tx.execute(sqlx::query(sql).bind(head.key).bind(i64::from(lease.epoch))).await? != 1 {
            return Err(lost.into());
        }
        tx.end_lease(&head, at, &mut transition).await?;
        let head = Head { status: TaskStatus::Waiting, ..head };
        let mut open = 0;
        for (wait, resolution) in waits.iter().zip(resolutions) {
            if let Some(by) = resolution {
                let body = StepBody::Resolved { call_id: wait.call_id.clone(), by };
                tx.append_own(head.key, &body, at).await?;
            } else {
                insert(tx, head.key, wait, &recorded_as).await?;
                open += 1;
            }
        }
        if open == 0 {
            tx.queue(&head, None, at, &mut transition).await?;
        }
        Ok(transition)
    }

    async fn done_before(&self, tx: &mut Tx<'_>) -> Written<Option<Transition>> {
        let Some(parked) = self.steps.last() else { return Ok(None) };
        let Some(head) = tx.head(self.lease.task).await? else { return Ok(None) };
        let place = step_place(head.key, parked.seq);
        let sql = "SELECT 1 FROM steps WHERE place = $1 AND epoch = $2 AND enc = $3 AND body = $4";
        let step = sqlx::query(sql).bind(place).bind(i64::from(self.lease.epoch));
        let done = tx.exists(step.bind(parked.body.enc).bind(parked.body.bytes.as_slice())).await?;
        Ok(done.then(Transition::default))
    }
}

/// The sub-task that a wait means: a retried parent may name a sub-task by its key whose id is another.
fn child_of(wait: TaskId, recorded_as: &HashMap<TaskId, TaskId>) -> TaskId {
    recorded_as.get(&wait).copied().unwrap_or(wait)
}

/// How a wait is over before it begins.
async fn resolved(
    tx: &mut Tx<'_>,
    head: &Head,
    wait: &Wait,
    recorded_as: &HashMap<TaskId, TaskId>,
    at: Timestamp,
) -> Written<Option<Resolution>> {
    let by = match &wait.on {
        WaitFor::Child { task, .. } => {
            let child = child_of(*task, recorded_as);
            let child = tx.head(child).await?.ok_or(StateError::UnknownTask { task: child })?;
            if !child.status.is_terminal() {
                return Ok(None);
            }
            tx.execute(sqlx::query("UPDATE tasks SET told = true WHERE key = $1").bind(child.key)).await?;
            Some(Resolution::Child(tx.outcome(&child).await?))
        }
        on @ (WaitFor::Signal { .. } | WaitFor::Approval { .. } | WaitFor::Budget { .. }) => {
            take_early(tx, head.key, &on.signal(&wait.call_id).unwrap_or_default()).await?
        }
        WaitFor::Timer { at: due } => (*due <= at).then_some(Resolution::Timer),
    };
    Ok(by)
}

async fn insert(tx: &mut Tx<'_>, task_key: i64, wait: &Wait, recorded_as: &HashMap<TaskId, TaskId>) -> Written<()> {
    let (child, signal, timer_at) = match &wait.on {
        WaitFor::Child { task, .. } => (Some(child_of(*task, recorded_as)), None, None),
        on @ (WaitFor::Signal { .. } | WaitFor::Approval { .. } | WaitFor::Budget { .. }) => {
            (None, on.signal(&wait.call_id), None)
        }
        WaitFor::Timer { at } => (None, None, Some(micros(*at))),
    };
    let expires_at = wait.expires_at.map(micros);
    let due_at = timer_at.into_iter().chain(expires_at).min();
    let fallback = wait.default.as_ref().map(serde_json::to_string).transpose();
    let fallback = fallback.map_err(|error| corrupt("a default answer", error))?;
    let sql = "INSERT INTO waits (task_key, call_id, child, signal, timer_at, expires_at, due_at, fallback) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let insert = sqlx::query(sql)
        .bind(task_key)
        .bind(wait.call_id.as_str())
        .bind(child.map(|child| child.0))
        .bind(signal)
        .bind(timer_at)
        .bind(expires_at)
        .bind(due_at)
        .bind(fallback);
    tx.execute(insert).await?;
    Ok(())
}
