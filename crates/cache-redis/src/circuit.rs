//! Leaves a Redis alone that failed a few times in a row: nobody is to wait for it again and again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row open the circuit.
const FAILURES: u32 = 3;
/// For how long.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether Redis is asked or left alone.
#[derive(Default)]
pub(crate) struct Circuit {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    failures: u32,
    open: Option<Open>,
}

struct Open {
    until: Instant,
    reason: String,
}

impl Circuit {
    /// Lets a question through, or says why not. After the pause one is let through, and a pause later another, until one
    /// succeeds.
    pub(crate) fn admit(&self) -> Result<(), String> {
        let now = Instant::now();
        match &mut self.lock().open {
            Some(open) if now < open.until => Err(format!("left alone for a moment: {}", open.reason)),
            Some(open) => {
                open.until = now + PAUSE;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn failed(&self, reason: &str) {
        let mut inner = self.lock();
        inner.failures = inner.failures.saturating_add(1);
        if inner.failures < FAILURES {
            return;
        }
        if inner.open.is_none() {
            tracing::warn!(reason, "cache unavailable, going on without");
            metrics::gauge!("cache_circuit_open").set(1.0);
        }
        inner.open = Some(Open { until: Instant::now() + PAUSE, reason: reason.to_owned() });
    }

    pub(crate) fn succeeded(&self) {
        let mut inner = self.lock();
        inner.failures = 0;
        if inner.open.take().is_some() {
            tracing::info!("cache available again");
            metrics::gauge!("cache_circuit_open").set(0.0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_three_failures_one_question_a_second_passes() {
        let circuit = Circuit::default();
        for _ in 0..3 {
            assert!(circuit.admit().is_ok());
            circuit.failed("gone");
        }
        assert!(circuit.admit().unwrap_err().contains("gone"));
        tokio::time::advance(PAUSE).await;
        assert!(circuit.admit().is_ok());
        assert!(circuit.admit().is_err(), "one is enough to find out");
        circuit.failed("still gone");
        assert!(circuit.admit().is_err());
        tokio::time::advance(PAUSE).await;
        assert!(circuit.admit().is_ok());
        circuit.succeeded();
        assert!(circuit.admit().is_ok() && circuit.admit().is_ok());
    }
}
