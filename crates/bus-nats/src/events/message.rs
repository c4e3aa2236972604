//! What goes over the wire about events, and under which subjects.

use std::borrow::Cow;

use domain::{Event, EventBody, EventKind, TaskId};
use serde::{Deserialize, Serialize};

/// The version of what we write, and the only one that we read.
const VERSION: u32 = 1;

/// One message.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Envelope<'a> {
    v: u32,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<Cow<'a, Event>>,
    /// What became of deltas, for those who read them later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<Mark>,
    /// Events could not be sent: read the record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) missed: bool,
}

/// What became of a task's deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// The step is in the journal.
    Step(u32),
    /// The task ended.
    End,
}

impl<'a> Envelope<'a> {
    pub(crate) fn event(event: &'a Event) -> Self {
        Self { v: VERSION, event: Some(Cow::Borrowed(event)), ..Self::default() }
    }

    pub(crate) fn mark(mark: Mark) -> Self {
        Self { v: VERSION, mark: Some(mark), ..Self::default() }
    }

    pub(crate) fn missed() -> Self {
        Self { v: VERSION, missed: true, ..Self::default() }
    }

    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// Reads a message; what is not ours is counted and dropped.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Envelope<'static>> {
        let read: Option<Envelope<'static>> = serde_json::from_slice(bytes).ok();
        let ours = read.filter(|envelope| envelope.v == VERSION);
        if ours.is_none() {
            metrics::counter!("events_dropped_total", "reason" => "undecodable").increment(1);
        }
        ours
    }
}

/// Where things are told. A task's id is the last word of each of its subjects.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    prefix: String,
}

impl Subjects {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Where an event is told.
    pub(crate) fn of(&self, body: &EventBody) -> String {
        let kind = Self::word(body.kind());
        match (body, body.task()) {
            (EventBody::TaskDelta { task, .. }, _) => self.deltas(*task),
            (_, Some(task)) => format!("{}.events.{kind}.{task}", self.prefix),
            (_, None) => format!("{}.events.{kind}.agent", self.prefix),
        }
    }

    /// A task's deltas and marks.
    pub(crate) fn deltas(&self, task: TaskId) -> String {
        format!("{}.deltas.spoken.{task}", self.prefix)
    }

    pub(crate) fn all_deltas(&self) -> String {
        format!("{}.deltas.spoken.*", self.prefix)
    }

    /// Everything but deltas.
    pub(crate) fn everything(&self) -> String {
        format!("{}.events.*.*", self.prefix)
    }

    /// All events of a kind but deltas.
    pub(crate) fn all_of(&self, kind: EventKind) -> String {
        format!("{}.events.{}.*", self.prefix, Self::word(kind))
    }

    /// All of a task, in the order in which it was told: it takes one subscription for that.
    pub(crate) fn task(&self, task: TaskId) -> String {
        format!("{}.*.*.{task}", self.prefix)
    }

    /// Who listens to what.
    pub(crate) fn interest(&self) -> String {
        format!("{}.interest", self.prefix)
    }

    /// Somebody could not tell everything.
    pub(crate) fn missed(&self) -> String {
        format!("{}.missed", self.prefix)
    }

    /// What a kind of event is called in subjects and metrics.
    pub(crate) fn word(kind: EventKind) -> &'static str {
        match kind {
            EventKind::Delta => "delta",
            EventKind::Step => "step",
            EventKind::Progress => "progress",
            EventKind::End => "end",
            EventKind::Control => "control",
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::Namespace;

    use super::*;

    #[test]
    fn what_is_not_ours_is_dropped() {
        for text in
            ["", "{}", "null", "[]", "\u{1}", r#"{"v":2,"missed":true}"#, r#"{"v":"1"}"#, r#"{"v":1,"event":{}}"#]
        {
            assert!(Envelope::decode(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Envelope::decode(b"{\"v\":1,\"missed\":true,\"from later versions\":1}").is_some());
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let body =
            EventBody::TaskFinished { task: TaskId(uuid::Uuid::from_u128(7)), status: domain::TaskStatus::Failed };
        let event = Event { namespace: Namespace::default(), body };
        let bytes = Envelope::event(&event).encode().unwrap();
        assert_eq!(Envelope::decode(&bytes).unwrap().event.unwrap().into_owned(), event);
        let bytes = Envelope::mark(Mark::Step(3)).encode().unwrap();
        assert_eq!(Envelope::decode(&bytes).unwrap().mark, Some(Mark::Step(3)));
    }
}
