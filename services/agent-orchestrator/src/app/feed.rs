//! What a watcher of a task is told, in which order, and never twice: pure.

use std::collections::VecDeque;
use std::str::FromStr;

use domain::{Delta, Step, TaskId, TaskStatus};
use wire::{BudgetEvent, DeltaEvent, ProgressEvent, RestartEvent, StatusEvent, TaskView};

/// One thing that a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The task's status.
    Status(StatusEvent),
    /// A finished step.
    Step(Box<Step>),
    /// A piece of the answer that is being spoken.
    Delta(DeltaEvent),
    /// What was spoken of a step is void.
    Restart(RestartEvent),
    /// How far a tool is.
    Progress(ProgressEvent),
    /// A budget has reached four fifths of a limit.
    Budget(BudgetEvent),
    /// The task ended; nothing follows.
    Finished(Box<TaskView>),
}

impl Told {
    /// Names the place after this, for `Last-Event-ID`; `None` when it is no place to go on from.
    pub fn id(&self) -> Option<String> {
        match self {
            Self::Step(step) => Some(step.seq.to_string()),
            Self::Delta(DeltaEvent { seq, epoch, call, n, .. }) => Some(format!("{seq}-{epoch}-{call}-{n}")),
            Self::Finished(_) => Some("end".to_owned()),
            Self::Status(_) | Self::Restart(_) | Self::Progress(_) | Self::Budget(_) => None,
        }
    }
}

/// Where a watcher goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// After this step.
    Step(u32),
    /// In the middle of an answer.
    Delta(Spoken),
    /// After the end.
    End,
}

/// The last piece of an answer that a watcher heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    seq: u32,
    epoch: u32,
    call: u32,
    n: u32,
}

/// A `Last-Event-ID` that none of our events had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of an event of this stream: `12`, `12-3-1-40` or `end`")]
pub struct InvalidResume;

impl FromStr for Resume {
    type Err = InvalidResume;

    fn from_str(text: &str) -> Result<Self, InvalidResume> {
        if text == "end" {
            return Ok(Self::End);
        }
        let number = |part: &str| -> Result<u32, InvalidResume> {
            let canonical = part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            let number = part.parse().map_err(|_| InvalidResume)?;
            if canonical && number < u32::MAX { Ok(number) } else { Err(InvalidResume) }
        };
        let parts = text.split('-').take(5).map(number).collect::<Result<Vec<_>, _>>()?;
        match parts[..] {
            [seq] => Ok(Self::Step(seq)),
            [seq, epoch, call, n] if seq > 0 => Ok(Self::Delta(Spoken { seq, epoch, call, n })),
            _ => Err(InvalidResume),
        }
    }
}

/// Remembers what a watcher was told, and decides what it is told next.
#[derive(Debug)]
pub(super) struct Feed {
    task: TaskId,
    next: u32,
    spoken: Option<Spoken>,
    status: Option<(TaskStatus, bool)>,
}

impl Feed {
    /// Begins with the input, or where the watcher stopped.
    pub(super) fn new(task: TaskId, resume: Option<Resume>) -> Self {
        let (next, spoken) = match resume {
            Some(Resume::Step(seq)) => (seq + 1, None),
            Some(Resume::Delta(spoken)) => (spoken.seq, Some(spoken)),
            Some(Resume::End) | None => (0, None),
        };
        Self { task, next, spoken, status: None }
    }

    /// The first step that the watcher was not told.
    pub(super) fn next_step(&self) -> u32 {
        self.next
    }

    /// Skips what was told before.
    pub(super) fn skip_to(&mut self, step: u32) {
        self.next = step;
    }

    /// Takes a step. False: steps between are missing, so the journal must be read.
    pub(super) fn step(&mut self, step: Step, out: &mut VecDeque<Told>) -> bool {
        if step.seq > self.next {
            return false;
        }
        if step.seq == self.next {
            self.next += 1;
            out.push_back(Told::Step(Box::new(step)));
        }
        true
    }

    /// Tells whether steps are missing before this piece.
    pub(super) fn lacks_steps_before(&self, delta: &Delta) -> bool {
        delta.seq > self.next
    }

    /// Takes a piece of an answer: one of a finished step, of a dead worker, or heard before is dropped.
    pub(super) fn delta(&mut self, delta: &Delta, out: &mut VecDeque<Told>) {
        if delta.seq < self.next {
            return;
        }
        let Delta { seq, epoch, call, n, .. } = *delta;
        if let Some(heard) = self.spoken.filter(|heard| heard.seq == seq) {
            let (before, now) = ((heard.epoch, heard.call), (epoch, call));
            if now < before || (now == before && n <= heard.n) {
                return;
            }
            if now > before {
                out.push_back(Told::Restart(RestartEvent { seq, epoch, call }));
            }
        }
        self.spoken = Some(Spoken { seq, epoch, call, n });
        out.push_back(Told::Delta(delta.into()));
    }

    /// Takes the status; the same one again is not told.
    pub(super) fn status(&mut self, status: TaskStatus, cancelling: bool, out: &mut VecDeque<Told>) {
        if self.status != Some((status, cancelling)) {
            self.status = Some((status, cancelling));
            out.push_back(Told::Status(StatusEvent { id: self.task, status, cancelling }));
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{StepBody, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn delta(seq: u32, epoch: u32, call: u32, n: u32) -> Delta {
        Delta { seq, epoch, call, n, text: format!("{seq}-{epoch}-{call}-{n} ") }
    }

    fn step(seq: u32) -> Step {
        Step { seq, epoch: 1, at: Timestamp::UNIX_EPOCH, body: StepBody::Rejected { problems: Vec::new() } }
    }

    fn feed(resume: Option<&str>) -> Feed {
        Feed::new(TaskId(Uuid::from_u128(1)), resume.map(|text| text.parse().unwrap()))
    }

    fn ids(told: &VecDeque<Told>) -> Vec<String> {
        told.iter().map(|told| told.id().unwrap_or_else(|| format!("{told:?}").chars().take(7).collect())).collect()
    }

    fn heard(feed: &mut Feed, deltas: &[Delta]) -> Vec<String> {
        let mut out = VecDeque::new();
        for delta in deltas {
            feed.delta(delta, &mut out);
        }
        ids(&out)
    }

    #[test]
    fn ids_are_read_back_and_garbage_is_refused() {
        for text in ["0", "12", "12-3-1-40", "end"] {
            assert!(text.parse::<Resume>().is_ok(), "{text}");
        }
        let huge = "9".repeat(1000);
        for text in [
            "",
            "-1",
            "+1",
            "01",
            "1-2",
            "1-2-3",
            "1-2-3-4-5",
            "0-1-1-1",
            "999999999999",
            "4294967295",
            "END",
            "é",
            "1 ",
            &huge,
        ] {
            assert!(text.parse::<Resume>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reader_in_mid_answer_goes_on_with_the_next_piece() {
        let mut feed = feed(Some("1-1-1-2"));
        assert_eq!(heard(&mut feed, &[delta(1, 1, 1, 1), delta(1, 1, 1, 2), delta(1, 1, 1, 3)]), ["1-1-1-3"]);
    }

    #[test]
    fn a_new_call_or_a_new_worker_makes_what_was_spoken_void() {
        let mut feed = feed(Some("1-1-1-2"));
        assert_eq!(heard(&mut feed, &[delta(1, 1, 2, 1), delta(1, 1, 2, 2)]), ["Restart", "1-1-2-1", "1-1-2-2"]);
        assert_eq!(heard(&mut feed, &[delta(1, 2, 1, 1)]), ["Restart", "1-2-1-1"]);
    }

    #[test]
    fn a_fenced_worker_is_not_heard() {
        let mut feed = feed(Some("1-2-1-2"));
        assert!(heard(&mut feed, &[delta(1, 1, 1, 3), delta(1, 1, 9, 9)]).is_empty());
    }

    #[test]
    fn a_finished_step_ends_its_pieces() {
        let mut feed = feed(Some("1-1-1-2"));
        let mut out = VecDeque::new();
        assert!(feed.step(step(1), &mut out));
        feed.delta(&delta(1, 1, 1, 3), &mut out);
        feed.delta(&delta(2, 1, 1, 1), &mut out);
        assert_eq!(ids(&out), ["1", "2-1-1-1"]);
    }

    #[test]
    fn a_step_is_told_once_and_a_gap_is_noticed() {
        let mut feed = feed(Some("4"));
        let mut out = VecDeque::new();
        assert!(feed.step(step(3), &mut out) && feed.step(step(4), &mut out));
        assert!(!feed.step(step(6), &mut out));
        assert!(feed.step(step(5), &mut out) && feed.step(step(6), &mut out) && feed.step(step(6), &mut out));
        assert_eq!(ids(&out), ["5", "6"]);
    }

    #[test]
    fn an_unchanged_status_is_not_repeated() {
        let mut feed = feed(None);
        let mut out = VecDeque::new();
        feed.status(TaskStatus::Running, false, &mut out);
        feed.status(TaskStatus::Running, false, &mut out);
        feed.status(TaskStatus::Running, true, &mut out);
        assert_eq!(out.len(), 2);
    }
}
