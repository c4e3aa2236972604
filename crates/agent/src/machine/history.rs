//! Folding a journal, and deciding what comes next.

use std::collections::{HashMap, HashSet};

use domain::{
    Amount, Failure, FailureKind, FinishReason, Message, ModelStep, Resolution, Step, StepBody, TaskInput,
    ThreadMessage, ToolOutcome, ToolSpec, UnknownPolicy, Usage, Wait, WaitFor,
};
use serde_json::Value;

use super::budget::Grants;
use super::calls::{CallState, Ended, PendingCall, Tracked};
use super::conversation::{opening, outcome, rejection, resolution};
use super::{MAX_REJECTIONS, MAX_UNKNOWN, Rules, approval};

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Ask the model; `History::messages` is the conversation.
    CallModel,
    /// Run these calls, in parallel; they have no outcome yet.
    CallTools(Vec<PendingCall>),
    /// Ask another tool whether this call, whose outcome is unknown, had happened.
    Probe {
        /// The call.
        call: PendingCall,
        /// The tool to ask.
        probe: String,
    },
    /// Append this step and decide again.
    Record(StepBody),
    /// Release the worker until these waits end.
    Park(Vec<Wait>),
    /// End the task.
    Finish(Verdict),
}

/// How a task ends, as far as its own loop decides it.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The last model step is the answer.
    Succeeded,
    /// It failed for good.
    Failed(Failure),
}

/// A folded journal.
#[derive(Debug, Clone)]
pub struct History {
    input: TaskInput,
    thread: Vec<ThreadMessage>,
    messages: Vec<Message>,
    next_seq: u32,
    answers: u32,
    calls_made: u32,
    children: u32,
    rejections: u32,
    usage: Usage,
    counted: Usage,
    answer: Option<ModelStep>,
    answer_seq: u32,
    calls: Vec<Tracked>,
    repeats: HashMap<[u8; 32], u32>,
    looping: Option<String>,
    call_ids: HashSet<String>,
    approved_tools: HashSet<String>,
    grants: Grants,
    counted_prefix: Option<CountedPrefix>,
}

/// How many of the first messages a model has read, and its own count of their tokens.
#[derive(Debug, Clone)]
struct CountedPrefix {
    model: String,
    messages: usize,
    tokens: u64,
}

impl History {
    /// Folds a whole journal, which begins with its input. `None` when it does not.
    pub fn replay(rules: &Rules, thread: Vec<ThreadMessage>, steps: &[Step]) -> Option<Self> {
        let (first, rest) = steps.split_first()?;
        let StepBody::Input(input) = &first.body else { return None };
        let mut history = Self {
            messages: opening(rules, &thread, input),
            input: input.clone(),
            thread,
            next_seq: first.seq + 1,
            answers: 0,
            calls_made: 0,
            children: 0,
            rejections: 0,
            usage: Usage::default(),
            counted: Usage::default(),
            answer: None,
            answer_seq: 0,
            calls: Vec::new(),
            repeats: HashMap::new(),
            looping: None,
            call_ids: HashSet::new(),
            approved_tools: HashSet::new(),
            grants: Grants::default(),
            counted_prefix: None,
        };
        for step in rest {
            history.apply(rules, step.seq, &step.body);
        }
        Some(history)
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What the task was asked to do.
    pub fn input(&self) -> &TaskInput {
        &self.input
    }

    /// The number of the next step.
    pub fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// What the task and its sub-tasks used so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// How many sub-tasks it has made.
    pub fn children(&self) -> u32 {
        self.children
    }

    /// The last answer, if it came after the last request.
    pub fn answer(&self) -> Option<&ModelStep> {
        self.answer.as_ref()
    }

    /// What counts towards `limits.max_tokens` so far.
    pub fn counted_tokens(&self) -> u64 {
        self.counted.total()
    }

    /// What people granted beyond the limits of budgets, by the key of the account.
    pub fn grants(&self) -> Vec<(String, Amount)> {
        self.grants.list()
    }

    /// How many of the first messages this model has counted itself, and its count.
    pub fn counted_by(&self, model: &str) -> Option<(usize, u64)> {
        let prefix = self.counted_prefix.as_ref()?;
        let holds = prefix.model == model && prefix.messages <= self.messages.len();
        holds.then_some((prefix.messages, prefix.tokens))
    }

    /// Why a person must allow a call of a tool that is about to be made; none when nobody must, or somebody has.
    pub fn needs_approval(&self, tool: &ToolSpec, pending: &PendingCall) -> Option<String> {
        if pending.approved.is_some() {
            return None;
        }
        let covered = self.approved_tools.contains(&pending.call.name);
        approval::reason(tool, &pending.call.arguments, covered)
    }

    /// Tells whether a call of this id is already in the journal.
    pub fn knows_call(&self, id: &str) -> bool {
        self.call_ids.contains(id)
    }

    /// Takes one more step.
    pub fn apply(&mut self, rules: &Rules, seq: u32, body: &StepBody) {
        self.next_seq = seq + 1;
        match body {
            StepBody::Model(step) => self.apply_model(rules, seq, step),
            StepBody::Tried { tries } => {
                for tried in tries {
                    self.usage += tried.usage;
                    self.counted += tried.usage;
                }
            }
            StepBody::ToolStarted { call_id, .. } => {
                if let Some(call) = self.call_mut(call_id) {
                    call.state = CallState::Pending { started: true };
                }
            }
            StepBody::Tool(step) => match &step.outcome {
                ToolOutcome::Unknown => {
                    if let Some(call) = self.call_mut(&step.call_id) {
                        call.state = CallState::Unknown { probed: false };
                        call.unknown += 1;
                    }
                }
                known => {
                    if names_a_task(known) {
                        self.children = self.children.saturating_add(1);
                    }
                    self.complete(rules, &step.call_id, outcome(known), true);
                }
            },
            StepBody::Probed { call_id, happened, value, .. } => self.apply_probed(rules, call_id, *happened, value),
            StepBody::Rejected { problems } => {
                self.rejections += 1;
                self.answer = None;
                self.messages.push(Message::user(rejection(problems)));
            }
            StepBody::Parked { waits } => self.apply_parked(waits),
            StepBody::Resolved { call_id, by } => self.apply_resolved(rules, seq, call_id, by),
            StepBody::Retried { keep_journal } => self.apply_retried(rules, *keep_journal),
            StepBody::Input(_) | StepBody::AttemptFailed { .. } | StepBody::LeaseLost { .. } => {}
        }
    }

    /// Decides what comes next. `waiting` are the waits that calls of this run asked for, not yet recorded.
    pub fn decide(&self, rules: &Rules, waiting: &[Wait]) -> Decision {
        if let Some(call) = &self.looping {
            let message = format!("the call {call} was made {} times with the same result", rules.limits.max_repeats);
            return fail(FailureKind::LoopDetected, message);
        }
        if let Some(why) = self.grants.refused() {
            return fail(FailureKind::LimitExceeded, why.to_owned());
        }
        if !self.calls.is_empty() {
            return self.decide_calls(rules, waiting);
        }
        let Some(answer) = &self.answer else { return self.decide_request(rules) };
        if answer.finish == FinishReason::ContentFilter {
            return fail(FailureKind::ModelRefused, format!("{} cut the answer off for its content", answer.model));
        }
        if answer.structured {
            return Decision::Finish(Verdict::Succeeded);
        }
        let problems = rules.problems(&answer.text);
        if problems.is_empty() {
            Decision::Finish(Verdict::Succeeded)
        } else if self.rejections < MAX_REJECTIONS {
            Decision::Record(StepBody::Rejected { problems })
        } else {
            let asked = self.rejections + 1;
            fail(
                FailureKind::OutputInvalid,
                format!("no acceptable answer in {asked} tries; the last: {}", problems[0]),
            )
        }
    }

    fn decide_request(&self, rules: &Rules) -> Decision {
        let limits = &rules.limits;
        if self.answers >= limits.max_steps {
            return fail(FailureKind::LimitExceeded, format!("limits.max_steps: {} model calls made", self.answers));
        }
        if self.counted.total() >= limits.max_tokens {
            let used = self.counted.total();
            return fail(
                FailureKind::LimitExceeded,
                format!("limits.max_tokens: {used} of {} used", limits.max_tokens),
            );
        }
        Decision::CallModel
    }

    fn decide_calls(&self, rules: &Rules, waiting: &[Wait]) -> Decision {
        let limits = &rules.limits;
        if self.calls_made > limits.max_tool_calls {
            let message = format!("limits.max_tool_calls: {} calls asked for", self.calls_made);
            return fail(FailureKind::LimitExceeded, message);
        }
        let mut run = Vec::new();
        let mut park = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            let pending = |started| call.pending(self.answer_seq, index, started);
            let (id, name) = (&call.call.id, &call.call.name);
            match &call.state {
                CallState::Done(_) => {}
                CallState::Unknown { probed } => match rules.unknown_policy(name) {
                    // A call that never tells what came of it would be made for ever.
                    UnknownPolicy::Retry | UnknownPolicy::Probe if call.unknown > MAX_UNKNOWN => {
                        park.push(call.ask_about());
                    }
                    UnknownPolicy::Retry => run.push(pending(true)),
                    UnknownPolicy::Fail => {
                        let message = format!("nobody knows whether {name} ({id}) happened");
                        return fail(FailureKind::OutcomeUnknown, message);
                    }
                    UnknownPolicy::Ask => park.push(call.ask_about()),
                    UnknownPolicy::Probe => match rules.probe_of(name) {
                        Some(probe) if !probed => {
                            return Decision::Probe { call: pending(false), probe: probe.name.clone() };
                        }
                        _ => park.push(call.ask_about()),
                    },
                },
                CallState::Pending { started: true } => {
                    return Decision::Record(StepBody::Tool(domain::ToolStep {
                        call_id: id.clone(),
                        tool: name.clone(),
                        outcome: ToolOutcome::Unknown,
                        duration_ms: 0,
                    }));
                }
                CallState::Pending { started: false } | CallState::AwaitsApproval { .. } => {
                    match waiting.iter().find(|wait| wait.call_id == *id) {
                        Some(wait) => park.push(wait.clone()),
                        None => run.push(pending(false)),
                    }
                }
            }
        }
        if run.is_empty() { Decision::Park(park) } else { Decision::CallTools(run) }
    }

    fn apply_model(&mut self, rules: &Rules, seq: u32, step: &ModelStep) {
        self.answers += 1;
        let used = step.total_usage();
        self.usage += used;
        self.counted += used;
        // The answer itself is not among what was counted: it is read again in another form than it was written.
        self.counted_prefix = (!step.usage.estimated && step.usage.input_tokens > 0).then(|| CountedPrefix {
            model: step.model.clone(),
            messages: self.messages.len(),
            tokens: step.usage.input_tokens,
        });
        self.messages.push(Message::Assistant {
            text: step.text.clone(),
            tool_calls: step.tool_calls.clone(),
            reasoning: step.reasoning.clone(),
        });
        self.answer_seq = seq;
        if step.tool_calls.is_empty() {
            self.answer = Some(step.clone());
            return;
        }
        self.answer = None;
        self.calls_made = self.calls_made.saturating_add(step.tool_calls.len() as u32);
        self.calls = step.tool_calls.iter().cloned().map(Tracked::new).collect();
        self.call_ids.extend(step.tool_calls.iter().map(|call| call.id.clone()));
        if self.calls.len() > rules.limits.max_parallel_tool_calls as usize {
            let refusal = format!(
                "error: none of the {} calls was made; ask for at most {} at once",
                self.calls.len(),
                rules.limits.max_parallel_tool_calls
            );
            // An answer that is refused as a whole may come again and again, too.
            let mut hasher = blake3::Hasher::new();
            for call in &mut self.calls {
                hasher.update(&call.fingerprint(&refusal));
                call.state = CallState::Done(refusal.clone());
            }
            let name = self.calls.first().map(|call| call.call.name.clone()).unwrap_or_default();
            self.count_repeat(rules, *hasher.finalize().as_bytes(), name);
            self.close_answer();
        }
    }

    fn apply_parked(&mut self, waits: &[Wait]) {
        for wait in waits {
            if matches!(wait.on, WaitFor::Child { .. }) {
                self.children = self.children.saturating_add(1);
            }
            self.grants.asked(wait);
            if let Some(call) = self.call_mut(&wait.call_id) {
                call.parked(wait);
            }
        }
    }

    fn apply_probed(&mut self, rules: &Rules, call_id: &str, happened: Option<bool>, value: &Value) {
        let Some(call) = self.call_mut(call_id) else { return };
        if !matches!(call.state, CallState::Unknown { .. }) {
            return;
        }
        match happened {
            Some(true) => self.complete(rules, call_id, outcome(&ToolOutcome::Ok(value.clone())), false),
            Some(false) => call.state = CallState::Pending { started: false },
            None => call.state = CallState::Unknown { probed: true },
        }
    }

    fn apply_resolved(&mut self, rules: &Rules, seq: u32, call_id: &str, by: &Resolution) {
        if let Resolution::Child(child) = by {
            self.usage += child.usage;
            self.counted += child.usage;
        }
        if self.grants.resolved(call_id, by) {
            return;
        }
        let Some(call) = self.call_mut(call_id) else { return };
        match call.resolved(seq, by) {
            Ended::MayRun => {
                if call.approved == Some(seq) {
                    let tool = call.call.name.clone();
                    self.approved_tools.insert(tool);
                } else {
                    self.repeats.clear();
                }
            }
            // Asking a person for the same again and again is a loop, too.
            Ended::Refused(text) => self.complete(rules, call_id, text, true),
            Ended::Answered => {
                // Time has passed or somebody has spoken: asking the same again may now give something new.
                self.repeats.clear();
                self.complete(rules, call_id, resolution(by), false);
            }
        }
    }

    fn apply_retried(&mut self, rules: &Rules, keep_journal: bool) {
        // A person granted another try, and with it the whole of the limits.
        self.answers = 0;
        self.calls_made = self.calls.len() as u32;
        self.rejections = 0;
        self.counted = Usage::default();
        self.repeats.clear();
        self.looping = None;
        self.grants.retried();
        if keep_journal {
            self.calls.iter_mut().for_each(Tracked::retried);
            if self.answer.take().is_some() {
                // The last answer is what failed the task: it is taken back, so that the model is asked again.
                self.messages.pop();
                self.counted_prefix = None;
            }
        } else {
            self.messages = opening(rules, &self.thread, &self.input);
            self.answer = None;
            self.calls.clear();
            self.children = 0;
            self.approved_tools.clear();
            self.counted_prefix = None;
        }
    }

    fn complete(&mut self, rules: &Rules, call_id: &str, text: String, detect_loop: bool) {
        let Some(call) = self.call_mut(call_id) else { return };
        if call.is_done() {
            return;
        }
        let fingerprint = detect_loop.then(|| (call.fingerprint(&text), call.call.name.clone()));
        call.state = CallState::Done(call.told(text));
        if let Some((fingerprint, name)) = fingerprint {
            self.count_repeat(rules, fingerprint, name);
        }
        if self.calls.iter().all(Tracked::is_done) {
            self.close_answer();
        }
    }

    fn count_repeat(&mut self, rules: &Rules, fingerprint: [u8; 32], name: String) {
        let repeats = self.repeats.entry(fingerprint).or_default();
        *repeats += 1;
        if *repeats >= rules.limits.max_repeats.max(2) {
            self.looping = Some(name);
        }
    }

    /// Shows the model the outcomes in the order of its calls, whatever order they came in.
    fn close_answer(&mut self) {
        for call in self.calls.drain(..) {
            if let CallState::Done(text) = call.state {
                self.messages.push(Message::Tool { call_id: call.call.id, text });
            }
        }
    }

    fn call_mut(&mut self, call_id: &str) -> Option<&mut Tracked> {
        self.calls.iter_mut().find(|call| call.call.id == call_id)
    }
}

fn fail(kind: FailureKind, message: String) -> Decision {
    Decision::Finish(Verdict::Failed(Failure::new(kind, message)))
}

/// Tells whether a call's outcome is the id of a task that it made and that nobody waits for; it counts as a sub-task.
fn names_a_task(outcome: &ToolOutcome) -> bool {
    let ToolOutcome::Ok(Value::Object(object)) = outcome else { return false };
    let task = object.get("task").and_then(Value::as_str);
    object.len() == 1 && task.is_some_and(|task| task.parse::<domain::TaskId>().is_ok())
}
