//! Appends finished steps to the journal of a task that its writer still holds.

use domain::{Amount, Lease, StepBody};
use rusqlite::params;
use state::{NewStep, StateError};

use super::budget::settle_by_step;
use crate::fault::Written;
use crate::leases::Held;
use crate::rows;
use crate::tx::{EncodedStep, Tx};
use crate::writer::Write;
use state::codec::{Body, STEPS_MAX, WORKER_STEPS_MAX, micros, step_place};

/// Appends steps under a lease.
pub(crate) struct Append {
    pub(crate) lease: Lease,
    pub(crate) steps: Vec<EncodedStep>,
}

impl EncodedStep {
    /// Encodes a step on the time of whoever appends it.
    pub(crate) fn encode(step: &NewStep, threshold: usize) -> Result<Self, StateError> {
        Self::of(step.seq, micros(step.at), &step.body, threshold)
    }

    /// Encodes several.
    pub(crate) fn encode_all(steps: &[NewStep], threshold: usize) -> Result<Vec<Self>, StateError> {
        steps.iter().map(|step| Self::encode(step, threshold)).collect()
    }

    /// Encodes a body.
    pub(crate) fn of(seq: u32, at: i64, body: &StepBody, threshold: usize) -> Result<Self, StateError> {
        if seq >= WORKER_STEPS_MAX {
            return Err(StateError::TooLarge(format!("a journal has at most {STEPS_MAX} steps")));
        }
        let used = match body {
            StepBody::Model(model) => {
                Some(Amount { usd: model.usage.cost, tokens: model.usage.total(), ..Amount::default() })
            }
            _ => None,
        };
        Ok(Self { seq, at, body: Body::encode(body, threshold, "a step")?, used })
    }
}

impl Write for Append {
    type Output = ();

    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        false
    }

    fn apply(self, tx: &Tx<'_>) -> Written<()> {
        let held = held(tx, self.lease)?;
        append(tx, self.lease, &held, &self.steps)?;
        Ok(())
    }
}

/// The task of a lease, or the refusal of a writer that has lost it.
pub(crate) fn held(tx: &Tx<'_>, lease: Lease) -> Written<Held> {
    let lost = StateError::LeaseLost { task: lease.task, epoch: lease.epoch };
    Ok(tx.leases.get(lease).ok_or(lost)?)
}

/// Appends steps; those that are there already must be the same. Returns the number of the next one.
pub(crate) fn append(tx: &Tx<'_>, lease: Lease, held: &Held, steps: &[EncodedStep]) -> Written<u32> {
    // All is checked before anything is written.
    let mut next = held.next_seq;
    for step in steps {
        if step.seq == next {
            next += 1;
        } else if step.seq >= held.next_seq || !is_stored(tx, held.key, step)? {
            return Err(StateError::StepConflict { task: lease.task, seq: step.seq }.into());
        }
    }
    if next == held.next_seq {
        return Ok(next);
    }
    let sql = "INSERT INTO steps (place, epoch, at, enc, body) SELECT ?1, ?2, ?3, ?4, ?5 \
         WHERE EXISTS (SELECT 1 FROM tasks WHERE key = ?6 AND status = 1 AND epoch = ?2)";
    let mut insert = tx.statement(sql)?;
    let mut seq = held.next_seq;
    for step in steps {
        if step.seq != seq {
            continue;
        }
        let EncodedStep { at, body, used, .. } = step;
        let inserted =
            insert.execute(params![step_place(held.key, seq), lease.epoch, at, body.enc, body.bytes, held.key])?;
        if inserted == 0 {
            tx.leases.remove(lease.task);
            return Err(StateError::LeaseLost { task: lease.task, epoch: lease.epoch }.into());
        }
        if held.reserved > 0
            && let Some(used) = used
        {
            settle_by_step(tx, lease, held.key, seq, *used)?;
        }
        seq += 1;
    }
    if held.losses > 0 {
        tx.execute("UPDATE tasks SET losses = 0 WHERE key = ?1", params![held.key])?;
    }
    tx.leases.update(lease.task, |held| {
        held.next_seq = seq;
        held.losses = 0;
    });
    Ok(seq)
}

fn is_stored(tx: &Tx<'_>, task_key: i64, step: &EncodedStep) -> Written<bool> {
    let mut statement = tx.statement("SELECT enc, body FROM steps WHERE place = ?1")?;
    let stored = statement.query_row(params![step_place(task_key, step.seq)], |row| Ok(rows::body(row, 0)))??;
    same(&stored, &step.body)
}

/// Compares what two bodies say, not how they are encoded.
fn same(stored: &Body, given: &Body) -> Written<bool> {
    if stored == given {
        return Ok(true);
    }
    Ok(stored.decode::<StepBody>("a step")? == given.decode::<StepBody>("a step")?)
}
