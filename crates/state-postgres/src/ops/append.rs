//! Appends finished steps to the journal of a task that its writer still holds.

use async_trait::async_trait;
use domain::{Amount, Lease, StepBody};
use state::{NewStep, StateError};

use super::budget::settle_by_step;
use crate::fault::Written;
use crate::rows;
use crate::tx::{EncodedStep, Held, Tx};
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

#[async_trait]
impl Write for Append {
    type Output = ();

    fn guarded(&self) -> bool {
        false
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<()> {
        let held = held(tx, self.lease).await?;
        append(tx, self.lease, &held, &self.steps).await?;
        Ok(())
    }
}

/// The task of a lease, or the refusal of a writer that has lost it.
pub(crate) async fn held(tx: &mut Tx<'_>, lease: Lease) -> Written<Held> {
    let lost = StateError::LeaseLost { task: lease.task, epoch: lease.epoch };
    Ok(tx.held(lease).await?.ok_or(lost)?)
}

/// Appends steps; those that are there already must be the same. Returns the number of the next one.
pub(crate) async fn append(tx: &mut Tx<'_>, lease: Lease, held: &Held, steps: &[EncodedStep]) -> Written<u32> {
    // All is checked before anything is written.
    let mut next = held.next_seq;
    for step in steps {
        if step.seq == next {
            next += 1;
        } else if step.seq >= held.next_seq || !is_stored(tx, held.key, step).await? {
            return Err(StateError::StepConflict { task: lease.task, seq: step.seq }.into());
        }
    }
    let sql = "INSERT INTO steps (place, epoch, at, enc, body) VALUES ($1, $2, $3, $4, $5)";
    let mut seq = held.next_seq;
    for step in steps {
        if step.seq != seq {
            continue;
        }
        let EncodedStep { at, body, used, .. } = step;
        let insert = sqlx::query(sql).bind(step_place(held.key, seq)).bind(i64::from(lease.epoch)).bind(at);
        tx.execute(insert.bind(body.enc).bind(&body.bytes)).await?;
        if held.has_accounts
            && let Some(used) = used
        {
            settle_by_step(tx, held.key, seq, *used).await?;
        }
        seq += 1;
    }
    if held.losses > 0 && seq > held.next_seq {
        tx.execute(sqlx::query("UPDATE tasks SET losses = 0 WHERE key = $1").bind(held.key)).await?;
    }
    Ok(seq)
}

async fn is_stored(tx: &mut Tx<'_>, task_key: i64, step: &EncodedStep) -> Written<bool> {
    let found = sqlx::query("SELECT enc, body FROM steps WHERE place = $1").bind(step_place(task_key, step.seq));
    let stored = rows::body(&found.fetch_one(&mut *tx.conn).await?, 0)?;
    same(&stored, &step.body)
}

/// Compares what two bodies say, not how they are encoded.
fn same(stored: &Body, given: &Body) -> Written<bool> {
    if stored == given {
        return Ok(true);
    }
    Ok(stored.decode::<StepBody>("a step")? == given.decode::<StepBody>("a step")?)
}
