//! Named points of a task's life at which a test can make this very process die or fall silent.
//!
//! `FAILPOINT=C14:kill:2` kills the process, without any destructor, at the second time that it passes `C14`;
//! `term` sends SIGTERM instead, as an orderly stop would, and goes on; `C20:skip:15` has what stands at `C20` left out the
//! first fifteen times. Several plans are separated by commas. Without the feature `enabled` a point is nothing at all.

/// Passes a point; dies here if the environment says so.
#[cfg(not(feature = "enabled"))]
#[inline]
pub fn hit(_point: &'static str) {}

/// Tells whether what stands at a point is to be left out this time.
#[cfg(not(feature = "enabled"))]
#[inline]
pub fn skip(_point: &'static str) -> bool {
    false
}

/// Tells whether what stands at a point is to be left out this time.
#[cfg(feature = "enabled")]
pub fn skip(point: &'static str) -> bool {
    armed::skip(point)
}

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

    enum Action {
        Kill,
        Term,
        Skip,
    }

    struct Plan {
        point: String,
        action: Action,
        at: u32,
        passed: AtomicU32,
    }

    fn plans() -> &'static [Plan] {
        static PLANS: OnceLock<Vec<Plan>> = OnceLock::new();
        PLANS.get_or_init(|| {
            let text = std::env::var("FAILPOINT").unwrap_or_default();
            text.split(',').filter(|plan| !plan.is_empty()).filter_map(parse).collect()
        })
    }

    fn parse(text: &str) -> Option<Plan> {
        let mut parts = text.split(':');
        let point = parts.next()?.to_owned();
        let action = match parts.next()? {
            "kill" => Action::Kill,
            "term" => Action::Term,
            "skip" => Action::Skip,
            _ => return None,
        };
        let at = parts.next().and_then(|at| at.parse().ok()).unwrap_or(1);
        Some(Plan { point, action, at, passed: AtomicU32::new(0) })
    }

    pub(crate) fn hit(point: &'static str) {
        let at_point = |plan: &&Plan| plan.point == point && !matches!(plan.action, Action::Skip);
        for plan in plans().iter().filter(at_point) {
            if plan.passed.fetch_add(1, Ordering::SeqCst) + 1 == plan.at {
                act(plan, point);
            }
        }
    }

    pub(crate) fn skip(point: &'static str) -> bool {
        let at_point = |plan: &&Plan| plan.point == point && matches!(plan.action, Action::Skip);
        plans().iter().find(at_point).is_some_and(|plan| plan.passed.fetch_add(1, Ordering::SeqCst) < plan.at)
    }

    fn act(plan: &Plan, point: &str) {
        // The harness reads this line to know that the point was reached at all.
        eprintln!("failpoint {point} reached");
        match plan.action {
            Action::Skip => {}
            Action::Term => {
                let _ = kill_process(getpid(), Signal::TERM);
            }
            Action::Kill => {
                let _ = kill_process(getpid(), Signal::KILL);
                loop {
                    std::thread::park();
                }
            }
        }
    }
}
