//! What a task waits for: what its journal says of a waiting one, what a gate says of a queued one.

use std::time::Duration;

use domain::{GateLimit, HumanDuration, Step, StepBody, Wait};
use state::GateWait;
use wire::WaitingFor;

/// The waits that are open after the steps seen so far.
#[derive(Debug, Default)]
pub(super) struct OpenWaits(Vec<Wait>);

impl OpenWaits {
    /// Takes the next step of the journal.
    pub(super) fn take(&mut self, step: Step) {
        match step.body {
            StepBody::Parked { waits } => self.0 = waits,
            StepBody::Resolved { call_id, .. } => self.0.retain(|wait| wait.call_id != call_id),
            StepBody::Retried { keep_journal: false } => self.0.clear(),
            _ => {}
        }
    }

    /// The open waits as the API shows them.
    pub(super) fn view(&self) -> Vec<WaitingFor> {
        self.0.iter().map(WaitingFor::from).collect()
    }
}

/// What holds a queued task back, as the API shows it.
pub(super) fn for_gate(wait: GateWait) -> WaitingFor {
    let GateWait { gate, holders, position, until } = wait;
    let limit = match gate.limit {
        GateLimit::Running { max } => format!("{max} running at once"),
        GateLimit::Starts { max, per_ms } => {
            format!("{max} started within {}", HumanDuration(Duration::from_millis(per_ms)))
        }
    };
    WaitingFor::Limit { gate: gate.key, limit, holders, position, until }
}

#[cfg(test)]
mod tests {
    use domain::{Resolution, Timestamp, WaitFor};

    use super::*;

    fn step(seq: u32, body: StepBody) -> Step {
        Step { seq, epoch: 1, at: Timestamp::UNIX_EPOCH, body }
    }

    fn timer(call: &str) -> Wait {
        let on = WaitFor::Timer { at: Timestamp::UNIX_EPOCH };
        Wait { call_id: call.to_owned(), on, expires_at: None, default: None }
    }

    fn calls(steps: Vec<StepBody>) -> Vec<String> {
        let mut open = OpenWaits::default();
        for (seq, body) in (1..).zip(steps) {
            open.take(step(seq, body));
        }
        open.0.into_iter().map(|wait| wait.call_id).collect()
    }

    #[test]
    fn what_was_resolved_is_no_longer_waited_for() {
        let parked = StepBody::Parked { waits: vec![timer("a"), timer("b")] };
        let resolved = StepBody::Resolved { call_id: "a".to_owned(), by: Resolution::Timer };
        assert_eq!(calls(vec![parked, resolved]), ["b"]);
    }

    #[test]
    fn only_the_last_park_counts() {
        let first = StepBody::Parked { waits: vec![timer("a")] };
        let second = StepBody::Parked { waits: vec![timer("c")] };
        assert_eq!(calls(vec![first.clone(), second]), ["c"]);
        assert!(calls(vec![first, StepBody::Retried { keep_journal: false }]).is_empty());
    }
}
