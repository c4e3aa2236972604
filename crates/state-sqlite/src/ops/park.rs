//! A task begins to wait and releases its worker.

use std::collections::HashMap;

use domain::{Lease, Resolution, StepBody, TaskId, TaskStatus, Timestamp, Wait, WaitFor};
use rusqlite::params;
use state::{Park, StateError, Transition};

use super::append::{append, held};
use super::signal::take_early;
use super::submit::{NewRow, record};
use crate::fault::Written;
use crate::rows::Head;
use crate::tx::{EncodedStep, End, Tx};
use crate::writer::Write;
use state::codec::{corrupt, micros};

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

impl Write for ParkTask {
    type Output = Transition;

    fn apply(self, tx: &Tx<'_>) -> Written<Transition> {
        let Self { lease, mut steps, at, waits, children } = self;
        let mut transition = Transition::default();
        let owned = held(tx, lease)?;
        let head = tx.head_at(owned.key)?;
        if head.cancel {
            // What was finished is kept; it stops instead of waiting.
            steps.pop();
            append(tx, lease, &owned, &steps)?;
            tx.end(&head, End::cancelled(), at, &mut transition)?;
            return Ok(transition);
        }
        append(tx, lease, &owned, &steps)?;
        let mut recorded_as = HashMap::with_capacity(children.len());
        for child in children {
            let wanted = child.id();
            let recorded = record(tx, child)?;
            recorded_as.insert(wanted, recorded.id());
            transition.ready.extend(recorded.ready());
            failpoint::hit("C16");
        }
        let sql = "UPDATE tasks SET status = 2, worker = NULL WHERE key = ?1 AND status = 1 AND epoch = ?2";
        if tx.execute(sql, params![head.key, lease.epoch])? != 1 {
            return Err(StateError::LeaseLost { task: lease.task, epoch: lease.epoch }.into());
        }
        tx.end_lease(lease.task, at, &mut transition)?;
        let head = Head { status: TaskStatus::Waiting, ..head };
        let mut open = 0;
        for wait in &waits {
            if let Some(by) = resolved(tx, &head, wait, &recorded_as, at)? {
                let body = StepBody::Resolved { call_id: wait.call_id.clone(), by };
                tx.append_own(head.key, &body, at)?;
            } else {
                insert(tx, head.key, wait, &recorded_as)?;
                open += 1;
            }
        }
        if open == 0 {
            tx.queue(&head, None, at, &mut transition)?;
        }
        Ok(transition)
    }
}

/// The sub-task that a wait means: a retried parent may name a sub-task by its key whose id is another.
fn child_of(wait: TaskId, recorded_as: &HashMap<TaskId, TaskId>) -> TaskId {
    recorded_as.get(&wait).copied().unwrap_or(wait)
}

/// How a wait is over before it begins.
fn resolved(
    tx: &Tx<'_>,
    head: &Head,
    wait: &Wait,
    recorded_as: &HashMap<TaskId, TaskId>,
    at: Timestamp,
) -> Written<Option<Resolution>> {
    let by = match &wait.on {
        WaitFor::Child { task, .. } => {
            let child = child_of(*task, recorded_as);
            let child = tx.head(child)?.ok_or(StateError::UnknownTask { task: child })?;
            if !child.status.is_terminal() {
                return Ok(None);
            }
            tx.execute("UPDATE tasks SET told = 1 WHERE key = ?1", params![child.key])?;
            Some(Resolution::Child(tx.outcome(&child)?))
        }
        on @ (WaitFor::Signal { .. } | WaitFor::Approval { .. } | WaitFor::Budget { .. }) => {
            take_early(tx, head.key, &on.signal(&wait.call_id).unwrap_or_default())?
        }
        WaitFor::Timer { at: due } => (*due <= at).then_some(Resolution::Timer),
    };
    Ok(by)
}

fn insert(tx: &Tx<'_>, task_key: i64, wait: &Wait, recorded_as: &HashMap<TaskId, TaskId>) -> Written<()> {
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
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let child = child.as_ref().map(|child| child.0.as_bytes());
    tx.execute(sql, params![task_key, wait.call_id, child, signal, timer_at, expires_at, due_at, fallback])?;
    Ok(())
}
