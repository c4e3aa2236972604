//! What people decide about a task: read from its journal, so that it is known who decided what and when. Pure.

use domain::{
    APPROVAL_SIGNALS, ApprovalDecision, BUDGET_SIGNALS, Resolution, Step, StepBody, Task, Timestamp, Wait, WaitFor,
};
use serde_json::Value;
use wire::{ApprovalStatus, ApprovalView};

/// Tells whether signals of this name are decisions, which have endpoints of their own.
pub(super) fn is_reserved(signal: &str) -> bool {
    [APPROVAL_SIGNALS, BUDGET_SIGNALS].iter().any(|prefix| signal.starts_with(prefix))
}

/// A question to a person.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The step that asked: the same call may ask again.
    pub(super) seq: u32,
    pub(super) at: Timestamp,
    pub(super) wait: Wait,
    pub(super) answer: Option<Answer>,
}

/// How a question ended.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) at: Timestamp,
    /// None: the task began anew before anybody answered.
    pub(super) by: Option<Resolution>,
}

impl Asked {
    /// What was sent, and by whom, if a person decided.
    pub(super) fn decided(&self) -> Option<(&Value, Option<&str>, Timestamp)> {
        match self.answer.as_ref() {
            Some(Answer { at, by: Some(Resolution::Signal { value, from }) }) => Some((value, from.as_deref(), *at)),
            _ => None,
        }
    }
}

/// The questions of a task to people, oldest first.
#[derive(Debug, Default)]
pub(super) struct Decisions(Vec<Asked>);

impl Decisions {
    /// Takes the next step of the journal.
    pub(super) fn take(&mut self, step: Step) {
        match step.body {
            StepBody::Parked { waits } => {
                let asks = |wait: &Wait| matches!(wait.on, WaitFor::Approval { .. } | WaitFor::Budget { .. });
                for wait in waits.into_iter().filter(asks) {
                    self.0.push(Asked { seq: step.seq, at: step.at, wait, answer: None });
                }
            }
            StepBody::Resolved { call_id, by } => {
                let open = self.0.iter_mut().find(|asked| asked.answer.is_none() && asked.wait.call_id == call_id);
                if let Some(open) = open {
                    open.answer = Some(Answer { at: step.at, by: Some(by) });
                }
            }
            StepBody::Retried { keep_journal: false } => {
                for open in self.0.iter_mut().filter(|asked| asked.answer.is_none()) {
                    open.answer = Some(Answer { at: step.at, by: None });
                }
            }
            _ => {}
        }
    }

    /// The last question about permission for a call.
    pub(super) fn approval(&self, call_id: &str) -> Option<&Asked> {
        self.last(call_id, |on| matches!(on, WaitFor::Approval { .. }))
    }

    /// The last question about a budget under an id.
    pub(super) fn budget(&self, call_id: &str) -> Option<&Asked> {
        self.last(call_id, |on| matches!(on, WaitFor::Budget { .. }))
    }

    fn last(&self, call_id: &str, is: impl Fn(&WaitFor) -> bool) -> Option<&Asked> {
        self.0.iter().rev().find(|asked| asked.wait.call_id == call_id && is(&asked.wait.on))
    }

    /// The question that a step asked.
    pub(super) fn of_step(&self, seq: u32, call_id: &str) -> Option<&Asked> {
        self.0.iter().find(|asked| asked.seq == seq && asked.wait.call_id == call_id)
    }

    /// The questions about calls as the API shows them, oldest first.
    pub(super) fn approvals(&self, task: &Task) -> Vec<ApprovalView> {
        self.0.iter().filter_map(|asked| view(task, asked)).collect()
    }
}

/// A question about a call as the API shows it.
pub(super) fn view(task: &Task, asked: &Asked) -> Option<ApprovalView> {
    let WaitFor::Approval { tool, arguments, digest, reason } = &asked.wait.on else { return None };
    let mut view = ApprovalView {
        task: task.id,
        agent: task.agent.clone(),
        call_id: asked.wait.call_id.clone(),
        status: ApprovalStatus::Open,
        tool: tool.clone(),
        arguments: arguments.clone(),
        digest: digest.clone(),
        reason: reason.clone(),
        asked_at: asked.at,
        expires_at: asked.wait.expires_at,
        by: None,
        at: asked.answer.as_ref().map(|answer| answer.at),
        edited_arguments: None,
        decision_reason: None,
    };
    match asked.answer.as_ref().map(|answer| &answer.by) {
        None if task.status.is_terminal() => view.status = ApprovalStatus::Void,
        None => {}
        Some(Some(Resolution::Signal { value, from })) => {
            let decision = serde_json::from_value::<ApprovalDecision>(value.clone()).ok();
            let approved = decision.as_ref().is_some_and(|decision| decision.approved && decision.digest == *digest);
            view.status = if approved { ApprovalStatus::Approved } else { ApprovalStatus::Denied };
            view.by.clone_from(from);
            view.edited_arguments = decision.as_ref().and_then(|decision| decision.arguments.clone());
            view.decision_reason = decision.and_then(|decision| decision.reason);
        }
        Some(Some(_)) => view.status = ApprovalStatus::Expired,
        Some(None) => view.status = ApprovalStatus::Void,
    }
    Some(view)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(seq: u32, body: StepBody) -> Step {
        Step { seq, epoch: 1, at: Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(seq)), body }
    }

    fn asks(call: &str, digest: &str) -> StepBody {
        let on = WaitFor::Approval {
            tool: "pay".to_owned(),
            arguments: json!({ "amount": 1 }),
            digest: digest.to_owned(),
            reason: "always".to_owned(),
        };
        StepBody::Parked { waits: vec![Wait { call_id: call.to_owned(), on, expires_at: None, default: None }] }
    }

    fn answered(call: &str, value: Value) -> StepBody {
        let by = Resolution::Signal { value, from: Some("kim".to_owned()) };
        StepBody::Resolved { call_id: call.to_owned(), by }
    }

    fn of(steps: Vec<StepBody>) -> Decisions {
        let mut decisions = Decisions::default();
        for (seq, body) in (1..).zip(steps) {
            decisions.take(step(seq, body));
        }
        decisions
    }

    #[test]
    fn a_question_is_open_until_it_is_answered() {
        assert!(of(vec![asks("a", "1")]).approval("a").is_some_and(|asked| asked.answer.is_none()));
        let decided = of(vec![asks("a", "1"), answered("a", json!({ "approved": true, "digest": "1" }))]);
        let (_, by, _) = decided.approval("a").and_then(Asked::decided).unwrap();
        assert_eq!(by, Some("kim"));
        assert!(decided.approval("b").is_none() && decided.budget("a").is_none());
    }

    #[test]
    fn a_call_that_asks_again_is_a_question_of_its_own() {
        let no = json!({ "approved": false, "digest": "1" });
        let decisions = of(vec![asks("a", "1"), answered("a", no), asks("a", "2")]);
        let last = decisions.approval("a").unwrap();
        assert_eq!((last.seq, last.answer.is_none()), (3, true));
        assert!(decisions.of_step(1, "a").and_then(Asked::decided).is_some());
    }

    #[test]
    fn a_task_that_begins_anew_asks_nothing_any_more() {
        let decisions = of(vec![asks("a", "1"), StepBody::Retried { keep_journal: false }]);
        assert!(decisions.approval("a").is_some_and(|asked| asked.answer.is_some() && asked.decided().is_none()));
    }

    #[test]
    fn only_names_of_decisions_are_reserved() {
        assert!(is_reserved("approval/call_1") && is_reserved("budget/"));
        assert!(!is_reserved("approval") && !is_reserved("answer") && !is_reserved("my/approval/1"));
    }
}
