//! From a request to a task that can be recorded: the rules of what may be asked.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use common::problem::{self, Fault, Kind, Problem};
use domain::{AgentName, Clock, Ids, Namespace, NewTask, PlatformLimits, TaskId, TaskInput, Timestamp};
use state::StateError;
use state::agents::AgentVersion;
use wire::SubmitTask;

use super::{digest, images};

/// The longest prompt, and the largest data, in bytes.
pub(super) const TEXT_MAX: usize = 1024 * 1024;
/// The longest user, label name, label value and sender, in bytes.
pub(super) const LABEL_MAX: usize = 256;
const LABELS_MAX: usize = 32;
const KEY_MAX: usize = 255;
const DEFAULT_PRIORITY: u8 = 5;
/// How far ahead a task may be planned.
const AHEAD_MAX: Duration = Duration::from_hours(10 * 366 * 24);
/// A time before this is surely a mistake.
const EARLIEST: i64 = 946_684_800;

/// A request for a task, and what came with it.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The request.
    pub request: SubmitTask,
    /// The key of the header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The W3C `traceparent` of the request.
    pub trace: Option<String>,
}

impl From<SubmitTask> for Submission {
    fn from(request: SubmitTask) -> Self {
        Self { request, idempotency_key: None, trace: None }
    }
}

/// Why a task was not accepted. Nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The request breaks rules.
    #[error("the request has {} fault(s)", .0.len())]
    Invalid(Vec<Fault>),
    /// A text or value is above its limit.
    #[error("{pointer} has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// Where it is in the request.
        pointer: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The agent does not exist, or was withdrawn.
    #[error("agent {agent} does not exist")]
    UnknownAgent {
        /// The agent that was asked for.
        agent: AgentName,
        /// Agents with similar names.
        similar: Vec<AgentName>,
    },
    /// Too many tasks are queued.
    #[error("{queued} tasks are queued, {limit} are allowed")]
    Overloaded {
        /// How many there are.
        queued: u64,
        /// How many may be.
        limit: u64,
    },
    /// The record did not take the task.
    #[error("could not record the task")]
    State(#[from] StateError),
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let text = error.to_string();
        match error {
            SubmitError::Invalid(errors) => Problem { errors, ..Problem::new(Kind::InvalidRequest) },
            SubmitError::TooLarge { pointer, limit, .. } => {
                Problem::new(Kind::TooLarge).detail(text).fault(pointer, format!("must have at most {limit} bytes"))
            }
            SubmitError::UnknownAgent { similar, .. } => super::agents::unknown(&text, "/agent", &similar),
            SubmitError::Overloaded { .. } => {
                Problem::new(Kind::Overloaded).detail(text).retry_after(Duration::from_secs(5))
            }
            SubmitError::State(error) => error.into(),
        }
    }
}

impl utoipa::IntoResponses for SubmitError {
    fn responses() -> problem::Responses {
        problem::responses(&[
            Kind::InvalidRequest,
            Kind::UnsupportedMediaType,
            Kind::BodyTooLarge,
            Kind::TooLarge,
            Kind::UnknownAgent,
            Kind::IdempotencyMismatch,
            Kind::Overloaded,
            Kind::Unavailable,
        ])
    }
}

/// A request that keeps all rules, with the moment at which it was judged.
#[derive(Debug)]
pub(super) struct Accepted {
    submission: Submission,
    input: TaskInput,
    key: Option<String>,
    digest: [u8; 32],
    now: Timestamp,
    run_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    deadline: Option<Timestamp>,
}

impl Accepted {
    pub(super) fn agent(&self) -> &AgentName {
        &self.submission.request.agent
    }

    /// Makes the task, with the version of its agent that it keeps to its end.
    pub(super) fn into_task(
        self,
        namespace: &Namespace,
        agent: &AgentVersion,
        limits: &PlatformLimits,
        ids: &dyn Ids,
    ) -> NewTask {
        let request = self.submission.request;
        let id = TaskId(ids.uuid());
        NewTask {
            id,
            namespace: namespace.clone(),
            idempotency_key: self.key,
            digest: self.digest,
            agent: request.agent,
            agent_version: agent.version,
            mode: agent.spec.execution_mode,
            input: self.input,
            priority: request.priority.unwrap_or(DEFAULT_PRIORITY),
            created_at: self.now,
            run_at: self.run_at,
            expires_at: self.expires_at,
            deadline: self.deadline,
            thread: request.thread_id,
            user: request.user,
            parent: None,
            depth: 0,
            metadata: request.metadata,
            trace: self.submission.trace,
            terms: domain::terms_of(id, &agent.spec, &limits.of(namespace), request.limit_key, None),
        }
    }
}

/// Checks all rules at once.
pub(super) fn check(submission: Submission, clock: &dyn Clock) -> Result<Accepted, SubmitError> {
    let request = &submission.request;
    let mut faults = Faults::default();
    let digest = digest::of(request);
    let key = faults.key(submission.idempotency_key.as_deref(), request.idempotency_key.as_deref());
    faults.labels(request);
    // The record keeps milliseconds: what is answered now must be what is read later.
    let now = clock.now().trunc_subsecs(3);
    let times = faults.times(request, now, key.is_some());
    let pointers = if request.input.is_some() { ("/input/prompt", "/input/data") } else { ("/prompt", "/data") };
    let input = faults.input(request, pointers.0);
    let (Some(input), true) = (input, faults.0.is_empty()) else { return Err(SubmitError::Invalid(faults.0)) };
    within(pointers.0, input.prompt.len())?;
    if let Some(data) = &input.data {
        within(pointers.1, serde_json::to_vec(data).map_or(usize::MAX, |bytes| bytes.len()))?;
    }
    let (run_at, expires_at, deadline) = times;
    let mut submission = submission;
    submission.request.prompt = None;
    submission.request.data = None;
    submission.request.images = Vec::new();
    submission.request.input = None;
    Ok(Accepted { submission, input, key, digest, now, run_at, expires_at, deadline })
}

fn within(pointer: &'static str, bytes: usize) -> Result<(), SubmitError> {
    if bytes > TEXT_MAX { Err(SubmitError::TooLarge { pointer, bytes, limit: TEXT_MAX }) } else { Ok(()) }
}

/// What is wrong so far.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, pointer: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Fault { pointer: pointer.into(), reason: reason.into(), hint: None });
    }

    /// A text of bounded length without control characters.
    pub(super) fn label(&mut self, pointer: impl Into<String>, text: &str, shortest: usize, longest: usize) {
        if text.len() < shortest || text.len() > longest {
            self.add(pointer, format!("must have {shortest} to {longest} bytes"));
        } else if text.chars().any(char::is_control) {
            self.add(pointer, "must not contain control characters");
        }
    }

    fn printable(&mut self, pointer: &str, text: &str, longest: usize) {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if text.is_empty() || text.len() > longest || !printable {
            self.add(pointer, format!("must be 1 to {longest} printable ASCII characters"));
        }
    }

    /// An idempotency key, which may come in a header, in the body, or as the same in both.
    pub(super) fn key(&mut self, header: Option<&str>, body: Option<&str>) -> Option<String> {
        for (pointer, key) in [("header.Idempotency-Key", header), ("/idempotency_key", body)] {
            let Some(key) = key else { continue };
            self.printable(pointer, key, KEY_MAX);
        }
        match (header, body) {
            (Some(header), Some(body)) if header != body => {
                self.add("/idempotency_key", "differs from the header Idempotency-Key");
                None
            }
            (header, body) => header.or(body).map(str::to_owned),
        }
    }

    fn labels(&mut self, request: &SubmitTask) {
        if request.priority.is_some_and(|priority| priority > 9) {
            self.add("/priority", "must be from 0 (last) to 9 (first)");
        }
        if let Some(user) = &request.user {
            self.label("/user", user, 1, LABEL_MAX);
        }
        if let Some(limit_key) = &request.limit_key {
            self.printable("/limit_key", limit_key, LABEL_MAX);
        }
        if request.metadata.len() > LABELS_MAX {
            self.add("/metadata", format!("must have at most {LABELS_MAX} entries"));
            return;
        }
        for (name, value) in &request.metadata {
            if name.is_empty() || name.len() > LABEL_MAX || name.chars().any(char::is_control) {
                self.add("/metadata", format!("a name must have 1 to {LABEL_MAX} bytes without control characters"));
            } else {
                let pointer = format!("/metadata/{}", name.replace('~', "~0").replace('/', "~1"));
                self.label(pointer, value, 0, LABEL_MAX);
            }
        }
    }

    fn input(&mut self, request: &SubmitTask, pointer: &str) -> Option<TaskInput> {
        let input = match (&request.prompt, &request.data, &request.input) {
            (Some(prompt), data, None) => TaskInput {
                prompt: prompt.clone(),
                data: data.clone(),
                images: images::check(self, "/images", &request.images),
            },
            (None, None, Some(input)) if request.images.is_empty() => TaskInput {
                prompt: input.prompt.clone(),
                data: input.data.clone(),
                images: images::check(self, "/input/images", &input.images),
            },
            (None, _, None) => {
                self.add("/prompt", "is missing: say what is to be done, here or in `input`");
                return None;
            }
            (_, _, Some(_)) => {
                self.add("/input", "cannot be given together with `prompt`, `data` or `images`");
                return None;
            }
        };
        if input.prompt.trim().is_empty() {
            self.add(pointer, "must not be empty");
        }
        Some(input)
    }

    /// When it may start, when it is too late to start, and when it must have ended.
    fn times(
        &mut self,
        request: &SubmitTask,
        now: Timestamp,
        may_be_repetition: bool,
    ) -> (Option<Timestamp>, Option<Timestamp>, Option<Timestamp>) {
        let run_at = match (request.run_at, request.delay) {
            (Some(_), Some(_)) => {
                self.add("/delay", "cannot be given together with `run_at`");
                None
            }
            (Some(at), None) => self.moment("/run_at", at, now).filter(|at| *at > now),
            (None, Some(delay)) => Some(now + delay.0).filter(|at| *at > now),
            (None, None) => None,
        };
        let start = run_at.unwrap_or(now);
        let expires_at = request.ttl.map(|ttl| {
            if ttl.0.is_zero() {
                self.add("/ttl", "must be longer than nothing");
            }
            start + ttl.0
        });
        let deadline = request.deadline.and_then(|at| self.moment("/deadline", at, now));
        // A repetition must name the first task however late it comes; if it is none, the task fails at once.
        if deadline.is_some_and(|deadline| deadline <= start) && !may_be_repetition {
            self.add("/deadline", "must lie in the future, and after `run_at`");
        }
        (run_at, expires_at, deadline)
    }

    fn moment(&mut self, pointer: &str, at: DateTime<Utc>, now: Timestamp) -> Option<Timestamp> {
        let leap_second = at.timestamp_subsec_nanos() >= 1_000_000_000;
        if leap_second || at.timestamp() < EARLIEST || at > now + AHEAD_MAX {
            self.add(pointer, "is out of range: from the year 2000 to ten years ahead, without leap seconds");
            return None;
        }
        Some(at.trunc_subsecs(3))
    }
}

#[cfg(test)]
mod tests {
    use domain::{HumanDuration, ManualClock};
    use serde_json::{Value, json};
    use wire::InputBody;

    use super::*;

    fn clock() -> ManualClock {
        ManualClock::at("2026-03-01T12:00:00.123456Z".parse().unwrap())
    }

    fn request() -> SubmitTask {
        SubmitTask::new(AgentName::new("writer").unwrap(), "hello")
    }

    fn faults(request: SubmitTask) -> Vec<String> {
        match check(request.into(), &clock()) {
            Err(SubmitError::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn every_broken_rule_is_told_with_its_place() {
        let broken = SubmitTask {
            prompt: Some("  ".to_owned()),
            priority: Some(10),
            delay: Some(HumanDuration::from_secs(1)),
            run_at: Some(clock().now()),
            ttl: Some(HumanDuration::from_secs(0)),
            deadline: Some("2026-03-01T11:00:00Z".parse().unwrap()),
            user: Some("a\u{7}".to_owned()),
            limit_key: Some("naïve".to_owned()),
            metadata: [("k/1".to_owned(), "v".repeat(257))].into(),
            idempotency_key: Some("naïve".to_owned()),
            ..request()
        };
        let found = faults(broken);
        for pointer in
            ["/prompt", "/priority", "/delay", "/ttl", "/user", "/limit_key", "/metadata/k~11", "/idempotency_key"]
        {
            assert!(found.iter().any(|fault| fault == pointer), "{pointer} is not among {found:?}");
        }
    }

    #[test]
    fn the_prompt_comes_once() {
        let input = InputBody::new("hi");
        assert_eq!(faults(SubmitTask { prompt: None, ..request() }), ["/prompt"]);
        assert_eq!(faults(SubmitTask { input: Some(input.clone()), ..request() }), ["/input"]);
        assert!(faults(SubmitTask { prompt: None, input: Some(input), ..request() }).is_empty());
    }

    #[test]
    fn times_out_of_range_are_refused() {
        for at in ["1999-12-31T23:59:59Z", "9999-12-31T00:00:00Z", "2026-06-30T23:59:60Z", "0000-01-01T00:00:00Z"] {
            let at = Some(at.parse().unwrap());
            assert_eq!(faults(SubmitTask { run_at: at, ..request() }), ["/run_at"], "{at:?}");
            assert!(!faults(SubmitTask { deadline: at, ..request() }).is_empty(), "{at:?}");
        }
    }

    #[test]
    fn a_deadline_that_has_passed_is_refused_unless_the_request_may_be_a_repetition() {
        let late = SubmitTask { deadline: Some("2026-03-01T11:00:00Z".parse().unwrap()), ..request() };
        assert_eq!(faults(late.clone()), ["/deadline"]);
        assert!(faults(SubmitTask { idempotency_key: Some("k".to_owned()), ..late }).is_empty());
    }

    #[test]
    fn a_moment_that_has_passed_means_at_once_and_the_time_to_live_begins_with_the_start() {
        let past = SubmitTask { run_at: Some("2026-03-01T11:00:00Z".parse().unwrap()), ..request() };
        assert_eq!(check(past.into(), &clock()).unwrap().run_at, None);
        let delay = Some(HumanDuration::from_secs(60));
        let later = SubmitTask { delay, ttl: Some(HumanDuration::from_secs(30)), ..request() };
        let accepted = check(later.into(), &clock()).unwrap();
        assert_eq!(accepted.run_at.unwrap().to_rfc3339(), "2026-03-01T12:01:00.123+00:00");
        assert_eq!(accepted.expires_at.unwrap().to_rfc3339(), "2026-03-01T12:01:30.123+00:00");
    }

    #[test]
    fn a_text_at_the_limit_is_accepted_and_one_byte_more_is_not() {
        let at_limit = SubmitTask { prompt: Some("a".repeat(TEXT_MAX)), ..request() };
        assert!(check(at_limit.into(), &clock()).is_ok());
        let above = SubmitTask { prompt: Some("a".repeat(TEXT_MAX + 1)), ..request() };
        assert!(matches!(check(above.into(), &clock()), Err(SubmitError::TooLarge { pointer: "/prompt", .. })));
        let data: Value = json!("a".repeat(TEXT_MAX));
        let above = SubmitTask { data: Some(data), ..request() };
        assert!(matches!(check(above.into(), &clock()), Err(SubmitError::TooLarge { pointer: "/data", .. })));
    }

    #[test]
    fn a_key_may_come_in_header_and_body_as_long_as_it_is_the_same() {
        let both = |header: &str, body: &str| Submission {
            request: SubmitTask { idempotency_key: Some(body.to_owned()), ..request() },
            idempotency_key: Some(header.to_owned()),
            trace: None,
        };
        assert_eq!(check(both("k", "k"), &clock()).unwrap().key.as_deref(), Some("k"));
        assert!(check(both("k", "l"), &clock()).is_err());
        assert!(check(both("", ""), &clock()).is_err());
        assert!(check(both(&"k".repeat(256), &"k".repeat(256)), &clock()).is_err());
    }
}
