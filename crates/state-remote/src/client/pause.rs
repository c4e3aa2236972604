//! How long to wait before the next try.

use std::time::Duration;

use domain::Ids;

/// The longest pause after the first try.
const FIRST: Duration = Duration::from_millis(20);
/// The longest pause at all: a restarted server is found soon, and a thousand waiting clients ask it 8 times a second each.
const LONGEST: Duration = Duration::from_millis(250);

/// Any time from zero to what doubles with every try, so that those who failed together do not come back together.
pub(super) fn full_jitter(attempt: u32, ids: &dyn Ids) -> Duration {
    let most = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
    let uuid = ids.uuid();
    let [.., a, b, c, d] = *uuid.as_bytes();
    most.mul_f64(f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX))
}
