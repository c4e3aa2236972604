//! Group commit: what arrives while a commit is under way forms the next batch, and a batch is one transaction.
//!
//! Two kinds of lanes share the work. The *fast* lanes take what every task does (submit, claim, append, finish) in
//! set-based statements, as long as nothing but the task itself is concerned. The *full* lane knows all rules, does one
//! operation after another, and is where the fast lanes send whatever is not plain. So the fast lanes only save time.
//!
//! Locks: a full batch that concerns more than one row of its own locks the table `books` first, so that one such batch
//! runs at a time in all processes together. A fast batch never waits for a task's row: it skips what is locked and hands
//! it over. A renewal waits for one row at a time while it holds none. So nobody waits in a circle but for unique keys,
//! and what PostgreSQL breaks there is tried again.

mod fast;
mod full;
mod outcome;
mod plan;
mod sets;

use async_trait::async_trait;
use state::StateError;
use tokio::sync::oneshot;

use crate::fault::Written;
use crate::tx::Tx;

pub(crate) use fast::{FastJob, FastLanes};
pub(crate) use full::FullLane;

/// One operation that writes. It is applied by reference: a batch may be tried again.
#[async_trait]
pub(crate) trait Write: Send + Sync + 'static {
    /// What it answers.
    type Output: Send + 'static;

    /// Tells whether it may be refused after it has written something, which is then undone.
    fn guarded(&self) -> bool {
        true
    }

    /// Tells whether it concerns more than a row of its own: other tasks, a thread, gates or accounts.
    fn locks_books(&self) -> bool {
        true
    }

    /// Does it, inside the open transaction.
    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Self::Output>;

    /// Tells what it had answered, when the connection was lost during an earlier commit and it had been done then.
    ///
    /// Needed only where doing it again would be refused or would count twice; `outcome` lists them all.
    async fn done_before(&self, _tx: &mut Tx<'_>) -> Written<Option<Self::Output>> {
        Ok(None)
    }
}

/// An operation with the one who waits for it.
struct Job<W: Write> {
    write: W,
    reply: oneshot::Sender<Result<W::Output, StateError>>,
    result: Option<Result<W::Output, StateError>>,
}
