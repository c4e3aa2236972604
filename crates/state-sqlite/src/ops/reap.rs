//! Takes leases away that nobody renewed.

use domain::Timestamp;
use state::{LeaseBeat, Transition};

use crate::fault::Written;
use crate::recovery::lose;
use crate::tx::Tx;
use crate::writer::Write;

/// Reaps these leases, unless they were renewed after they were read.
pub(crate) struct Reap {
    pub(crate) leases: Vec<LeaseBeat>,
    pub(crate) max_losses: u32,
    pub(crate) now: Timestamp,
}

impl Write for Reap {
    type Output = Transition;

    fn apply(self, tx: &Tx<'_>) -> Written<Transition> {
        let mut transition = Transition::default();
        for beat in self.leases {
            let held = tx.leases.get(beat.lease);
            let Some(owned) = held.filter(|held| held.beat == beat.beat && held.worker == beat.worker) else {
                continue;
            };
            failpoint::hit("C27");
            let head = tx.head_at(owned.key)?;
            lose(tx, &head, self.max_losses, self.now, &mut transition)?;
        }
        Ok(transition)
    }
}
