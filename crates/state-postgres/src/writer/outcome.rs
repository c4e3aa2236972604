//! What becomes of a batch that was not committed, and of one of which nobody knows whether it was.
//!
//! A connection that is lost *before* the commit has taken its transaction with it: the batch is simply tried again. When it
//! is lost *during* the commit, the operations are run again on another connection, each of them after `Write::done_before`
//! has looked by key whether it had been done. The old transaction, should the server still be at it, holds its locks, so
//! whoever looks waits for its end. What each operation finds then:
//!
//! | operation | how it knows that it had been done | what it answers |
//! |---|---|---|
//! | submit | its id is recorded with its digest | the task, `created: true` |
//! | claim | it cannot know: another claim of the same worker would look the same | `None`; the lease that nobody renews is reaped |
//! | append, reserve | the steps are in the journal, the reservation is open | as ever: the same again is accepted |
//! | settle | nothing is reserved any more | as ever: ignored |
//! | finish | the task has ended under this epoch with this outcome | an empty transition |
//! | park, fail_attempt | its own step is in the journal at its number, with its epoch | an empty transition |
//! | release | the epoch is still its own and no worker holds the task | an empty transition |
//! | retry | the task is queued, and `Retried` is its last step | an empty transition |
//! | cancel | the task has ended as cancelled | the task, an empty transition |
//! | signal | its key is known; one without a key is not sent again | as ever, or `Unavailable` |
//! | put_value | the value is there with this time and this body | the value |
//! | delete_value | it cannot know | whether there was one to delete this time |
//! | put_artifact, reap, due, expire, purge | doing it again changes nothing twice | as ever |
//!
//! A transition that is lost in this way costs time only: `due` returns the same tasks again.

use state::StateError;

/// Why a batch was not committed.
#[derive(Debug)]
pub(super) enum Failed {
    /// PostgreSQL refused a statement, and will again.
    Refused(StateError),
    /// Others were in the way, time and again.
    Contended(StateError),
    /// There is no connection.
    Unreachable(StateError),
}
