//! Random programs of all that takes, gives back and waits for places at gates.
//!
//! After every operation no gate has let more through than its limit says, and whoever is held back has a gate that is
//! full, counting those who were woken and have not come. In the end everything that was announced is claimed, and
//! everything ends: no place stays empty while somebody waits for it, whatever announcements were lost before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use domain::{Gate, GateLimit, Ids, Lease, Namespace, NewTask, SystemIds, TaskId, TaskStatus, Terms, Timestamp};
use proptest::prelude::*;

use super::Run;
use super::gates::{running, starting};
use super::program::search;
use super::world::{MANY, World, failure, wait_timer};
use crate::{AttemptFailed, LeaseBeat, Outcome, StateError, Transition};

pub(super) const CASES: &[(&str, Run)] =
    &[("no_program_of_operations_exceeds_a_gate_or_leaves_somebody_waiting_for_ever", |w| Box::pin(programs(w)))];

/// How many programs are tried.
const PROGRAMS: usize = 64;
/// The longest program.
const LENGTH: usize = 70;
/// After how long announcements are made again.
const REANNOUNCE: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy)]
enum Operation {
    Submit {
        like: usize,
        priority: u8,
        expires: bool,
    },
    /// Claims what was announced first, as a pool does.
    ClaimNext,
    /// Claims anything: announcements may come twice, late or out of order.
    Claim(usize),
    LoseAnnouncement,
    Succeed(usize),
    Fail(usize),
    FailAttempt(usize),
    Release(usize),
    Park(usize),
    Cancel(usize),
    Retry(usize, bool),
    Reap,
    Due,
    Expire,
    Sleep(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let pick = 0..16_usize;
    prop_oneof![
        6 => (0..6_usize, 4..7_u8, any::<bool>())
            .prop_map(|(like, priority, expires)| Operation::Submit { like, priority, expires }),
        8 => Just(Operation::ClaimNext),
        3 => pick.clone().prop_map(Operation::Claim),
        1 => Just(Operation::LoseAnnouncement),
        4 => pick.clone().prop_map(Operation::Succeed),
        1 => pick.clone().prop_map(Operation::Fail),
        1 => pick.clone().prop_map(Operation::FailAttempt),
        1 => pick.clone().prop_map(Operation::Release),
        2 => pick.clone().prop_map(Operation::Park),
        1 => pick.clone().prop_map(Operation::Cancel),
        1 => (pick, any::<bool>()).prop_map(|(task, keep)| Operation::Retry(task, keep)),
        1 => Just(Operation::Reap),
        2 => Just(Operation::Due),
        1 => Just(Operation::Expire),
        2 => (1..30_u64).prop_map(Operation::Sleep),
    ]
}

/// The gates of some kinds of tasks; they share the wider ones.
fn gates_like(like: usize) -> Vec<Gate> {
    let (all, agent, rate) = (running("namespace", 3), running("agent/a", 2), starting("agent/a", 2, 10));
    let key = |key: &str| running(&format!("agent/a/key/{key}"), 1);
    match like {
        0 => vec![all],
        1 => vec![all, agent],
        2 => vec![all, agent, rate, key("ann")],
        3 => vec![all, agent, rate, key("bob")],
        4 => vec![rate],
        _ => Vec::new(),
    }
}

struct Known {
    id: TaskId,
    gates: Vec<Gate>,
    lease: Option<Lease>,
    /// It was claimed in this life.
    started: bool,
    /// Its journal's length, while it is held.
    next: u32,
}

struct Program<'a> {
    world: &'a World,
    namespace: Namespace,
    tasks: Vec<Known>,
    announced: VecDeque<TaskId>,
    /// First claims by gate.
    starts: BTreeMap<String, Vec<Timestamp>>,
}

async fn programs(world: World) {
    search(PROGRAMS, &prop::collection::vec(operation(), 1..LENGTH), async |operations| play(&world, operations).await)
        .await;
}

async fn play(world: &World, operations: &[Operation]) -> Result<(), String> {
    let namespace = format!("n{}", SystemIds.uuid().simple());
    let namespace = Namespace::new(namespace).map_err(|error| error.to_string())?;
    let (tasks, announced, starts) = (Vec::new(), VecDeque::new(), BTreeMap::new());
    let mut program = Program { world, namespace, tasks, announced, starts };
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
        let (world, now) = (self.world, self.world.now());
        let state = &world.state;
        match operation {
            Operation::Submit { like, priority, expires } => self.submit(like, priority, expires).await?,
            Operation::ClaimNext => {
                if let Some(task) = self.announced.pop_front() {
                    self.claim(task).await?;
                }
            }
            Operation::Claim(index) => {
                if let Some(task) = self.pick(index).map(|known| known.id) {
                    self.claim(task).await?;
                }
            }
            Operation::LoseAnnouncement => {
                self.announced.pop_back();
            }
            Operation::Succeed(index) => self.finish(index, Outcome::Succeeded).await?,
            Operation::Fail(index) => self.finish(index, Outcome::Failed(failure())).await?,
            Operation::FailAttempt(index) => {
                let Some((lease, seq)) = self.take(index) else { return Ok(()) };
                let failed = AttemptFailed { seq, at: now, failure: failure(), retry_at: world.after(3) };
                self.heard(state.fail_attempt(lease, failed).await)?;
            }
            Operation::Release(index) => {
                let Some((lease, _)) = self.take(index) else { return Ok(()) };
                self.heard(state.release(lease).await)?;
            }
            Operation::Park(index) => {
                let Some((lease, seq)) = self.take(index) else { return Ok(()) };
                let park = world.park(seq, vec![wait_timer("call-1", world.after(5))], Vec::new());
                self.heard(state.park(lease, park).await)?;
            }
            Operation::Cancel(index) => {
                let Some(task) = self.pick(index).map(|known| known.id) else { return Ok(()) };
                if let Ok(cancelled) = state.cancel(&self.namespace, task).await {
                    self.hear(&cancelled.transition);
                }
            }
            Operation::Retry(index, keep) => {
                let Some(task) = self.pick(index).map(|known| known.id) else { return Ok(()) };
                if let Ok(transition) = state.retry(&self.namespace, task, keep).await {
                    self.hear(&transition);
                    let known = self.tasks.iter_mut().filter(|known| known.id == task && !keep);
                    known.for_each(|known| known.started = false);
                }
            }
            Operation::Reap => {
                let beats = state.leases().await.map_err(|error| error.to_string())?;
                let mine = |beat: &LeaseBeat| self.tasks.iter().any(|known| known.id == beat.lease.task);
                let beats = beats.into_iter().filter(mine).collect();
                self.tasks.iter_mut().for_each(|known| known.lease = None);
                self.heard(state.reap(beats, 100, now).await)?;
            }
            Operation::Due => self.due().await?,
            Operation::Expire => {
                let expired = state.expire(now, MANY).await.map_err(|error| error.to_string())?;
                self.hear(&expired.transition);
            }
            Operation::Sleep(seconds) => {
                world.clock.advance(Duration::from_secs(seconds));
                self.due().await?;
            }
        }
        Ok(())
    }

    async fn submit(&mut self, like: usize, priority: u8, expires: bool) -> Result<(), String> {
        let gates = gates_like(like);
        let task = NewTask {
            namespace: self.namespace.clone(),
            priority,
            expires_at: expires.then(|| self.world.after(15)),
            terms: Terms { gates: gates.clone(), ..Terms::default() },
            ..self.world.new_task()
        };
        let task = self.world.state.submit(task).await.map_err(|error| error.to_string())?.task;
        self.announced.push_back(task.id);
        self.tasks.push(Known { id: task.id, gates, lease: None, started: false, next: 0 });
        Ok(())
    }

    async fn claim(&mut self, task: TaskId) -> Result<(), String> {
        let now = self.world.now();
        let Some(claimed) = self.world.try_claim(task).await else { return Ok(()) };
        let known = self.tasks.iter_mut().find(|known| known.id == task).ok_or("a task that nobody submitted")?;
        if known.lease.is_some() {
            return Err("two leases at once".to_owned());
        }
        let first = !std::mem::replace(&mut known.started, true);
        known.lease = Some(claimed.lease());
        known.next = claimed.steps.len() as u32;
        for gate in known.gates.iter().filter(|gate| first && matches!(gate.limit, GateLimit::Starts { .. })) {
            self.starts.entry(gate.key.clone()).or_default().push(now);
        }
        Ok(())
    }

    async fn finish(&mut self, index: usize, outcome: Outcome) -> Result<(), String> {
        let Some((lease, seq)) = self.take(index) else { return Ok(()) };
        let finish = self.world.finish(vec![self.world.model(seq, "done")], outcome);
        let done = self.world.state.finish(lease, finish).await;
        self.heard(done)
    }

    async fn due(&mut self) -> Result<(), String> {
        let due = self.world.state.due(self.world.now(), REANNOUNCE, MANY).await.map_err(|error| error.to_string())?;
        self.hear(&due.transition);
        Ok(())
    }

    fn pick(&self, index: usize) -> Option<&Known> {
        self.tasks.get(index % self.tasks.len().max(1))
    }

    /// A held lease, which the caller gives up, with the number of its journal's next step.
    fn take(&mut self, index: usize) -> Option<(Lease, u32)> {
        let held: Vec<usize> = (0..self.tasks.len()).filter(|at| self.tasks[*at].lease.is_some()).collect();
        let known = &mut self.tasks[*held.get(index % held.len().max(1))?];
        known.lease.take().map(|lease| (lease, known.next))
    }

    fn heard(&mut self, result: Result<Transition, StateError>) -> Result<(), String> {
        self.hear(&result.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn hear(&mut self, transition: &Transition) {
        let mine = |task: &TaskId| self.tasks.iter().any(|known| known.id == *task);
        self.announced.extend(transition.ready.iter().map(|ready| ready.task).filter(mine));
    }

    async fn task(&self, task: TaskId) -> Result<domain::Task, String> {
        let found = self.world.state.task(&self.namespace, task).await.map_err(|error| error.to_string())?;
        found.ok_or_else(|| "a task is gone".to_owned())
    }

    /// How many running tasks have a gate, or how many started in its window.
    fn taken(&self, gate: &Gate, running: &BTreeSet<TaskId>) -> usize {
        match gate.limit {
            GateLimit::Running { .. } => {
                self.tasks.iter().filter(|known| running.contains(&known.id) && known.gates.contains(gate)).count()
            }
            GateLimit::Starts { per_ms, .. } => {
                let over = self.world.now() - Duration::from_millis(per_ms);
                self.starts.get(&gate.key).into_iter().flatten().filter(|at| **at > over).count()
            }
        }
    }

    async fn check(&mut self) -> Result<(), String> {
        let (mut running, mut queued) = (BTreeSet::new(), Vec::new());
        for (index, known) in self.tasks.iter().enumerate() {
            // A claim is answered before a read shows it.
            if known.lease.is_some() {
                running.insert(known.id);
            } else if self.task(known.id).await?.status == TaskStatus::Queued {
                queued.push(index);
            }
        }
        let (mut held, mut coming) = (Vec::new(), Vec::new());
        for index in queued {
            let known = &self.tasks[index];
            let wait = self.world.state.gate(&self.namespace, known.id, self.world.now()).await;
            match wait.map_err(|error| error.to_string())? {
                Some(wait) => held.push((known, wait)),
                None => coming.push(known),
            }
        }
        for gate in (0..5).flat_map(gates_like) {
            let (GateLimit::Running { max } | GateLimit::Starts { max, .. }) = gate.limit;
            let taken = self.taken(&gate, &running);
            if taken > max as usize {
                return Err(format!("{taken} through {gate:?}"));
            }
        }
        let mut places: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (known, wait) in held {
            let full = known.gates.iter().any(|gate| {
                let (GateLimit::Running { max } | GateLimit::Starts { max, .. }) = gate.limit;
                let woken = coming.iter().filter(|other| other.gates.contains(gate)).count();
                self.taken(gate, &running) + woken >= max as usize
            });
            if !full {
                return Err(format!("{} is held back by {:?}, which has places", known.id, wait.gate));
            }
            if !known.gates.contains(&wait.gate) {
                return Err(format!("{} has no gate {:?}", known.id, wait.gate));
            }
            if !wait.holders.iter().all(|holder| running.contains(holder)) {
                return Err(format!("{:?} is held by tasks that do not run", wait.gate));
            }
            places.entry(format!("{:?}", wait.gate)).or_default().push(wait.position);
        }
        for (gate, mut positions) in places {
            positions.sort_unstable();
            if positions.iter().zip(1..).any(|(position, expected)| *position != expected) {
                return Err(format!("the positions at {gate} are {positions:?}"));
            }
        }
        Ok(())
    }

    /// Claims what is announced and ends it, until nothing is left.
    async fn end_all(&mut self) -> Result<(), String> {
        for _ in 0..400 {
            while let Some(task) = self.announced.pop_front() {
                self.claim(task).await?;
                self.check().await?;
            }
            if self.tasks.iter().any(|known| known.lease.is_some()) {
                self.finish(0, Outcome::Succeeded).await?;
                continue;
            }
            let mut open = 0;
            for known in &self.tasks {
                open += usize::from(!self.task(known.id).await?.status.is_terminal());
            }
            if open == 0 {
                return Ok(());
            }
            self.world.clock.advance(Duration::from_secs(1));
            let expired = self.world.state.expire(self.world.now(), MANY).await.map_err(|error| error.to_string())?;
            self.hear(&expired.transition);
            self.due().await?;
        }
        Err("some tasks wait for ever".to_owned())
    }
}
