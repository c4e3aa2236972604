//! Random programs of reservations and of all that ends leases, beside a model that counts with them.
//!
//! At every moment spent and reserved together are within the limit, and exactly what the model says; when all tasks have
//! ended nothing is reserved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{
    Amount, BudgetAccount, BudgetWindow, Dimension, Ids, Lease, Namespace, NewTask, SystemIds, TaskId, Timestamp,
};
use proptest::prelude::*;

use super::Run;
use super::budgets::{account, call, flush, model};
use super::program::search;
use super::world::{MANY, World, failure, wait_timer};
use crate::{AttemptFailed, NewStep, Outcome, Reserve, ReserveId, Reserved, StateError};

pub(super) const CASES: &[(&str, Run)] =
    &[("no_program_of_operations_exceeds_a_budget_or_loses_a_reservation", |w| Box::pin(programs(w)))];

/// How many programs are tried.
const PROGRAMS: usize = 64;
/// The longest program.
const LENGTH: usize = 60;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Submit { like: usize, own: bool },
    Claim(usize),
    Reserve { task: usize, ahead: u32, tokens: u64, steps: bool },
    Tools { task: usize, back: u32, calls: u64 },
    Settle { task: usize, ahead: u32, tokens: u64 },
    Append(usize, u64),
    Finish(usize, Option<u64>),
    Fail(usize),
    FailAttempt(usize),
    Release(usize),
    Park(usize, Option<u64>),
    Cancel(usize),
    Retry(usize),
    Reap,
    Sleep { minutes: u64 },
}

fn operation() -> impl Strategy<Value = Operation> {
    let task = 0..4_usize;
    let used = 0..30_u64;
    prop_oneof![
        3 => (task.clone(), any::<bool>()).prop_map(|(like, own)| Operation::Submit { like, own }),
        7 => task.clone().prop_map(Operation::Claim),
        8 => (task.clone(), 0..2_u32, 1..40_u64, any::<bool>())
            .prop_map(|(task, ahead, tokens, steps)| Operation::Reserve { task, ahead, tokens, steps }),
        5 => (task.clone(), 0..2_u32, 0..4_u64).prop_map(|(task, back, calls)| Operation::Tools { task, back, calls }),
        3 => (task.clone(), 0..2_u32, used.clone())
            .prop_map(|(task, ahead, tokens)| Operation::Settle { task, ahead, tokens }),
        5 => (task.clone(), used.clone()).prop_map(|(task, used)| Operation::Append(task, used)),
        1 => (task.clone(), prop::option::of(used.clone())).prop_map(|(task, used)| Operation::Finish(task, used)),
        1 => task.clone().prop_map(Operation::Fail),
        1 => task.clone().prop_map(Operation::FailAttempt),
        1 => task.clone().prop_map(Operation::Release),
        1 => (task.clone(), prop::option::of(used)).prop_map(|(task, used)| Operation::Park(task, used)),
        1 => task.clone().prop_map(Operation::Cancel),
        1 => task.prop_map(Operation::Retry),
        1 => Just(Operation::Reap),
        2 => (1..50_u64).prop_map(|minutes| Operation::Sleep { minutes }),
    ]
}

/// An account in one window.
type Slot = (String, BudgetWindow, Timestamp);

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Standing {
    spent: Amount,
    reserved: Amount,
}

struct Known {
    id: TaskId,
    accounts: Vec<BudgetAccount>,
    lease: Option<Lease>,
    lost: Option<Lease>,
    /// Its journal's length.
    next: u32,
    /// Model calls under way, with the accounts that they were reserved in.
    open: BTreeMap<u32, (Amount, Vec<Slot>)>,
    paid: BTreeSet<u32>,
}

struct Program<'a> {
    world: &'a World,
    namespace: Namespace,
    tasks: Vec<Known>,
    slots: BTreeMap<Slot, Standing>,
}

async fn programs(world: World) {
    search(PROGRAMS, &prop::collection::vec(operation(), 1..LENGTH), async |operations| play(&world, operations).await)
        .await;
}

async fn play(world: &World, operations: &[Operation]) -> Result<(), String> {
    // Accounts stay: every program has a namespace of its own.
    let namespace = format!("n{}", SystemIds.uuid().simple());
    let namespace = Namespace::new(namespace).map_err(|error| error.to_string())?;
    let mut program = Program { world, namespace, tasks: Vec::new(), slots: BTreeMap::new() };
    let mut played = Ok(());
    for operation in operations {
        let failed = |problem: String| format!("{problem} (at {operation:?})");
        played = program.step(*operation).await.map_err(failed);
        if played.is_ok() {
            played = program.check().await.map_err(failed);
        }
        if played.is_err() {
            break;
        }
    }
    let ended = program.end_all().await;
    played.and(ended)
}

impl Program<'_> {
    async fn step(&mut self, operation: Operation) -> Result<(), String> {
        let world = self.world;
        let state = &world.state;
        let text = |error: StateError| error.to_string();
        match operation {
            Operation::Submit { like, own } => self.submit(like, own).await.map_err(text)?,
            Operation::Claim(index) => {
                let Some(known) = pick(&mut self.tasks, index) else { return Ok(()) };
                if let Some(claimed) = world.try_claim(known.id).await {
                    if known.lease.is_some() {
                        return Err("two leases at once".to_owned());
                    }
                    known.lease = Some(claimed.lease());
                    known.next = claimed.steps.len() as u32;
                }
            }
            Operation::Reserve { task, ahead, tokens, steps } => {
                let Some(known) = pick(&mut self.tasks, task) else { return Ok(()) };
                let steps = if steps { vec![model(world, known.next, 1)] } else { Vec::new() };
                let seq = known.next + steps.len() as u32 + ahead;
                self.reserve(task, steps, ReserveId::Model { seq }, call(tokens)).await?;
            }
            Operation::Tools { task, back, calls } => {
                let Some(known) = pick(&mut self.tasks, task) else { return Ok(()) };
                let id = ReserveId::Tools { seq: known.next.saturating_sub(back) };
                self.reserve(task, Vec::new(), id, Amount { tool_calls: calls, ..Amount::default() }).await?;
            }
            Operation::Settle { task, ahead, tokens } => {
                let Some(known) = pick(&mut self.tasks, task) else { return Ok(()) };
                let Some(lease) = known.lease.or(known.lost) else { return Ok(()) };
                let seq = known.next + ahead;
                let reserved = known.open.get(&seq).map_or(Amount::default(), |(amount, _)| *amount);
                // A call never uses more than was reserved for it.
                let spent = Amount { tokens: tokens.min(reserved.tokens), ..reserved };
                if known.lease.is_some() {
                    settle(&mut self.slots, known, seq, |_| spent);
                }
                state.settle(lease, ReserveId::Model { seq }, spent).await.map_err(text)?;
            }
            Operation::Append(index, used) => {
                let Some((lease, step)) = self.next_step(index, used) else { return Ok(()) };
                let appended = state.append(lease, vec![step]).await;
                self.wrote(index, appended, Some(used), false)?;
            }
            Operation::Finish(index, used) => {
                let Some((lease, step)) = self.next_step(index, used.unwrap_or_default()) else { return Ok(()) };
                let steps: Vec<_> = used.map(|_| step).into_iter().collect();
                let finished = state.finish(lease, world.finish(steps, Outcome::Succeeded)).await;
                self.wrote(index, finished, used, true)?;
            }
            Operation::Fail(index) => {
                let Some((lease, _)) = self.next_step(index, 0) else { return Ok(()) };
                let failed = state.finish(lease, world.finish(Vec::new(), Outcome::Failed(failure()))).await;
                self.wrote(index, failed, None, true)?;
            }
            Operation::FailAttempt(index) => {
                let Some((lease, step)) = self.next_step(index, 0) else { return Ok(()) };
                let failed =
                    AttemptFailed { seq: step.seq, at: world.now(), failure: failure(), retry_at: world.after(3) };
                let failed = state.fail_attempt(lease, failed).await;
                self.wrote(index, failed, None, true)?;
            }
            Operation::Release(index) => {
                let Some((lease, _)) = self.next_step(index, 0) else { return Ok(()) };
                let released = state.release(lease).await;
                self.wrote(index, released, None, true)?;
            }
            Operation::Park(index, used) => {
                let Some((lease, step)) = self.next_step(index, used.unwrap_or_default()) else { return Ok(()) };
                let waits = vec![wait_timer("timer", world.after(60))];
                let mut park = world.park(step.seq + u32::from(used.is_some()), waits, Vec::new());
                park.steps.extend(used.map(|_| step));
                let parked = state.park(lease, park).await;
                self.wrote(index, parked, used, true)?;
            }
            Operation::Cancel(index) => {
                let Some(known) = pick(&mut self.tasks, index) else { return Ok(()) };
                ignore_ended(state.cancel(&self.namespace, known.id).await)?;
            }
            Operation::Retry(index) => {
                let Some(known) = pick(&mut self.tasks, index) else { return Ok(()) };
                ignore_ended(state.retry(&self.namespace, known.id, true).await)?;
            }
            Operation::Reap => self.reap().await.map_err(text)?,
            Operation::Sleep { minutes } => {
                world.clock.advance(Duration::from_mins(minutes));
                state.due(world.now(), Duration::from_hours(10), MANY).await.map_err(text)?;
            }
        }
        Ok(())
    }

    /// A task with the accounts of all, with one of its own, or with those of an earlier one, as a sub-task has.
    async fn submit(&mut self, like: usize, own: bool) -> Result<(), StateError> {
        let mut task = NewTask { namespace: self.namespace.clone(), ..self.world.new_task() };
        let mut accounts =
            vec![account("namespace", BudgetWindow::Hour, 100), account("agent/a", BudgetWindow::Day, 400)];
        accounts[1].limit.tool_calls = Some(9);
        if own {
            let mut limited = account(&format!("task/{}", task.id), BudgetWindow::Task, 60);
            limited.limit.model_calls = Some(4);
            accounts.insert(0, limited);
        } else if let Some(known) = pick(&mut self.tasks, like) {
            accounts.clone_from(&known.accounts);
        }
        task.terms.accounts.clone_from(&accounts);
        let id = task.id;
        self.world.state.submit(task).await?;
        let (lease, lost, open, paid) = (None, None, BTreeMap::new(), BTreeSet::new());
        self.tasks.push(Known { id, accounts, lease, lost, next: 1, open, paid });
        Ok(())
    }

    async fn reserve(
        &mut self,
        index: usize,
        steps: Vec<NewStep>,
        id: ReserveId,
        amount: Amount,
    ) -> Result<(), String> {
        let at = self.world.now();
        let Some(known) = pick(&mut self.tasks, index) else { return Ok(()) };
        let Some(lease) = known.lease.or(known.lost) else { return Ok(()) };
        let seqs: Vec<_> = steps.iter().map(|step| step.seq).collect();
        let reserve = Reserve { id, amount, grants: Vec::new(), at };
        let reserved = match self.world.state.reserve(lease, steps, reserve).await {
            Err(StateError::LeaseLost { .. }) if known.lease.is_none() => return Ok(()),
            other => other.map_err(|error| error.to_string())?,
        };
        if known.lease.is_none() {
            return Err("a lost lease was granted something".to_owned());
        }
        for seq in seqs {
            known.next += 1;
            settle(&mut self.slots, known, seq, |reserved| Amount { tokens: 1, ..reserved });
        }
        let again = match id {
            ReserveId::Model { seq } => known.open.contains_key(&seq),
            ReserveId::Tools { seq } => known.paid.contains(&seq),
        };
        let slot = |account: &BudgetAccount| (account.key.clone(), account.window, account.window.begin(at));
        let allows = |account: &BudgetAccount| {
            let standing = self.slots.get(&slot(account)).copied().unwrap_or_default();
            fits(account, standing.spent.plus(standing.reserved).plus(amount))
        };
        let wanted = again || known.accounts.iter().all(allows);
        match (&reserved, wanted) {
            (Reserved::Granted { .. }, true) | (Reserved::Refused(_), false) => {}
            _ => return Err(format!("answered {reserved:?}, and the model says {wanted}")),
        }
        if wanted && !again {
            let slots: Vec<_> = known.accounts.iter().map(slot).collect();
            for slot in &slots {
                let standing = self.slots.entry(slot.clone()).or_default();
                match id {
                    ReserveId::Model { .. } => standing.reserved = standing.reserved.plus(amount),
                    ReserveId::Tools { .. } => standing.spent = standing.spent.plus(amount),
                }
            }
            match id {
                ReserveId::Model { seq } => drop(known.open.insert(seq, (amount, slots))),
                ReserveId::Tools { seq } => drop(known.paid.insert(seq)),
            }
        }
        Ok(())
    }

    /// The lease of a task, held or lost, and its next step, which never uses more than was reserved for it.
    fn next_step(&mut self, index: usize, used: u64) -> Option<(Lease, NewStep)> {
        let known = pick(&mut self.tasks, index)?;
        let reserved = known.open.get(&known.next).map_or(0, |(amount, _)| amount.tokens);
        Some((known.lease.or(known.lost)?, model(self.world, known.next, used.min(reserved))))
    }

    /// Takes in what a write under a lease did: with a step that used so much, or without one.
    fn wrote<T>(
        &mut self,
        index: usize,
        result: Result<T, StateError>,
        used: Option<u64>,
        ends_lease: bool,
    ) -> Result<(), String> {
        let Some(known) = pick(&mut self.tasks, index) else { return Ok(()) };
        match (result, known.lease) {
            (Ok(_), Some(_)) => {}
            // The same end again.
            (Ok(_), None) if ends_lease => return Ok(()),
            (Err(StateError::LeaseLost { .. }), None) => return Ok(()),
            (Ok(_), None) => return Err("a lost lease wrote".to_owned()),
            (Err(error), _) => return Err(error.to_string()),
        }
        if let Some(used) = used {
            let seq = known.next;
            known.next += 1;
            settle(&mut self.slots, known, seq, |reserved| Amount { tokens: used.min(reserved.tokens), ..reserved });
        }
        if ends_lease {
            lease_ended(&mut self.slots, known);
        }
        Ok(())
    }

    async fn reap(&mut self) -> Result<(), StateError> {
        let held = self.world.state.leases().await?;
        self.world.state.reap(held, 3, self.world.now()).await?;
        for known in &mut self.tasks {
            lease_ended(&mut self.slots, known);
        }
        Ok(())
    }

    /// Compares all accounts with the model, and with their limits.
    async fn check(&self) -> Result<(), String> {
        flush(self.world).await;
        self.check_at(self.world.now()).await
    }

    async fn check_at(&self, at: Timestamp) -> Result<(), String> {
        let text = |error: StateError| error.to_string();
        let found = self.world.state.accounts(&self.namespace, at).await.map_err(text)?;
        let found = found.into_iter().map(|view| {
            let standing = Standing { spent: view.spent, reserved: view.reserved };
            ((view.key, view.window, view.since), standing)
        });
        let current = |slot: &Slot| slot.1 != BudgetWindow::Task && slot.1.begin(at) == slot.2;
        let wanted = self.slots.iter().filter(|(slot, _)| current(slot)).map(|(slot, now)| (slot.clone(), *now));
        let (found, wanted) = (found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        if found != wanted {
            return Err(format!("the accounts are {found:?}, and the model says {wanted:?}"));
        }
        for known in &self.tasks {
            for level in self.world.state.budget(&self.namespace, known.id, at).await.map_err(text)? {
                let slot = (level.account.key.clone(), level.account.window, level.account.window.begin(at));
                let standing = self.slots.get(&slot).copied().unwrap_or_default();
                if (level.spent, level.reserved) != (standing.spent.of(level.what), standing.reserved.of(level.what)) {
                    return Err(format!("a level is {level:?}, and the model says {standing:?}"));
                }
                if level.spent + level.reserved > level.limit {
                    return Err(format!("a limit is exceeded: {level:?}"));
                }
            }
        }
        Ok(())
    }

    /// Ends all tasks: nothing may be left reserved, not in windows that are over either.
    async fn end_all(&mut self) -> Result<(), String> {
        for index in 0..self.tasks.len() {
            ignore_ended(self.world.state.cancel(&self.namespace, self.tasks[index].id).await)?;
        }
        self.reap().await.map_err(|error| error.to_string())?;
        for known in &self.tasks {
            let task = self.world.state.task(&self.namespace, known.id).await.map_err(|error| error.to_string())?;
            if !task.is_some_and(|task| task.status.is_terminal()) {
                return Err(format!("task {} does not end", known.id));
            }
        }
        self.check().await?;
        for (slot, standing) in &self.slots {
            if standing.reserved != Amount::default() {
                return Err(format!("the model is wrong: {slot:?} {standing:?}"));
            }
            self.check_at(slot.2).await?;
        }
        Ok(())
    }
}

fn pick(tasks: &mut [Known], index: usize) -> Option<&mut Known> {
    let count = tasks.len().max(1);
    tasks.get_mut(index % count)
}

fn fits(account: &BudgetAccount, amount: Amount) -> bool {
    Dimension::ALL.into_iter().all(|what| account.limit.of(what).is_none_or(|limit| amount.of(what) <= limit))
}

fn settle(slots: &mut BTreeMap<Slot, Standing>, known: &mut Known, seq: u32, spent: impl FnOnce(Amount) -> Amount) {
    let Some((amount, reserved_in)) = known.open.remove(&seq) else { return };
    let spent = spent(amount);
    for slot in reserved_in {
        let standing = slots.entry(slot).or_default();
        standing.reserved = standing.reserved.minus(amount);
        standing.spent = standing.spent.plus(spent);
    }
}

/// All that is open is spent in full.
fn lease_ended(slots: &mut BTreeMap<Slot, Standing>, known: &mut Known) {
    let Some(lease) = known.lease.take() else { return };
    known.lost = Some(lease);
    let open: Vec<u32> = known.open.keys().copied().collect();
    for seq in open {
        settle(slots, known, seq, |amount| amount);
    }
}

fn ignore_ended<T>(result: Result<T, StateError>) -> Result<(), String> {
    match result {
        Ok(_) | Err(StateError::Ended { .. } | StateError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
