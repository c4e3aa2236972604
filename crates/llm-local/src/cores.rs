//! How many cores a computation takes.
//!
//! The library spreads every multiplication over a pool of threads that meet at a barrier hundreds of times a token and
//! spin until the last of them is there. When anything else runs on the machine (here the platform itself does) most of
//! the time goes into spinning: a small model is ten times slower on two busy cores than on one of them. So a small
//! model computes on one.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::utils::barrier_pool;

/// Runs `work` on one thread, with all that the library computes for it.
///
/// What a thread of the pool computes stays on it, so the work is handed to the first of them as if it were one
/// multiplication; meanwhile the caller sleeps and the others find nothing to do. One such work runs at a time in a
/// process. A panic of `work` is passed on.
pub(crate) fn on_one_core<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pool = barrier_pool();
    let caller = pool.n_workers();
    let result = Mutex::new(None);
    let (ended, wait) = channel::<()>();
    let (work, wait) = (Mutex::new(Some((work, ended))), Mutex::new(wait));
    pool.execute(|thread| {
        if thread == 0 {
            // The sender goes with the work: its end wakes the caller.
            if let Some((work, _ended)) = lock(&work).take() {
                // A panic must not pass through the pool, which could not be used again.
                let outcome = catch_unwind(AssertUnwindSafe(work));
                *lock(&result) = Some(outcome);
            }
        } else if thread == caller {
            let _ = lock(&wait).recv();
        }
    });
    let outcome = lock(&result).take().expect("the pool runs its first thread before it returns");
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_and_its_panic_comes_through() {
        assert_eq!(on_one_core(|| 6 * 7), 42);
        let panicked = std::panic::catch_unwind(|| on_one_core(|| panic!("broken")));
        assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"broken"));
        assert_eq!(on_one_core(|| 1), 1);
    }

    #[test]
    fn several_callers_take_turns() {
        let sum: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || on_one_core(|| n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(sum, 28);
    }
}
