//! What a fast batch does: which of its operations are plain, and what they change together.

use std::collections::{HashMap, HashSet};

use domain::{Lease, TaskId};
use sqlx::PgConnection;
use state::Claim;

use super::fast::FastJob;
use super::sets::{self, Changes, Ending, Locked, Owned};
use crate::fault::Written;
use crate::ops::claim::{given, is_timely};
use crate::ops::{FinishTask, NewRow, RawClaimed};
use crate::tx::EncodedStep;
use state::codec::{micros, step_place};

/// What is answered after the commit.
pub(super) enum Answer {
    /// It was done.
    Done,
    /// What a claim found.
    Claimed(Option<Box<RawClaimed>>),
}

/// A batch on its way through the transaction.
pub(super) struct Plan<'a> {
    batch: &'a [FastJob],
    /// One for each operation; none when it is not plain.
    pub(super) answers: Vec<Option<Answer>>,
    /// The operations to be looked at: the first of each task.
    open: Vec<usize>,
    locked: Locked,
    new: Vec<(usize, &'a NewRow)>,
    claimed: Vec<(usize, i64)>,
    changes: Changes<'a>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(batch: &'a [FastJob]) -> Self {
        // A second operation on one task would have to see what the first one did.
        let mut seen = HashSet::with_capacity(batch.len());
        let mut keys = HashSet::new();
        let mut first = |job: &'a FastJob| match job {
            FastJob::Submit { row, .. } => {
                let task = &row.task;
                let key = task.idempotency_key.as_ref().map(|key| (&task.namespace, key));
                seen.insert(task.id) && key.is_none_or(|key| keys.insert(key))
            }
            FastJob::Claim { claim, .. } => seen.insert(claim.task),
            FastJob::Append { append, .. } => seen.insert(append.lease.task),
            FastJob::Reserve { call, .. } => seen.insert(call.lease.task),
            FastJob::Finish { finish, .. } => seen.insert(finish.lease.task),
        };
        let open = batch.iter().enumerate().filter(|(_, job)| first(job)).map(|(index, _)| index).collect();
        Self {
            batch,
            answers: batch.iter().map(|_| None).collect(),
            open,
            locked: Locked::default(),
            new: Vec::new(),
            claimed: Vec::new(),
            changes: Changes::default(),
        }
    }

    /// Locks and reads the tasks that the batch is about. What others have locked is missing: it is not plain.
    pub(super) async fn look(&mut self, conn: &mut PgConnection) -> Written<()> {
        let (mut claimed, mut written) = (Vec::new(), Vec::new());
        for index in &self.open {
            match &self.batch[*index] {
                FastJob::Submit { .. } => {}
                FastJob::Claim { claim, .. } => claimed.push(claim.task.0),
                FastJob::Append { append, .. } => written.push(append.lease.task.0),
                FastJob::Reserve { call, .. } => written.push(call.lease.task.0),
                FastJob::Finish { finish, .. } => written.push(finish.lease.task.0),
            }
        }
        self.locked = sets::lock(conn, &claimed, &written).await?;
        Ok(())
    }

    /// Decides what is plain and what it changes.
    pub(super) fn decide(&mut self) {
        for index in std::mem::take(&mut self.open) {
            let answer = match &self.batch[index] {
                FastJob::Submit { row, .. } => {
                    if row.task.thread.is_none() && row.task.parent.is_none() {
                        self.new.push((index, row));
                    }
                    None
                }
                FastJob::Claim { claim, .. } => self.claim(index, claim),
                FastJob::Append { append, .. } => self.append(append.lease, &append.steps, false),
                FastJob::Reserve { call, .. } => self.append(call.lease, &call.steps, true),
                FastJob::Finish { finish, .. } => self.finish(finish),
            };
            self.answers[index] = answer;
        }
    }

    fn claim(&mut self, index: usize, claim: &Claim) -> Option<Answer> {
        let row = self.locked.tasks.get(&claim.task)?;
        if !is_timely(&row.task, claim) {
            return Some(Answer::Claimed(None));
        }
        if row.thread_key.is_some() || !row.task.terms.gates.is_empty() {
            return None;
        }
        self.changes.leases.push((row.key, claim.worker.0, micros(claim.now)));
        self.claimed.push((index, row.key));
        None
    }

    /// Appends steps, when none of them settles a reservation and all of them are new.
    fn append(&mut self, lease: Lease, steps: &'a [EncodedStep], reserves: bool) -> Option<Answer> {
        let owned = held(&self.locked.owned, lease)?;
        let settles = owned.has_accounts && (reserves || steps.iter().any(|step| step.used.is_some()));
        if settles || !follow(owned, steps) {
            return None;
        }
        for step in steps {
            self.changes.steps.push(step_place(owned.key, step.seq), lease.epoch, step.at, &step.body);
        }
        if owned.losses > 0 && !steps.is_empty() {
            self.changes.losses.push(owned.key);
        }
        Some(Answer::Done)
    }

    fn finish(&mut self, finish: &'a FinishTask) -> Option<Answer> {
        let owned = held(&self.locked.owned, finish.lease)?;
        if owned.related || owned.has_terms {
            return None;
        }
        let key = owned.key;
        let answer = self.append(finish.lease, &finish.steps, false)?;
        let forget = self.changes.losses.pop_if(|last| *last == key).is_some();
        self.changes.ends.push(Ending {
            key,
            status: finish.status,
            failure: finish.failure.as_ref(),
            usage: finish.usage,
            at: micros(finish.at),
            forget,
        });
        Some(answer)
    }

    /// Changes the rows. New tasks whose key or id is known are not plain.
    pub(super) async fn write(&mut self, conn: &mut PgConnection) -> Written<()> {
        let new: Vec<&NewRow> = self.new.iter().map(|(_, row)| *row).collect();
        let known = sets::take_keys(conn, &new).await?;
        let mut changes = std::mem::take(&mut self.changes);
        changes.new = new.into_iter().filter(|row| !known.contains(&row.task.id)).collect();
        let (wanted, ends) = (changes.new.clone(), changes.ends.len());
        let created = sets::write(conn, changes).await?;
        for row in wanted.into_iter().filter(|row| !created.contains(&row.task.id)) {
            sets::give_back_key(conn, row).await?;
        }
        for (index, row) in std::mem::take(&mut self.new) {
            if created.contains(&row.task.id) {
                self.answers[index] = Some(Answer::Done);
                failpoint::hit("C02");
            }
        }
        for (index, key) in std::mem::take(&mut self.claimed) {
            let FastJob::Claim { claim, .. } = &self.batch[index] else { continue };
            let Some(row) = self.locked.tasks.remove(&claim.task) else { continue };
            let steps = self.locked.journals.remove(&key).unwrap_or_default();
            let claimed = RawClaimed { task: given(row.task, claim), steps, thread: Vec::new() };
            self.answers[index] = Some(Answer::Claimed(Some(Box::new(claimed))));
            failpoint::hit("C10");
        }
        for _ in 0..ends {
            failpoint::hit("C17");
        }
        Ok(())
    }
}

/// The task of a lease that is still held.
fn held(owned: &HashMap<TaskId, Owned>, lease: Lease) -> Option<&Owned> {
    owned.get(&lease.task).filter(|owned| owned.running && owned.epoch == lease.epoch)
}

/// Tells whether steps are the next ones of a journal.
fn follow(owned: &Owned, steps: &[EncodedStep]) -> bool {
    (owned.next_seq..).zip(steps).all(|(seq, step)| step.seq == seq)
}
