//! What a step says, in lines: the same words in the journal and while the task runs.

use std::time::Duration;

use domain::{
    ApprovalDecision, BudgetDecision, ChildOutcome, Dimension, ModelTry, Resolution, Step, StepBody, TaskStatus,
    ToolCall, ToolOutcome, ToolStep, Wait, WaitFor,
};
use serde_json::Value;

use super::words;

/// The longest summary of arguments or an answer.
const SUMMARY_MAX: usize = 160;

/// What kind of line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// What the task was asked.
    Asked,
    /// Words of the model.
    Said,
    /// A tool is called.
    Call,
    /// A tool or somebody answered.
    Answer,
    /// The task waits.
    Wait,
    /// Something went wrong, and the task goes on.
    Trouble,
}

impl Mark {
    /// The sign before the line.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Asked => ">",
            Self::Said => " ",
            Self::Call => "→",
            Self::Answer => "←",
            Self::Wait => "…",
            Self::Trouble => "!",
        }
    }
}

/// One line; its text is not neutral yet, and may be long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What kind of line it is.
    pub mark: Mark,
    /// The words.
    pub text: String,
}

impl Line {
    fn new(mark: Mark, text: impl Into<String>) -> Self {
        Self { mark, text: text.into() }
    }
}

/// Describes a step.
pub fn steps(step: &Step) -> Vec<Line> {
    match &step.body {
        StepBody::Input(input) => {
            let mut lines = vec![Line::new(Mark::Asked, &input.prompt)];
            lines.extend(input.data.as_ref().map(|data| Line::new(Mark::Asked, format!("data: {}", short(data)))));
            lines
        }
        StepBody::Model(model) => {
            let said = (!model.text.is_empty()).then(|| Line::new(Mark::Said, &model.text));
            model.tries.iter().map(tried).chain(said).chain(model.tool_calls.iter().map(call)).collect()
        }
        StepBody::Tried { tries } => tries.iter().map(tried).collect(),
        StepBody::ToolStarted { tool, .. } => {
            vec![Line::new(Mark::Call, format!("{tool} begins; it is never repeated by itself"))]
        }
        StepBody::Tool(tool) => vec![answer(tool)],
        StepBody::Probed { tool, happened, .. } => {
            let said = match happened {
                Some(true) => "it happened",
                Some(false) => "it did not happen",
                None => "it does not know",
            };
            vec![Line::new(Mark::Answer, format!("{tool} was asked about the call: {said}"))]
        }
        StepBody::Rejected { problems } => {
            let text = format!("the answer was not accepted, the model is asked again: {}", problems.join("; "));
            vec![Line::new(Mark::Trouble, text)]
        }
        StepBody::Parked { waits } => waits.iter().map(wait).collect(),
        StepBody::Resolved { by, .. } => vec![resolved(by)],
        StepBody::AttemptFailed { attempt, failure, retry_at } => {
            let pause = words::duration(words::between(step.at, *retry_at));
            vec![Line::new(Mark::Trouble, format!("attempt {attempt} failed, the next one in {pause}: {failure}"))]
        }
        StepBody::LeaseLost { .. } => vec![Line::new(Mark::Trouble, "the worker fell silent; another one goes on")],
        StepBody::Retried { keep_journal: true } => {
            vec![Line::new(Mark::Asked, "retried, going on after the last step")]
        }
        StepBody::Retried { keep_journal: false } => vec![Line::new(Mark::Asked, "retried from the beginning")],
    }
}

fn call(call: &ToolCall) -> Line {
    let text = |name: &str| call.arguments.get(name).and_then(Value::as_str);
    let summary = match (call.name.as_str(), text("url"), text("agent"), text("question"), text("for")) {
        ("http_request", Some(url), ..) => format!("{} {url}", text("method").unwrap_or("GET")),
        ("delegate", _, Some(agent), ..) => format!("{agent}: {}", text("prompt").unwrap_or_default()),
        ("ask", _, _, Some(question), _) => question.to_owned(),
        ("wait", _, _, _, Some(length)) => length.to_owned(),
        _ => short(&call.arguments),
    };
    Line::new(Mark::Call, format!("{} {summary}", call.name).trim_end())
}

fn answer(step: &ToolStep) -> Line {
    let took = words::duration(Duration::from_millis(step.duration_ms));
    match &step.outcome {
        ToolOutcome::Ok(value) => match value.get("status").and_then(Value::as_u64) {
            Some(status) => Line::new(Mark::Answer, format!("{status} in {took}")),
            None => Line::new(Mark::Answer, format!("{} in {took}: {}", step.tool, short(value))),
        },
        ToolOutcome::Error(error) => Line::new(Mark::Answer, format!("{} failed in {took}: {error}", step.tool)),
        ToolOutcome::Unknown => {
            Line::new(Mark::Trouble, format!("{}: a crash cut the call off, its outcome is unknown", step.tool))
        }
    }
}

fn wait(wait: &Wait) -> Line {
    let text = match &wait.on {
        WaitFor::Child { task, agent } => format!("waiting for {agent} (task {task})"),
        WaitFor::Signal { question, options, .. } if options.is_empty() => format!("waiting for an answer: {question}"),
        WaitFor::Signal { question, options, .. } => {
            format!("waiting for an answer: {question} [{}]", options.join(", "))
        }
        WaitFor::Approval { tool, reason, .. } => format!("waiting for permission to call {tool}: {reason}"),
        WaitFor::Budget { account, what, limit, .. } => {
            format!("waiting for a larger budget: {account} allows {}", what.show(*limit))
        }
        WaitFor::Timer { at } => format!("waiting until {}", words::moment(*at)),
    };
    Line::new(Mark::Wait, text)
}

/// A model call that gave no answer.
fn tried(tried: &ModelTry) -> Line {
    let cost = if tried.usage.cost.is_zero() { String::new() } else { format!(" ({})", tried.usage.cost) };
    Line::new(Mark::Trouble, format!("{} gave no answer{cost}: {}", tried.model, tried.failure))
}

/// A person's decision about a call or a budget; none when the value is another answer.
fn decision(value: &Value, from: Option<&str>) -> Option<String> {
    let who = from.unwrap_or("somebody");
    if value.get("digest").is_some()
        && let Ok(decision) = serde_json::from_value::<ApprovalDecision>(value.clone())
    {
        return Some(match (decision.approved, decision.arguments, decision.reason) {
            (true, Some(arguments), _) => format!("{who} allowed the call with other arguments: {}", short(&arguments)),
            (true, None, _) => format!("{who} allowed the call"),
            (false, _, Some(reason)) => format!("{who} denied the call: {reason}"),
            (false, _, None) => format!("{who} denied the call"),
        });
    }
    let BudgetDecision { grant } = serde_json::from_value(value.clone()).ok()?;
    let granted: Vec<String> =
        Dimension::ALL.iter().filter(|what| grant.of(**what) > 0).map(|what| what.show(grant.of(*what))).collect();
    Some(match granted[..] {
        [] => format!("{who} granted nothing more"),
        _ => format!("{who} granted {} more", granted.join(", ")),
    })
}

fn resolved(by: &Resolution) -> Line {
    let text = match by {
        Resolution::Signal { value, from } if let Some(text) = decision(value, from.as_deref()) => text,
        Resolution::Child(child) => child_text(child),
        Resolution::Signal { value, from: Some(from) } => format!("{from} answered: {}", short(value)),
        Resolution::Signal { value, from: None } => format!("answered: {}", short(value)),
        Resolution::Timer => "the time has come".to_owned(),
        Resolution::Expired { default: Some(value) } => format!("nobody answered in time, so: {}", short(value)),
        Resolution::Expired { default: None } => "nobody answered in time".to_owned(),
    };
    Line::new(Mark::Answer, text)
}

fn child_text(child: &ChildOutcome) -> String {
    match (&child.output, &child.failure) {
        (Some(output), _) if child.status == TaskStatus::Succeeded => format!("sub-task succeeded: {}", short(output)),
        (_, Some(failure)) => format!("sub-task {}: {failure}", child.status),
        _ => format!("sub-task {}", child.status),
    }
}

/// A value in a few words.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) if fields.is_empty() => return String::new(),
        other => other.to_string(),
    };
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(SUMMARY_MAX).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use domain::{Failure, FailureKind, FinishReason, ModelStep, Timestamp, Usage};
    use serde_json::json;

    use super::*;

    fn lines(body: StepBody) -> Vec<String> {
        let step = Step { seq: 1, epoch: 1, at: Timestamp::UNIX_EPOCH, body };
        steps(&step).into_iter().map(|line| format!("{} {}", line.mark.sign(), line.text)).collect()
    }

    fn asks(name: &str, arguments: Value) -> StepBody {
        StepBody::Model(ModelStep {
            model: "scripted/x".to_owned(),
            text: String::new(),
            tool_calls: vec![ToolCall { id: "1".to_owned(), name: name.to_owned(), arguments }],
            finish: FinishReason::ToolCalls,
            usage: Usage::default(),
            structured: false,
            duration_ms: 3,
            reasoning: Vec::new(),
            tries: Vec::new(),
        })
    }

    fn tool(outcome: ToolOutcome) -> StepBody {
        StepBody::Tool(ToolStep { call_id: "1".to_owned(), tool: "echo".to_owned(), outcome, duration_ms: 300 })
    }

    #[test]
    fn calls_say_what_matters_of_their_arguments() {
        assert_eq!(lines(asks("http_request", json!({ "url": "http://x.org" }))), ["→ http_request GET http://x.org"]);
        assert_eq!(lines(asks("ask", json!({ "question": "May I?" }))), ["→ ask May I?"]);
        assert_eq!(lines(asks("now", json!({}))), ["→ now"]);
        assert_eq!(lines(asks("other", json!({ "a": 1 }))), ["→ other {\"a\":1}"]);
    }

    #[test]
    fn outcomes_say_how_long_they_took() {
        assert_eq!(lines(tool(ToolOutcome::Ok(json!({ "status": 200, "body": "…" })))), ["← 200 in 300 ms"]);
        assert_eq!(lines(tool(ToolOutcome::Ok(json!("hi")))), ["← echo in 300 ms: hi"]);
        assert_eq!(lines(tool(ToolOutcome::Error("no".to_owned()))), ["← echo failed in 300 ms: no"]);
        assert!(lines(tool(ToolOutcome::Unknown))[0].starts_with("! echo"));
    }

    #[test]
    fn a_failed_attempt_says_when_the_next_one_comes() {
        let body = StepBody::AttemptFailed {
            attempt: 1,
            failure: Failure::new(FailureKind::RateLimited, "slow down"),
            retry_at: Timestamp::UNIX_EPOCH + Duration::from_secs(2),
        };
        assert_eq!(lines(body), ["! attempt 1 failed, the next one in 2.0 s: rate_limited: slow down"]);
    }

    #[test]
    fn long_values_are_cut() {
        assert!(lines(tool(ToolOutcome::Ok(json!("x".repeat(10_000)))))[0].chars().count() < 200);
    }

    fn answered(value: Value, from: Option<&str>) -> Vec<String> {
        let by = Resolution::Signal { value, from: from.map(str::to_owned) };
        lines(StepBody::Resolved { call_id: "1".to_owned(), by })
    }

    #[test]
    fn decisions_say_who_decided_what() {
        let decision = |approved: bool| json!({ "approved": approved, "digest": "d" });
        assert_eq!(answered(decision(true), Some("kim")), ["← kim allowed the call"]);
        assert_eq!(answered(decision(false), None), ["← somebody denied the call"]);
        let edited = json!({ "approved": true, "digest": "d", "arguments": { "amount": 5 } });
        assert_eq!(answered(edited, Some("kim")), ["← kim allowed the call with other arguments: {\"amount\":5}"]);
        let reason = json!({ "approved": false, "digest": "d", "reason": "too much" });
        assert_eq!(answered(reason, Some("kim")), ["← kim denied the call: too much"]);
        let grant = json!({ "grant": { "usd": 1.5, "tokens": 100 } });
        assert_eq!(answered(grant, Some("kim")), ["← kim granted $1.50, 100 tokens more"]);
        assert_eq!(answered(json!({ "grant": {} }), Some("kim")), ["← kim granted nothing more"]);
        assert_eq!(answered(json!({ "paid": true }), Some("kim")), ["← kim answered: {\"paid\":true}"]);
        assert_eq!(answered(json!("yes"), None), ["← answered: yes"]);
    }

    #[test]
    fn models_that_gave_no_answer_are_told_before_the_one_that_did() {
        let mut body = asks("now", json!({}));
        let StepBody::Model(model) = &mut body else { panic!("a model's step") };
        model.tries.push(ModelTry {
            model: "openai/x".to_owned(),
            failure: Failure::new(FailureKind::RateLimited, "slow down"),
            usage: Usage { cost: domain::Usd(domain::Usd::DOLLAR / 100), ..Usage::default() },
        });
        assert_eq!(lines(body), ["! openai/x gave no answer ($0.01): rate_limited: slow down", "→ now"]);
    }

    #[test]
    fn a_call_that_is_never_repeated_leaves_a_mark() {
        let body = StepBody::ToolStarted { call_id: "1".to_owned(), tool: "pay".to_owned() };
        assert_eq!(lines(body), ["→ pay begins; it is never repeated by itself"]);
    }
}
