//! Named points of a task's life at which a test can make this very process die.
//!
//! `FAILPOINT=C14:kill:2` kills the process, without any destructor, at the second time that it passes `C14`;
//! `term` instead of `kill` sends SIGTERM, as an orderly stop would, and goes on. Without the feature `enabled`
//! a point is nothing at all.

/// Passes a point; dies here if the environment says so.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn hit(_point: &'static str) {}

/// Passes a point; dies here if the environment says so.
#[cfg(feature = "enabled")]
pub fn hit(point: &'static str) {
    armed::hit(point);
}

#[cfg(feature = "enabled")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    struct Plan {
        point: String,
        signal: Signal,
        at: u32,
        passed: AtomicU32,
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(|| {
            let text = std::env::var("FAILPOINT").ok()?;
            let mut parts = text.split(':');
            let point = parts.next()?.to_owned();
            let signal = if parts.next() == Some("term") { Signal::TERM } else { Signal::KILL };
            let at = parts.next().and_then(|at| at.parse().ok()).unwrap_or(1);
            Some(Plan { point, signal, at, passed: AtomicU32::new(0) })
        })
        .as_ref()
    }

    pub(crate) fn hit(point: &'static str) {
        let Some(plan) = plan() else { return };
        if plan.point != point || plan.passed.fetch_add(1, Ordering::SeqCst) + 1 != plan.at {
            return;
        }
        // The harness reads this line to know that the point was reached at all.
        eprintln!("failpoint {point} reached");
        let _ = kill_process(getpid(), plan.signal);
        if plan.signal == Signal::KILL {
            loop {
                std::thread::park();
            }
        }
    }
}
