//! The pools as they told of themselves in the last seconds. Every copy of the service listens for itself: what is here is for
//! people to look at, and nothing is decided by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{
    AgentName, AgentWork, Clock, Durations, ExecutionMode, Namespace, PoolPhase, PoolReport, Timestamp, WorkerId,
};

/// A worker that was silent for longer counts as gone.
const SILENCE: Duration = Duration::from_secs(5);
/// More workers than this are not kept: somebody else speaks on the bus.
const WORKERS: usize = 10_000;
/// For how many agents it is kept when they were last seen.
const AGENTS: usize = 100_000;
/// An agent is degraded when at least so many of its recent runs failed, and at least half of them.
const FAILURES: u32 = 3;

/// What pools told. Clones share it.
#[derive(Clone)]
pub struct Pools {
    clock: Arc<dyn Clock>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    reports: HashMap<WorkerId, (Duration, PoolReport)>,
    seen: HashMap<(Namespace, AgentName), Timestamp>,
    listening: Option<Duration>,
}

/// A worker as it last told of itself.
#[derive(Debug, Clone)]
pub struct Worker {
    /// What it told.
    pub report: PoolReport,
    /// How long ago.
    pub silent: Duration,
}

/// What the workers of one mode say together of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Why it is not well; `None` when it is, or when nobody knows.
    pub trouble: Option<Trouble>,
    /// When a worker last began or ended a task of it.
    pub last_seen: Option<Timestamp>,
}

/// Why an agent is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It is degraded.
    Degraded(String),
    /// The workers that could do its tasks take none.
    Paused(String),
}

impl Pools {
    /// Knows nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, heard: Arc::default() }
    }

    /// Reports can be heard from now on, or cannot any more.
    pub fn listening(&self, listening: bool) {
        let now = self.clock.monotonic();
        self.lock().listening = listening.then_some(now);
    }

    /// Takes note of a report; one of a worker that stopped removes it.
    pub fn hear(&self, report: &PoolReport) {
        let now = self.clock.monotonic();
        let mut heard = self.lock();
        for work in &report.agents {
            if heard.seen.len() >= AGENTS {
                heard.seen.clear();
            }
            let seen = heard.seen.entry((work.namespace.clone(), work.agent.clone())).or_insert(work.last_seen);
            *seen = work.last_seen.max(*seen);
        }
        if report.phase == PoolPhase::Stopped {
            heard.reports.remove(&report.worker);
            return;
        }
        heard.reports.retain(|_, (at, _)| now.saturating_sub(*at) < SILENCE);
        if heard.reports.len() < WORKERS {
            heard.reports.insert(report.worker, (now, report.clone()));
        }
    }

    /// The workers of a mode that were heard in the last seconds, by when they started.
    pub fn workers(&self, mode: ExecutionMode) -> Vec<Worker> {
        let now = self.clock.monotonic();
        let heard = self.lock();
        let alive =
            heard.reports.values().filter(|(at, report)| report.mode == mode && now.saturating_sub(*at) < SILENCE);
        let mut workers: Vec<Worker> =
            alive.map(|(at, report)| Worker { report: report.clone(), silent: now.saturating_sub(*at) }).collect();
        drop(heard);
        workers.sort_by_key(|worker| (worker.report.started_at, worker.report.worker));
        workers
    }

    /// Judges agents of a mode.
    pub fn judge(&self, mode: ExecutionMode) -> Judge {
        let known = {
            let heard = self.lock();
            heard.listening.is_some_and(|since| self.clock.monotonic().saturating_sub(since) >= SILENCE)
        };
        Judge { pools: self.clone(), workers: self.workers(mode), mode, known }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Judges agents of one mode by what its workers told.
pub struct Judge {
    pools: Pools,
    workers: Vec<Worker>,
    mode: ExecutionMode,
    /// Somebody listened for long enough that silence means something.
    known: bool,
}

impl Judge {
    /// Judges one.
    pub fn of(&self, namespace: &Namespace, agent: &AgentName) -> Judgement {
        let last_seen = self.pools.lock().seen.get(&(namespace.clone(), agent.clone())).copied();
        Judgement { trouble: self.trouble(namespace, agent), last_seen }
    }

    fn trouble(&self, namespace: &Namespace, agent: &AgentName) -> Option<Trouble> {
        let mode = self.mode;
        if self.workers.is_empty() {
            return self.known.then(|| Trouble::Degraded(format!("no {mode} pool runs")));
        }
        let takes = |worker: &Worker| worker.report.phase == PoolPhase::Running;
        if !self.workers.iter().any(takes) {
            return Some(Trouble::Paused(format!("no {mode} pool takes tasks just now")));
        }
        let of_it = |work: &&AgentWork| work.namespace == *namespace && work.agent == *agent;
        let work = self.workers.iter().flat_map(|worker| &worker.report.agents).filter(of_it);
        let (well, badly) = work.fold((0, 0), |sum, work| (sum.0 + work.well, sum.1 + work.badly));
        let degraded = badly >= FAILURES && badly >= well;
        degraded.then(|| Trouble::Degraded(format!("{badly} of its last {} runs failed", well + badly)))
    }
}

/// How long the recent runs of workers took together, and how many ended in a second.
pub fn recent(workers: &[Worker]) -> (Durations, f64) {
    let mut durations = Durations::default();
    for worker in workers {
        durations.merge(&worker.report.recent);
    }
    (durations, workers.iter().fold(0.0, |sum, worker| sum + rate(&worker.report)))
}

/// How many runs of a worker ended in a second, over the last minute.
pub fn rate(report: &PoolReport) -> f64 {
    report.recent.count() as f64 / report.recent_seconds.max(1.0)
}

#[cfg(test)]
mod tests {
    use domain::ManualClock;
    use uuid::Uuid;

    use super::*;

    fn report(worker: u128) -> PoolReport {
        PoolReport {
            worker: WorkerId(Uuid::from_u128(worker)),
            host: "pool".to_owned(),
            version: "1".to_owned(),
            mode: ExecutionMode::Autonomous,
            phase: PoolPhase::Running,
            started_at: Timestamp::UNIX_EPOCH,
            capacity: 4,
            running: 1,
            missed: 0,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
            parked: 0,
            retried: 0,
            given_back: 0,
            recent: Durations::default(),
            recent_seconds: 60.0,
            agents: Vec::new(),
        }
    }

    fn work(well: u32, badly: u32) -> AgentWork {
        let (namespace, last_seen) = (Namespace::default(), Timestamp::UNIX_EPOCH + Duration::from_secs(9));
        AgentWork { namespace, agent: writer(), running: 0, well, badly, last_seen }
    }

    fn writer() -> AgentName {
        AgentName::new("writer").unwrap()
    }

    fn pools() -> (Pools, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        (Pools::new(clock.clone()), clock)
    }

    fn trouble(pools: &Pools) -> Option<Trouble> {
        pools.judge(ExecutionMode::Autonomous).of(&Namespace::default(), &writer()).trouble
    }

    #[test]
    fn a_worker_that_is_silent_or_has_stopped_is_gone() {
        let (pools, clock) = pools();
        pools.hear(&report(1));
        pools.hear(&report(2));
        assert_eq!(pools.workers(ExecutionMode::Autonomous).len(), 2);
        assert!(pools.workers(ExecutionMode::Continuous).is_empty());
        pools.hear(&PoolReport { phase: PoolPhase::Stopped, ..report(1) });
        assert_eq!(pools.workers(ExecutionMode::Autonomous).len(), 1);
        clock.advance(SILENCE);
        assert!(pools.workers(ExecutionMode::Autonomous).is_empty());
    }

    #[test]
    fn silence_means_something_only_to_who_has_listened() {
        let (pools, clock) = pools();
        clock.advance(SILENCE * 2);
        assert_eq!(trouble(&pools), None, "nobody listened");
        pools.listening(true);
        assert_eq!(trouble(&pools), None, "not for long");
        clock.advance(SILENCE);
        assert_eq!(trouble(&pools), Some(Trouble::Degraded("no autonomous pool runs".to_owned())));
        pools.hear(&report(1));
        assert_eq!(trouble(&pools), None);
        pools.hear(&PoolReport { phase: PoolPhase::Draining, ..report(1) });
        assert!(matches!(trouble(&pools), Some(Trouble::Paused(_))));
    }

    #[test]
    fn an_agent_most_of_whose_runs_fail_anywhere_is_degraded() {
        let (pools, _) = pools();
        pools.hear(&PoolReport { agents: vec![work(3, 2)], ..report(1) });
        assert_eq!(trouble(&pools), None);
        pools.hear(&PoolReport { agents: vec![work(0, 1)], ..report(2) });
        assert_eq!(trouble(&pools), Some(Trouble::Degraded("3 of its last 6 runs failed".to_owned())));
        let judged = pools.judge(ExecutionMode::Autonomous).of(&Namespace::default(), &writer());
        assert_eq!(judged.last_seen, Some(work(0, 0).last_seen));
    }
}
