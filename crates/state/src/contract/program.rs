//! Random programs of operations, against the rules that hold for all of them.
//!
//! The model knows only statuses, epochs and journals' lengths: every status path is one that `TaskStatus::may_become`
//! allows (a person's retry begins a new life), a task ends once a life, epochs only grow, journals have no gap and never
//! change what they said, and nothing is left that nobody will ever hand out.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Lease, Step, TaskId, TaskStatus};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::Run;
use super::world::{MANY, World, failure, wait_child, wait_signal, wait_timer};
use crate::{AttemptFailed, Outcome, StateError};

pub(super) const CASES: &[(&str, Run)] = &[("no_program_of_operations_breaks_a_tasks_life", |w| Box::pin(programs(w)))];

/// How many programs are tried.
const PROGRAMS: usize = 48;
/// The longest program.
const LENGTH: usize = 60;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Submit { thread: bool, delayed: bool },
    Claim(usize),
    Append(usize),
    AppendOld(usize),
    Succeed(usize),
    Fail(usize),
    FailAttempt(usize),
    Release(usize),
    ParkTimer(usize),
    ParkSignal(usize),
    ParkChild(usize),
    Signal(usize),
    Cancel(usize),
    Retry(usize, bool),
    Reap,
    Sleep,
}

fn operation() -> impl Strategy<Value = Operation> {
    let pick = 0..12_usize;
    prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(thread, delayed)| Operation::Submit { thread, delayed }),
        6 => pick.clone().prop_map(Operation::Claim),
        4 => pick.clone().prop_map(Operation::Append),
        1 => pick.clone().prop_map(Operation::AppendOld),
        2 => pick.clone().prop_map(Operation::Succeed),
        1 => pick.clone().prop_map(Operation::Fail),
        1 => pick.clone().prop_map(Operation::FailAttempt),
        1 => pick.clone().prop_map(Operation::Release),
        1 => pick.clone().prop_map(Operation::ParkTimer),
        1 => pick.clone().prop_map(Operation::ParkSignal),
        2 => pick.clone().prop_map(Operation::ParkChild),
        2 => pick.clone().prop_map(Operation::Signal),
        1 => pick.clone().prop_map(Operation::Cancel),
        1 => (pick, any::<bool>()).prop_map(|(task, keep)| Operation::Retry(task, keep)),
        1 => Just(Operation::Reap),
        2 => Just(Operation::Sleep),
    ]
}

/// What is known of one task.
#[derive(Default)]
struct Known {
    status: Option<TaskStatus>,
    epoch: u32,
    journal: Vec<Step>,
    leases: Vec<Lease>,
}

struct Program<'a> {
    world: &'a World,
    thread: domain::ThreadId,
    order: Vec<TaskId>,
    known: BTreeMap<TaskId, Known>,
    retried: Option<TaskId>,
}

async fn programs(world: World) {
    search(PROGRAMS, &prop::collection::vec(operation(), 1..LENGTH), async |operations| play(&world, operations).await)
        .await;
}

/// Plays programs until one goes wrong, and panics with the shortest one found that does.
pub(super) async fn search<O: Clone + std::fmt::Debug>(
    programs: usize,
    strategy: &impl Strategy<Value = Vec<O>>,
    play: impl AsyncFn(&[O]) -> Result<(), String>,
) {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    for _ in 0..programs {
        let mut tree = strategy.new_tree(&mut runner).expect("a program");
        let Err(mut problem) = play(&tree.current()).await else { continue };
        let mut smallest = tree.current();
        while tree.simplify() {
            match play(&tree.current()).await {
                Err(found) => (problem, smallest) = (found, tree.current()),
                Ok(()) => {
                    if !tree.complicate() {
                        break;
                    }
                }
            }
        }
        panic!("{problem}\nafter {smallest:#?}");
    }
}

async fn play(world: &World, operations: &[Operation]) -> Result<(), String> {
    let mut program =
        Program { world, thread: World::thread(), order: Vec::new(), known: BTreeMap::new(), retried: None };
    for operation in operations {
        let failed = |problem: String| format!("{problem} (at {operation:?})");
        program.step(*operation).await.map_err(failed)?;
        program.check().await.map_err(failed)?;
    }
    let played = program.drain().await;
    // A program that went wrong must not leave tasks for the next one.
    for task in program.order {
        let _ = world.state.cancel(&world.namespace, task).await;
    }
    let held = world.state.leases().await.map_err(|error| error.to_string())?;
    world.state.reap(held, 5, world.now()).await.map_err(|error| error.to_string())?;
    played
}

impl Program<'_> {
    fn pick(&self, index: usize) -> Option<TaskId> {
        self.order.get(index % self.order.len().max(1)).copied()
    }

    fn lease(&self, index: usize) -> Option<(Lease, u32)> {
        let known = &self.known[&self.pick(index)?];
        Some((*known.leases.last()?, known.journal.len() as u32))
    }

    async fn step(&mut self, operation: Operation) -> Result<(), String> {
        let World { state, namespace, .. } = self.world;
        let world = self.world;
        self.retried = None;
        let done = match operation {
            Operation::Submit { thread, delayed } => {
                let mut task = world.new_task();
                task.thread = thread.then_some(self.thread);
                task.run_at = delayed.then(|| world.after(5));
                self.add(task.id);
                state.submit(task).await.map(drop)
            }
            Operation::Claim(index) => {
                let Some(task) = self.pick(index) else { return Ok(()) };
                if let Some(claimed) = world.try_claim(task).await {
                    let known = self.known.entry(task).or_default();
                    if claimed.task.epoch <= known.epoch {
                        return Err(format!("epoch {} after {}", claimed.task.epoch, known.epoch));
                    }
                    if claimed.steps != known.journal {
                        return Err("a claim shows another journal".to_owned());
                    }
                    known.leases.push(claimed.lease());
                    // Makes it durable, so that readers see it.
                    state.signal(namespace, task, world.signal("noise", json!(1))).await.map(drop)
                } else {
                    Ok(())
                }
            }
            Operation::Append(index) => {
                let Some((lease, seq)) = self.lease(index) else { return Ok(()) };
                state.append(lease, vec![world.model(seq, "text")]).await
            }
            Operation::AppendOld(index) => {
                let Some(task) = self.pick(index) else { return Ok(()) };
                let known = &self.known[&task];
                let [.., old, _] = known.leases.as_slice() else { return Ok(()) };
                let refused = state.append(*old, vec![world.model(known.journal.len() as u32, "zombie")]).await;
                if !matches!(refused, Err(StateError::LeaseLost { .. })) {
                    return Err(format!("an old epoch wrote: {refused:?}"));
                }
                Ok(())
            }
            Operation::Succeed(index) => {
                let Some((lease, seq)) = self.lease(index) else { return Ok(()) };
                let finish = world.finish(vec![world.model(seq, "answer")], Outcome::Succeeded);
                state.finish(lease, finish).await.map(drop)
            }
            Operation::Fail(index) => {
                let Some((lease, _)) = self.lease(index) else { return Ok(()) };
                state.finish(lease, world.finish(Vec::new(), Outcome::Failed(failure()))).await.map(drop)
            }
            Operation::FailAttempt(index) => {
                let Some((lease, seq)) = self.lease(index) else { return Ok(()) };
                let failed = AttemptFailed { seq, at: world.now(), failure: failure(), retry_at: world.after(3) };
                state.fail_attempt(lease, failed).await.map(drop)
            }
            Operation::Release(index) => {
                let Some((lease, _)) = self.lease(index) else { return Ok(()) };
                state.release(lease).await.map(drop)
            }
            Operation::ParkTimer(index) => {
                let Some((lease, seq)) = self.lease(index) else { return Ok(()) };
                let waits = vec![wait_timer("timer", world.after(4))];
                state.park(lease, world.park(seq, waits, Vec::new())).await.map(drop)
            }
            Operation::ParkSignal(index) => {
                let Some((lease, seq)) = self.lease(index) else { return Ok(()) };
                let waits = vec![wait_signal("signal", "go")];
                state.park(lease, world.park(seq, waits, Vec::new())).await.map(drop)
            }
            Operation::ParkChild(index) => {
                let Some((lease, seq)) = self.lease(index) else { return Ok(()) };
                let child = world.new_child(lease.task, "child");
                let id = child.id;
                let park = world.park(seq, vec![wait_child("child", id)], vec![child]);
                let parked = state.park(lease, park).await.map(drop);
                if state.task(namespace, id).await.map_err(|error| error.to_string())?.is_some() {
                    self.add(id);
                }
                parked
            }
            Operation::Signal(index) => {
                let Some(task) = self.pick(index) else { return Ok(()) };
                state.signal(namespace, task, world.signal("go", json!(1))).await.map(drop)
            }
            Operation::Cancel(index) => {
                let Some(task) = self.pick(index) else { return Ok(()) };
                state.cancel(namespace, task).await.map(drop)
            }
            Operation::Retry(index, keep_journal) => {
                let Some(task) = self.pick(index) else { return Ok(()) };
                self.retried = Some(task);
                state.retry(namespace, task, keep_journal).await.map(drop)
            }
            Operation::Reap => {
                let held = state.leases().await.map_err(|error| error.to_string())?;
                state.reap(held, 3, world.now()).await.map(drop)
            }
            Operation::Sleep => {
                world.clock.advance(Duration::from_secs(2));
                state.due(world.now(), Duration::from_mins(10), MANY).await.map(drop)
            }
        };
        match done {
            Ok(())
            | Err(
                StateError::LeaseLost { .. }
                | StateError::Ended { .. }
                | StateError::Conflict { .. }
                | StateError::StepConflict { .. },
            ) => Ok(()),
            Err(error) => Err(format!("an operation failed: {error}")),
        }
    }

    fn add(&mut self, task: TaskId) {
        self.order.push(task);
        self.known.insert(task, Known::default());
    }

    /// Compares what every task says now with what it said before.
    async fn check(&mut self) -> Result<(), String> {
        for (id, known) in &mut self.known {
            let task = self.world.task(*id).await;
            let journal = self.world.journal(*id).await;
            let before = known.status.unwrap_or(TaskStatus::Queued);
            let reborn = self.retried == Some(*id) && task.status == TaskStatus::Queued;
            // One operation may take two edges: a timer that has passed parks and wakes.
            let twice = TaskStatus::ALL.into_iter().any(|via| before.may_become(via) && via.may_become(task.status));
            if before != task.status && !before.may_become(task.status) && !twice && !reborn {
                return Err(format!("task {id} went from {before} to {}", task.status));
            }
            if task.epoch < known.epoch {
                return Err(format!("task {id} went back to epoch {}", task.epoch));
            }
            if task.worker.is_some() != (task.status == TaskStatus::Running) {
                return Err(format!("task {id} is {} with the worker {:?}", task.status, task.worker));
            }
            if task.finished_at.is_some() != task.status.is_terminal() {
                return Err(format!("task {id} is {} and finished at {:?}", task.status, task.finished_at));
            }
            if journal.len() < known.journal.len() || journal[..known.journal.len()] != known.journal {
                return Err(format!("the journal of task {id} changed what it said"));
            }
            if (0..).zip(&journal).any(|(seq, step)| step.seq != seq) {
                return Err(format!("the journal of task {id} has a gap"));
            }
            let mut epoch = 0;
            for step in journal.iter().filter(|step| step.epoch > 0) {
                if step.epoch < epoch {
                    return Err(format!("task {id}: step {} was written by a zombie", step.seq));
                }
                epoch = step.epoch;
            }
            (known.status, known.epoch, known.journal) = (Some(task.status), task.epoch, journal);
        }
        Ok(())
    }

    /// Lets everything that is left run to its end: whatever the program did, no task may be stuck.
    async fn drain(&mut self) -> Result<(), String> {
        let world = self.world;
        let text = |error: StateError| error.to_string();
        let held = world.state.leases().await.map_err(text)?;
        world.state.reap(held, u32::MAX, world.now()).await.map_err(text)?;
        self.check().await?;
        for _ in 0..200 {
            world.clock.advance(Duration::from_secs(10));
            let due = world.state.due(world.now(), Duration::from_secs(1), MANY).await.map_err(text)?;
            self.check().await?;
            for ready in due.transition.ready {
                let Some(claimed) = world.try_claim(ready.task).await else { continue };
                let seq = claimed.steps.len() as u32;
                let finish = world.finish(vec![world.model(seq, "answer")], Outcome::Succeeded);
                world.state.finish(claimed.lease(), finish).await.map_err(text)?;
                self.check().await?;
            }
            let mut open = 0;
            for (id, known) in &self.known {
                match known.status {
                    Some(TaskStatus::Waiting) => {
                        open += 1;
                        world.state.signal(&world.namespace, *id, world.signal("go", json!(1))).await.map_err(text)?;
                    }
                    Some(status) if status.is_terminal() => {}
                    _ => open += 1,
                }
            }
            self.check().await?;
            if open == 0 {
                return Ok(());
            }
        }
        Err("some task never ends".to_owned())
    }
}
