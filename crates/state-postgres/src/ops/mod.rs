//! The operations that write, one a file: each says what must hold, then changes rows.

mod append;
pub(crate) mod artifacts;
mod attempt;
pub(crate) mod budget;
pub(crate) mod claim;
mod due;
mod expire;
mod finish;
pub(crate) mod gates;
mod park;
mod purge;
mod reap;
pub(crate) mod renew;
mod signal;
mod stop;
pub(crate) mod submit;
mod values;

pub(crate) use append::Append;
pub(crate) use artifacts::PutArtifact;
pub(crate) use attempt::{FailAttempt, Release};
pub(crate) use budget::{ReserveCall, Settle};
pub(crate) use claim::{ClaimTask, RawClaimed};
pub(crate) use due::FindDue;
pub(crate) use expire::Expire;
pub(crate) use finish::FinishTask;
pub(crate) use park::ParkTask;
pub(crate) use purge::Purge;
pub(crate) use reap::Reap;
pub(crate) use signal::SendSignal;
pub(crate) use stop::{CancelTask, RetryTask};
pub(crate) use submit::{NewRow, Submit};
pub(crate) use values::{DeleteValue, PutValue};
