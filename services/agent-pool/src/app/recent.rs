//! What happened in the last minute: how long runs took, and how each agent did.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use agent::RunEnd;
use domain::{AgentName, AgentWork, Durations, Lease, Namespace, Timestamp};

/// An agent of a namespace.
pub(crate) type Whose = (Namespace, AgentName);

/// How long a piece of the minute is; pieces are forgotten as a whole.
const PIECE: Duration = Duration::from_secs(10);
/// How many pieces there are, the one that is being filled included.
const PIECES: usize = 6;
/// A report names this many agents at most: it must stay a small message.
const AGENTS: usize = 256;

/// The last minute.
#[derive(Default)]
pub(crate) struct Recent {
    pieces: VecDeque<Piece>,
    running: HashMap<(domain::TaskId, u32), Whose>,
    seen: HashMap<Whose, Timestamp>,
    begun: Option<Timestamp>,
}

struct Piece {
    since: Timestamp,
    durations: Durations,
    ended: HashMap<Whose, (u32, u32)>,
}

impl Recent {
    pub(super) fn begin(&mut self, lease: Lease, whose: Whose, now: Timestamp) {
        self.see(&whose, now);
        self.running.insert((lease.task, lease.epoch), whose);
    }

    pub(super) fn end(&mut self, lease: Lease, end: RunEnd, took: Duration, now: Timestamp) {
        let Some(whose) = self.running.remove(&(lease.task, lease.epoch)) else { return };
        self.see(&whose, now);
        let piece = self.piece(now);
        piece.durations.add(took);
        let (well, badly) = piece.ended.entry(whose).or_default();
        match end {
            RunEnd::Succeeded | RunEnd::Parked | RunEnd::Cancelled => *well += 1,
            RunEnd::Failed | RunEnd::Retried => *badly += 1,
            // Says nothing about the agent.
            RunEnd::Released | RunEnd::Dropped => {}
        }
    }

    /// How long the runs of the last minute took, and how many seconds of it there were.
    pub(super) fn durations(&mut self, now: Timestamp) -> (Durations, f64) {
        self.piece(now);
        let mut all = Durations::default();
        self.pieces.iter().for_each(|piece| all.merge(&piece.durations));
        let since = self.pieces.front().map_or(now, |piece| piece.since);
        let seconds = (now - since).to_std().unwrap_or_default().as_secs_f64().max(1.0);
        (all, seconds)
    }

    /// The agents that run now or ran in the last minute: those that run first, then those that were seen last.
    pub(super) fn agents(&mut self, now: Timestamp) -> Vec<AgentWork> {
        self.piece(now);
        let oldest = self.pieces.front().map_or(now, |piece| piece.since);
        let mut running: HashMap<&Whose, u32> = HashMap::new();
        for whose in self.running.values() {
            *running.entry(whose).or_default() += 1;
        }
        self.seen.retain(|whose, seen| *seen >= oldest || running.contains_key(whose));
        let work = |(whose, last_seen): (&Whose, &Timestamp)| {
            let counted = self.pieces.iter().filter_map(|piece| piece.ended.get(whose));
            let (well, badly) = counted.fold((0, 0), |sum, piece| (sum.0 + piece.0, sum.1 + piece.1));
            let running = running.get(whose).copied().unwrap_or(0);
            let (namespace, agent) = whose.clone();
            AgentWork { namespace, agent, running, well, badly, last_seen: *last_seen }
        };
        let mut all: Vec<AgentWork> = self.seen.iter().map(work).collect();
        all.sort_by(|a, b| (b.running, b.last_seen).cmp(&(a.running, a.last_seen)).then_with(|| a.agent.cmp(&b.agent)));
        all.truncate(AGENTS);
        all
    }

    fn see(&mut self, whose: &Whose, now: Timestamp) {
        match self.seen.get_mut(whose) {
            Some(seen) => *seen = now,
            None => drop(self.seen.insert(whose.clone(), now)),
        }
    }

    /// The piece of now; those that are older than a minute are forgotten.
    fn piece(&mut self, now: Timestamp) -> &mut Piece {
        let begun = *self.begun.get_or_insert(now);
        let is_over = self.pieces.back().is_none_or(|piece| piece.since + PIECE <= now || now < piece.since);
        if is_over {
            let since = self.pieces.back().map_or(begun, |_| now);
            self.pieces.push_back(Piece { since, durations: Durations::default(), ended: HashMap::new() });
        }
        let minute = PIECE * PIECES as u32;
        while self.pieces.len() > 1 && self.pieces.front().is_some_and(|piece| piece.since + minute <= now) {
            self.pieces.pop_front();
        }
        let last = self.pieces.len() - 1;
        &mut self.pieces[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(agent: &str) -> Whose {
        (Namespace::default(), AgentName::new(agent).unwrap())
    }

    fn lease(n: u128) -> Lease {
        Lease { task: domain::TaskId(n.to_string().parse::<u128>().map(uuid).unwrap()), epoch: 1 }
    }

    fn uuid(n: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(n)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn what_runs_is_named_first_and_what_is_over_for_a_minute_not_at_all() {
        let mut recent = Recent::default();
        recent.begin(lease(1), whose("a"), at(0));
        recent.begin(lease(2), whose("b"), at(0));
        recent.end(lease(2), RunEnd::Failed, Duration::from_millis(20), at(1));
        let agents = recent.agents(at(2));
        let told: Vec<_> =
            agents.iter().map(|work| (work.agent.as_str(), work.running, work.well, work.badly)).collect();
        assert_eq!(told, [("a", 1, 0, 0), ("b", 0, 0, 1)]);
        assert_eq!(agents[1].last_seen, at(1));
        let later = recent.agents(at(90));
        assert_eq!(later.len(), 1, "{later:?}");
        assert_eq!(later[0].agent.as_str(), "a");
    }

    #[test]
    fn durations_of_more_than_a_minute_ago_are_forgotten() {
        let mut recent = Recent::default();
        for second in 0..120 {
            let lease = lease(u128::from(second) + 1);
            recent.begin(lease, whose("a"), at(second));
            recent.end(lease, RunEnd::Succeeded, Duration::from_millis(second), at(second));
        }
        let (durations, seconds) = recent.durations(at(119));
        assert!((50..=60).contains(&durations.count()), "{}", durations.count());
        assert!((50.0..=60.0).contains(&seconds), "{seconds}");
    }
}
