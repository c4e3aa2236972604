//! People allow calls, or do not: one decision a question, the first one wins.

use common::problem::{self, Fault, Kind, Problem};
use domain::{APPROVAL_SIGNALS, ApprovalDecision, Namespace, Task, TaskId, TaskStatus, WaitFor};
use serde_json::Value;
use state::{Page, Signal, StateError, TaskFilter};
use tracing::info;
use wire::{ApprovalStatus, ApprovalView, DecideApproval, Decision};

use super::decisions::{Asked, Decisions, view};
use super::submission::{Faults, LABEL_MAX};
use super::tasks::{JOURNAL_PAGE, TaskError, Tasks};

/// The largest edited arguments, as JSON.
const ARGUMENTS_MAX: usize = 256 * 1024;
const REASON_MAX: usize = 4_096;
/// How many waiting tasks one page of open approvals looks at.
const LOOKED_AT_MAX: u32 = 100;

/// Why a decision was not taken. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The request breaks rules.
    #[error("the decision has {} fault(s)", .0.len())]
    Invalid(Vec<Fault>),
    /// Nothing waits for it.
    #[error("no question {call_id} of task {task} waits for a decision")]
    Unknown {
        /// The task.
        task: TaskId,
        /// The call.
        call_id: String,
    },
    /// It is about something else than what waits.
    #[error("the digest is not that of call {call_id}: look at it again before you decide")]
    Mismatch {
        /// The call.
        call_id: String,
    },
    /// Somebody was faster.
    #[error("{0}")]
    Decided(String),
    /// The task did not take it.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl From<StateError> for DecisionError {
    fn from(error: StateError) -> Self {
        Self::Task(error.into())
    }
}

impl From<DecisionError> for Problem {
    fn from(error: DecisionError) -> Self {
        let text = error.to_string();
        match error {
            DecisionError::Invalid(errors) => Problem { errors, ..Problem::new(Kind::InvalidRequest) },
            DecisionError::Unknown { .. } => Problem::new(Kind::UnknownApproval).detail(text),
            DecisionError::Mismatch { .. } => Problem::new(Kind::ApprovalMismatch).detail(text),
            DecisionError::Decided(_) => Problem::new(Kind::AlreadyDecided).detail(text),
            DecisionError::Task(error) => error.into(),
        }
    }
}

impl utoipa::IntoResponses for DecisionError {
    fn responses() -> problem::Responses {
        problem::responses(&[
            Kind::InvalidRequest,
            Kind::UnsupportedMediaType,
            Kind::BodyTooLarge,
            Kind::UnknownTask,
            Kind::UnknownApproval,
            Kind::ApprovalMismatch,
            Kind::AlreadyDecided,
            Kind::TaskEnded,
            Kind::Unavailable,
        ])
    }
}

impl Tasks {
    /// Lists what people were asked about a task's calls, oldest first.
    pub async fn approvals(&self, namespace: &Namespace, task: TaskId) -> Result<Vec<ApprovalView>, TaskError> {
        let task = self.find(namespace, task).await?;
        Ok(self.decisions(&task).await?.approvals(&task))
    }

    /// Lists the open questions about calls of waiting tasks, those of the newest task first.
    ///
    /// Looks at up to `limit` waiting tasks after `after`; also returns the last one when there are more.
    pub async fn open_approvals(
        &self,
        namespace: &Namespace,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<(Vec<ApprovalView>, Option<TaskId>), TaskError> {
        let filter = TaskFilter { statuses: vec![TaskStatus::Waiting], ..TaskFilter::default() };
        let Page { items: tasks, more } =
            self.inner.state.tasks(namespace, filter, after, limit.min(LOOKED_AT_MAX)).await?;
        let mut open = Vec::new();
        for task in &tasks {
            let approvals = self.decisions(task).await?.approvals(task);
            open.extend(approvals.into_iter().filter(|approval| approval.status == ApprovalStatus::Open));
        }
        Ok((open, tasks.last().map(|task| task.id).filter(|_| more)))
    }

    /// Takes a decision about a call. The same decision of the same person again changes nothing.
    pub async fn decide(
        &self,
        namespace: &Namespace,
        task: TaskId,
        call_id: &str,
        body: DecideApproval,
    ) -> Result<ApprovalView, DecisionError> {
        check(&body)?;
        let found = self.find(namespace, task).await?;
        let decisions = self.decisions(&found).await?;
        let unknown = || DecisionError::Unknown { task, call_id: call_id.to_owned() };
        let asked = decisions.approval(call_id).ok_or_else(unknown)?;
        let WaitFor::Approval { digest, .. } = &asked.wait.on else { return Err(unknown()) };
        if body.digest != *digest {
            return Err(DecisionError::Mismatch { call_id: call_id.to_owned() });
        }
        let decision = ApprovalDecision {
            approved: body.decision == Decision::Approve,
            digest: body.digest,
            arguments: body.arguments,
            reason: body.reason,
        };
        let value = serde_json::to_value(&decision).unwrap_or_default();
        let name = format!("{APPROVAL_SIGNALS}{call_id}");
        let (found, decisions) = self.answer(namespace, &found, asked, name, value, &body.by).await?;
        info!(task.id = %task, call.id = call_id, approved = decision.approved, "a call was decided about");
        decisions.of_step(asked.seq, call_id).and_then(|asked| view(&found, asked)).ok_or_else(unknown)
    }

    /// Sends the answer to an open question, and reads what became of it: the first answer wins.
    pub(super) async fn answer(
        &self,
        namespace: &Namespace,
        task: &Task,
        asked: &Asked,
        name: String,
        value: Value,
        by: &str,
    ) -> Result<(Task, Decisions), DecisionError> {
        let call_id = &asked.wait.call_id;
        let unknown = || DecisionError::Unknown { task: task.id, call_id: call_id.clone() };
        match (&asked.answer, asked.decided()) {
            (Some(_), Some(_)) => same_answer(asked, &value, by)?,
            (Some(_), None) => return Err(unknown()),
            (None, _) if task.status.is_terminal() => {
                return Err(StateError::Ended { task: task.id, status: task.status }.into());
            }
            (None, _) => {
                // The number of the question keeps a call that asks again apart from this one.
                let key = Some(format!("{name}/{}", asked.seq));
                let from = Some(by.to_owned());
                let signal = Signal { name, value: value.clone(), from, key, at: self.inner.clock.now() };
                let transition = self.inner.state.signal(namespace, task.id, signal).await?;
                failpoint::hit("C23");
                self.inner.announcer.transition(namespace, &transition).await;
            }
        }
        let task = self.find(namespace, task.id).await?;
        let decisions = self.decisions(&task).await?;
        let now = decisions.of_step(asked.seq, call_id).ok_or_else(unknown)?;
        match now.decided() {
            Some(_) => same_answer(now, &value, by)?,
            // It expired in the very last moment.
            None => return Err(unknown()),
        }
        Ok((task, decisions))
    }

    /// Reads what people were asked about a task.
    pub(super) async fn decisions(&self, task: &Task) -> Result<Decisions, StateError> {
        let mut decisions = Decisions::default();
        let mut from = 0;
        loop {
            let steps = self.inner.state.journal(&task.namespace, task.id, from, JOURNAL_PAGE).await?;
            let last_page = steps.len() < JOURNAL_PAGE as usize;
            for step in steps {
                from = step.seq.saturating_add(1);
                decisions.take(step);
            }
            if last_page {
                return Ok(decisions);
            }
        }
    }
}

/// Tells whether a question was answered in these words by this person; else says who answered it.
fn same_answer(asked: &Asked, value: &Value, by: &str) -> Result<(), DecisionError> {
    let Some((decided, from, at)) = asked.decided() else { return Ok(()) };
    if decided == value && from == Some(by) {
        return Ok(());
    }
    let who = from.unwrap_or("somebody");
    let what = match decided.get("approved").and_then(Value::as_bool) {
        Some(true) => "approved",
        Some(false) => "denied",
        None => "decided about",
    };
    let at = at.format("%Y-%m-%dT%H:%M:%SZ");
    Err(DecisionError::Decided(format!("{} was {what} by {who} at {at}", asked.wait.call_id)))
}

fn check(body: &DecideApproval) -> Result<(), DecisionError> {
    let mut faults = Faults::default();
    faults.label("/by", &body.by, 1, LABEL_MAX);
    if body.digest.is_empty() || body.digest.len() > LABEL_MAX {
        faults.add("/digest", format!("must have 1 to {LABEL_MAX} bytes"));
    }
    if body.reason.as_ref().is_some_and(|reason| reason.len() > REASON_MAX) {
        faults.add("/reason", format!("must have at most {REASON_MAX} bytes"));
    }
    if let Some(arguments) = &body.arguments {
        if body.decision == Decision::Deny {
            faults.add("/arguments", "only go with the decision approve");
        } else if !arguments.is_object() {
            faults.add("/arguments", "must be an object");
        } else if serde_json::to_vec(arguments).map_or(usize::MAX, |bytes| bytes.len()) > ARGUMENTS_MAX {
            faults.add("/arguments", format!("must have at most {ARGUMENTS_MAX} bytes as JSON"));
        }
    }
    if faults.0.is_empty() { Ok(()) } else { Err(DecisionError::Invalid(faults.0)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(decision: Decision, arguments: Option<Value>) -> DecideApproval {
        DecideApproval { decision, digest: "d".to_owned(), arguments, reason: None, by: "kim".to_owned() }
    }

    fn faults(body: &DecideApproval) -> Vec<String> {
        match check(body) {
            Err(DecisionError::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn edited_arguments_are_a_small_object_and_go_with_an_approval() {
        assert!(faults(&body(Decision::Approve, Some(json!({ "a": 1 })))).is_empty());
        assert!(faults(&body(Decision::Deny, None)).is_empty());
        for (decision, arguments) in [
            (Decision::Deny, json!({ "a": 1 })),
            (Decision::Approve, json!([1])),
            (Decision::Approve, json!({ "a": "x".repeat(ARGUMENTS_MAX) })),
        ] {
            assert_eq!(faults(&body(decision, Some(arguments))), ["/arguments"]);
        }
    }

    #[test]
    fn who_decides_is_named() {
        for by in ["", "a\nb", &"x".repeat(300)] {
            let body = DecideApproval { by: by.to_owned(), ..body(Decision::Deny, None) };
            assert_eq!(faults(&body), ["/by"]);
        }
        let body = DecideApproval { digest: String::new(), ..body(Decision::Deny, None) };
        assert_eq!(faults(&body), ["/digest"]);
    }
}
