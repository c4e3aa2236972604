//! The leases that are held, in memory.
//!
//! The data directory belongs to one process, and every lease dies with it: so renewals need no disk, and neither do the
//! facts that every step of a running task would otherwise look up. The record itself still decides each write: the
//! statements check status and epoch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{BudgetAccount, Lease, Namespace, TaskId, WorkerId};
use state::gates::Gates;
use state::{LeaseBeat, Renewed};

/// A held lease.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The task's row.
    pub(crate) key: i64,
    pub(crate) epoch: u32,
    pub(crate) worker: WorkerId,
    /// Counts up at every renewal.
    pub(crate) beat: u64,
    /// The task was asked to stop.
    pub(crate) cancel: bool,
    /// Leases lost without a step in between, as its row says.
    pub(crate) losses: u32,
    /// The number of its next step.
    pub(crate) next_seq: u32,
    /// It has a thread, a parent or sub-tasks, so that others hear of its end.
    pub(crate) related: bool,
    /// What its calls are paid from; none when nothing is counted.
    pub(crate) payer: Option<Arc<Payer>>,
    /// How many of its reservations are not settled.
    pub(crate) reserved: u32,
}

/// The accounts that a task's calls are paid from.
#[derive(Debug)]
pub(crate) struct Payer {
    pub(crate) namespace: Namespace,
    pub(crate) accounts: Vec<BudgetAccount>,
}

impl Payer {
    /// The payer of a task; none without accounts.
    pub(crate) fn of(namespace: &Namespace, accounts: &[BudgetAccount]) -> Option<Arc<Self>> {
        let payer = || Arc::new(Self { namespace: namespace.clone(), accounts: accounts.to_vec() });
        (!accounts.is_empty()).then(payer)
    }
}

/// All leases that are held.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<TaskId, Held>>,
    gates: Mutex<Gates>,
}

impl Leases {
    /// Finds the task of a lease that is still held.
    pub(crate) fn get(&self, lease: Lease) -> Option<Held> {
        self.lock().get(&lease.task).filter(|held| held.epoch == lease.epoch).cloned()
    }

    pub(crate) fn insert(&self, task: TaskId, held: Held) {
        self.lock().insert(task, held);
    }

    pub(crate) fn remove(&self, task: TaskId) -> Option<Held> {
        self.lock().remove(&task)
    }

    /// Changes what is known of a held task.
    pub(crate) fn update(&self, task: TaskId, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.lock().get_mut(&task) {
            change(held);
        }
    }

    /// Replaces all, after a rollback took back what was known.
    pub(crate) fn replace(&self, all: HashMap<TaskId, Held>) {
        *self.lock() = all;
    }

    /// Counts a worker's renewals; says which leases it has lost or should give up.
    pub(crate) fn renew(&self, worker: WorkerId, leases: Vec<Lease>) -> Renewed {
        let mut all = self.lock();
        let mut renewed = Renewed::default();
        for lease in leases {
            match all.get_mut(&lease.task) {
                Some(held) if held.epoch == lease.epoch && held.worker == worker => {
                    held.beat += 1;
                    if held.cancel {
                        renewed.cancel.push(lease);
                    }
                }
                _ => renewed.lost.push(lease),
            }
        }
        renewed
    }

    /// Lists all.
    pub(crate) fn list(&self) -> Vec<LeaseBeat> {
        let all = self.lock();
        let beat = |(task, held): (&TaskId, &Held)| LeaseBeat {
            lease: Lease { task: *task, epoch: held.epoch },
            worker: held.worker,
            beat: held.beat,
        };
        all.iter().map(beat).collect()
    }

    /// The gates that the tasks of leases go through.
    pub(crate) fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
