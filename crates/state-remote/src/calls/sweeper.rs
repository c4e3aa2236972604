//! What the loops call that heal the record and keep it small.

use std::time::Duration;

use domain::Timestamp;
use state::{ExpireOutcome, LeaseBeat, Purged, Retention, Transition};

crate::call::calls! {
    Due { now: Timestamp, reannounce: Duration, limit: u32 } -> state::Due,
        DUE, limit limit => |state| state.due(now, reannounce, limit);
    Leases {} -> Vec<LeaseBeat>,
        LEASES => |state| state.leases();
    Reap { leases: Vec<LeaseBeat>, max_losses: u32, now: Timestamp } -> Transition,
        REAP => |state| state.reap(leases, max_losses, now);
    Expire { now: Timestamp, limit: u32 } -> ExpireOutcome,
        EXPIRE, limit limit => |state| state.expire(now, limit);
    Purge { retention: Retention, now: Timestamp, limit: u32 } -> Purged,
        PURGE, limit limit => |state| state.purge(retention, now, limit);
}
