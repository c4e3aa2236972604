//! The closed loop: so many flights at once, each one task after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::{AgentName, Clock};
use tokio::task::JoinSet;
use wire::SubmitTask;

use super::door::{Door, check};
use crate::exit::CommandError;

/// What the flights do.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) agent: AgentName,
    pub(super) prompt_bytes: usize,
    pub(super) answer_bytes: usize,
    pub(super) concurrency: usize,
    pub(super) clock: Arc<dyn Clock>,
}

/// What the flights measured.
#[derive(Debug, Default)]
pub(super) struct Flown {
    pub(super) elapsed: Duration,
    pub(super) submit: Vec<Duration>,
    pub(super) end_to_end: Vec<Duration>,
}

/// Flies `tasks` tasks, at most `plan.concurrency` at once. The first failure ends it.
pub(super) async fn fly(plan: &Plan, door: &Door, tasks: usize) -> Result<Flown, CommandError> {
    let taken = Arc::new(AtomicUsize::new(0));
    let start = plan.clock.monotonic();
    let mut flights = JoinSet::new();
    for _ in 0..plan.concurrency.min(tasks) {
        flights.spawn(flight(plan.clone(), door.clone(), Arc::clone(&taken), tasks));
    }
    let mut flown = Flown::default();
    while let Some(ended) = flights.join_next().await {
        let one = ended.map_err(|error| CommandError::failed(format!("a flight died: {error}")))??;
        flown.submit.extend(one.submit);
        flown.end_to_end.extend(one.end_to_end);
    }
    flown.elapsed = plan.clock.monotonic().saturating_sub(start);
    Ok(flown)
}

async fn flight(plan: Plan, door: Door, taken: Arc<AtomicUsize>, tasks: usize) -> Result<Flown, CommandError> {
    let mut flown = Flown::default();
    loop {
        let number = taken.fetch_add(1, Ordering::Relaxed);
        if number >= tasks {
            return Ok(flown);
        }
        let request = SubmitTask::new(plan.agent.clone(), prompt(number, plan.prompt_bytes));
        let begun = plan.clock.monotonic();
        let task = door.submit(request).await?;
        let submitted = plan.clock.monotonic();
        let view = door.finished(task).await?;
        let ended = plan.clock.monotonic();
        check(&view, plan.answer_bytes)?;
        flown.submit.push(submitted.saturating_sub(begun));
        flown.end_to_end.push(ended.saturating_sub(begun));
    }
}

/// A prompt of so many bytes that is like no other.
fn prompt(number: usize, bytes: usize) -> String {
    let mut prompt = format!("{number} ");
    prompt.extend(std::iter::repeat_n('p', bytes.saturating_sub(prompt.len())));
    prompt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_their_size_and_differ() {
        assert_eq!(prompt(7, 1024).len(), 1024);
        assert_ne!(prompt(1, 16), prompt(2, 16));
        assert_eq!(prompt(12, 1), "12 ");
    }
}
