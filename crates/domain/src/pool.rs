//! What a pool's worker process tells of itself about once a second. A report is a hint like any other event: it is kept in
//! memory for a few seconds by whoever shows it, and the next one replaces it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AgentName, ExecutionMode, Namespace, Timestamp, WorkerId};

/// One worker process at one moment. Counts are of the process's whole life; what is recent is of the last minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolReport {
    /// The process.
    pub worker: WorkerId,
    /// The machine or container that it runs in.
    pub host: String,
    /// Its version.
    pub version: String,
    /// Whose tasks it runs.
    pub mode: ExecutionMode,
    /// Whether it takes tasks.
    pub phase: PoolPhase,
    /// When it started.
    pub started_at: Timestamp,
    /// How many tasks it runs at most at once.
    pub capacity: u32,
    /// How many it runs.
    pub running: u32,
    /// Announcements whose task was already taken or had ended.
    pub missed: u64,
    /// Runs that ended with an answer.
    pub succeeded: u64,
    /// Runs that failed for good.
    pub failed: u64,
    /// Runs that were stopped.
    pub cancelled: u64,
    /// Runs that began to wait and gave their place free.
    pub parked: u64,
    /// Attempts that failed and will be followed by another.
    pub retried: u64,
    /// Runs that were given back, or dropped because their lease was lost.
    pub given_back: u64,
    /// Runs that ended in the last minute, by how long they took.
    pub recent: Durations,
    /// How many seconds `recent` covers.
    pub recent_seconds: f64,
    /// Agents that it runs now or ran in the last minute.
    #[serde(default)]
    pub agents: Vec<AgentWork>,
}

/// Whether a pool takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolPhase {
    /// It prepares what it needs before the first task.
    Starting,
    /// It takes tasks.
    Running,
    /// It ends its runs and takes no more.
    Draining,
    /// It is gone.
    Stopped,
}

impl PoolPhase {
    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// What a worker process does for one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentWork {
    /// Whose agent.
    pub namespace: Namespace,
    /// The agent.
    pub agent: AgentName,
    /// Its runs now.
    pub running: u32,
    /// Its runs of the last minute that ended well: with an answer, waiting, stopped by a person.
    pub well: u32,
    /// Its runs of the last minute that failed, those that will be tried again included.
    pub badly: u32,
    /// When one of its runs last began or ended.
    pub last_seen: Timestamp,
}

/// How long things took, in buckets of which each is a quarter larger than the one before: those of several processes
/// can be added up, and a quantile is off by an eighth at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Durations(Vec<u32>);

/// The factor between the upper bounds of two buckets; the first one ends at a millisecond.
const GROWTH: f64 = 1.25;
/// The last bucket begins at about three months.
const BUCKETS: usize = 102;

impl Durations {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        let millis = took.as_secs_f64() * 1e3;
        let bucket = if millis <= 1.0 { 0 } else { (millis.ln() / GROWTH.ln()).ceil() as usize }.min(BUCKETS - 1);
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, 0);
        }
        self.0[bucket] = self.0[bucket].saturating_add(1);
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        let length = self.0.len().max(other.0.len()).min(BUCKETS);
        self.0.resize(length, 0);
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// How long `share` of them took at most, 0 to 1; `None` when nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.0.iter().position(|in_bucket| {
            seen += u64::from(*in_bucket);
            seen >= rank
        })?;
        // The middle of the bucket, as nothing tells where in it they are.
        let middle = if bucket == 0 { 0.5 } else { GROWTH.powi(bucket as i32) * (1.0 + 1.0 / GROWTH) / 2.0 };
        Some(Duration::from_secs_f64(middle / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: &[u64]) -> Durations {
        let mut durations = Durations::default();
        for millis in millis {
            durations.add(Duration::from_millis(*millis));
        }
        durations
    }

    #[test]
    fn quantiles_are_off_by_an_eighth_at_most() {
        for millis in [2, 7, 40, 999, 60_000, 3_600_000] {
            let found = of(&[millis]).quantile(0.5).unwrap().as_secs_f64() * 1e3;
            assert!((found / millis as f64 - 1.0).abs() <= 0.125 + 1e-9, "{millis}: {found}");
        }
        let durations = of(&(1..=1_000).collect::<Vec<_>>());
        for (share, expected) in [(0.5, 500.0), (0.95, 950.0)] {
            let found = durations.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!((found / expected - 1.0).abs() <= 0.13, "{share}: {found}");
        }
    }

    #[test]
    fn merging_counts_as_if_one_had_seen_all() {
        let mut merged = of(&[1, 50]);
        merged.merge(&of(&[900, 7, 7]));
        assert_eq!(merged, of(&[1, 50, 900, 7, 7]));
        assert_eq!(merged.count(), 5);
    }

    #[test]
    fn nothing_has_no_quantile_and_the_longest_still_counts() {
        assert_eq!(Durations::default().quantile(0.5), None);
        let mut durations = Durations::default();
        durations.add(Duration::MAX);
        durations.add(Duration::ZERO);
        assert_eq!(durations.count(), 2);
    }
}
