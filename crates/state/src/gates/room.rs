//! One gate: who has a place, to whom one is promised, who waits, and what has started.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use domain::{GateLimit, TaskId};

/// How long starts are remembered at most, in microseconds.
const LONGEST_WINDOW: i64 = 7 * 86_400 * 1_000_000;

/// The order of waiting: the higher priority first, then the older task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    rank: u8,
    pub(super) key: i64,
}

impl Order {
    pub(super) fn new(priority: u8, key: i64) -> Self {
        Self { rank: u8::MAX - priority, key }
    }

    /// Behind everyone of at least the same priority.
    pub(super) fn last_of_rank(self) -> Self {
        Self { rank: self.rank, key: i64::MAX }
    }
}

/// How many a gate lets through, as one task's terms say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Limit {
    Running { max: usize },
    Starts { max: usize, window: i64 },
}

impl Limit {
    pub(super) fn of(limit: GateLimit) -> Self {
        // A limit of none would hold its tasks back for ever.
        let most = |max: u32| max.max(1) as usize;
        match limit {
            GateLimit::Running { max } => Self::Running { max: most(max) },
            GateLimit::Starts { max, per_ms } => {
                let window = i64::try_from(per_ms).unwrap_or(i64::MAX).saturating_mul(1_000).min(LONGEST_WINDOW);
                Self::Starts { max: most(max), window }
            }
        }
    }

    pub(super) fn as_gate(self) -> GateLimit {
        let most = |max: usize| u32::try_from(max).unwrap_or(u32::MAX);
        match self {
            Self::Running { max } => GateLimit::Running { max: most(max) },
            Self::Starts { max, window } => {
                GateLimit::Starts { max: most(max), per_ms: u64::try_from(window / 1_000).unwrap_or_default() }
            }
        }
    }

    pub(super) fn is_starts(self) -> bool {
        matches!(self, Self::Starts { .. })
    }
}

/// A gate's state.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Tasks that are held by workers, by the order of their claims.
    pub(super) holders: BTreeMap<u64, TaskId>,
    /// Tasks that were woken and have not come yet.
    pub(super) promised: BTreeSet<Order>,
    /// The first task that is held back of each class, with its class.
    pub(super) heads: BTreeMap<Order, u32>,
    /// The limits of the classes that have the gate, and how many classes have each.
    pub(super) limits: HashMap<Limit, usize>,
    /// When tasks started, ascending.
    pub(super) starts: VecDeque<i64>,
    /// The longest window that counts them.
    window: i64,
}

impl Room {
    /// Tells whether a task may pass that comes behind everyone to whom a place is promised before `order`.
    pub(super) fn is_open(&self, limit: Limit, now: i64, order: Order) -> bool {
        self.free(limit, now, order) > 0
    }

    /// When a limit on starts opens by itself; none when it waits for something else than time.
    pub(super) fn opens_at(&self, limit: Limit, order: Order) -> Option<i64> {
        let Limit::Starts { max, window } = limit else { return None };
        let allowed = max.saturating_sub(self.promised.range(..order).take(max).count());
        let index = self.starts.len().checked_sub(allowed)?;
        self.starts.get(index).map(|at| at.saturating_add(window))
    }

    /// Remembers a start; returns its time, which is never before an earlier one's, and when it may be forgotten.
    pub(super) fn start(&mut self, limit: Limit, now: i64) -> (i64, i64) {
        let at = self.starts.back().map_or(now, |last| now.max(*last));
        if let Limit::Starts { window, .. } = limit {
            self.window = self.window.max(window);
        }
        self.starts.push_back(at);
        self.forget(now);
        (at, at.saturating_add(self.window))
    }

    /// Takes back from the record when a task started, and until when that counts.
    pub(super) fn restore_start(&mut self, at: i64, forget_at: i64) {
        self.window = self.window.max(forget_at.saturating_sub(at));
        let at = self.starts.back().map_or(at, |last| at.max(*last));
        self.starts.push_back(at);
    }

    /// Forgets starts that no window counts any more.
    pub(super) fn forget(&mut self, now: i64) {
        while self.starts.front().is_some_and(|at| at.saturating_add(self.window) <= now) {
            self.starts.pop_front();
        }
    }

    fn free(&self, limit: Limit, now: i64, order: Order) -> usize {
        let (max, taken) = match limit {
            Limit::Running { max } => (max, self.holders.len()),
            Limit::Starts { max, window } => {
                let over = now.saturating_sub(window);
                (max, self.starts.len() - self.starts.partition_point(|at| *at <= over))
            }
        };
        let free = max.saturating_sub(taken);
        if free > self.promised.len() {
            return free - self.promised.len();
        }
        free - self.promised.range(..order).take(free).count()
    }
}
