//! Folding a journal, and deciding what comes next.

use std::collections::HashMap;

use domain::{
    Failure, FailureKind, FinishReason, Message, ModelStep, Resolution, Step, StepBody, TaskInput, ThreadMessage,
    ToolCall, ToolOutcome, UnknownPolicy, Usage, Wait, WaitFor,
};

use super::conversation::{opening, outcome, rejection, resolution};
use super::{MAX_REJECTIONS, OUTCOME_RETRY, OUTCOME_SIGNAL, Rules};

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Ask the model; `History::messages` is the conversation.
    CallModel,
    /// Run these calls, in parallel; they have no outcome yet.
    CallTools(Vec<PendingCall>),
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

/// A tool call without an outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingCall {
    /// What the model asked for.
    pub call: ToolCall,
    /// The model step that asked, and the call's position in it: together they name the call for ever.
    pub answer_seq: u32,
    /// The call's position in its answer, from 0.
    pub index: usize,
    /// A mark of an earlier run says that it began.
    pub started: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum CallState {
    Pending {
        started: bool,
    },
    /// Nobody knows whether it happened.
    Unknown,
    /// What the model is told of it.
    Done(String),
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
    calls: Vec<(ToolCall, CallState)>,
    repeats: HashMap<[u8; 32], u32>,
    looping: Option<String>,
    call_ids: std::collections::HashSet<String>,
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
            call_ids: std::collections::HashSet::new(),
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
                if let Some((_, state)) = self.call_mut(call_id) {
                    *state = CallState::Pending { started: true };
                }
            }
            StepBody::Tool(step) => match &step.outcome {
                ToolOutcome::Unknown => {
                    if let Some((_, state)) = self.call_mut(&step.call_id) {
                        *state = CallState::Unknown;
                    }
                }
                known => self.complete(rules, &step.call_id, outcome(known), true),
            },
            StepBody::Rejected { problems } => {
                self.rejections += 1;
                self.answer = None;
                self.messages.push(Message::user(rejection(problems)));
            }
            StepBody::Parked { waits } => {
                let children = waits.iter().filter(|wait| matches!(wait.on, WaitFor::Child { .. })).count();
                self.children = self.children.saturating_add(children as u32);
            }
            StepBody::Resolved { call_id, by } => self.apply_resolved(rules, call_id, by),
            StepBody::Retried { keep_journal } => self.apply_retried(rules, *keep_journal),
            StepBody::Input(_)
            | StepBody::Probed { .. }
            | StepBody::AttemptFailed { .. }
            | StepBody::LeaseLost { .. } => {}
        }
    }

    /// Decides what comes next. `waiting` are the waits that calls of this run asked for, not yet recorded.
    pub fn decide(&self, rules: &Rules, waiting: &[Wait]) -> Decision {
        if let Some(call) = &self.looping {
            let message = format!("the call {call} was made {} times with the same result", rules.limits.max_repeats);
            return fail(FailureKind::LoopDetected, message);
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
        for (index, (call, state)) in self.calls.iter().enumerate() {
            let pending = PendingCall { call: call.clone(), answer_seq: self.answer_seq, index, started: false };
            match state {
                CallState::Done(_) => {}
                CallState::Unknown => match rules.unknown_policy(&call.name) {
                    UnknownPolicy::Ask | UnknownPolicy::Probe => park.push(ask_about(call)),
                    UnknownPolicy::Retry => run.push(PendingCall { started: true, ..pending }),
                    UnknownPolicy::Fail => {
                        let message = format!("nobody knows whether {} ({}) happened", call.name, call.id);
                        return fail(FailureKind::OutcomeUnknown, message);
                    }
                },
                CallState::Pending { started: true } => {
                    return Decision::Record(StepBody::Tool(domain::ToolStep {
                        call_id: call.id.clone(),
                        tool: call.name.clone(),
                        outcome: ToolOutcome::Unknown,
                        duration_ms: 0,
                    }));
                }
                CallState::Pending { started: false } => match waiting.iter().find(|wait| wait.call_id == call.id) {
                    Some(wait) => park.push(wait.clone()),
                    None => run.push(pending),
                },
            }
        }
        if run.is_empty() { Decision::Park(park) } else { Decision::CallTools(run) }
    }

    fn apply_model(&mut self, rules: &Rules, seq: u32, step: &ModelStep) {
        self.answers += 1;
        self.usage += step.usage;
        self.counted += step.usage;
        self.messages.push(Message::Assistant {
            text: step.text.clone(),
            tool_calls: step.tool_calls.clone(),
            reasoning: Vec::new(),
        });
        self.answer_seq = seq;
        if step.tool_calls.is_empty() {
            self.answer = Some(step.clone());
            return;
        }
        self.answer = None;
        self.calls_made = self.calls_made.saturating_add(step.tool_calls.len() as u32);
        let pending = CallState::Pending { started: false };
        self.calls = step.tool_calls.iter().map(|call| (call.clone(), pending.clone())).collect();
        self.call_ids.extend(step.tool_calls.iter().map(|call| call.id.clone()));
        if self.calls.len() > rules.limits.max_parallel_tool_calls as usize {
            let refusal = format!(
                "error: none of the {} calls was made; ask for at most {} at once",
                self.calls.len(),
                rules.limits.max_parallel_tool_calls
            );
            for (_, state) in &mut self.calls {
                *state = CallState::Done(refusal.clone());
            }
            self.close_answer();
        }
    }

    fn apply_resolved(&mut self, rules: &Rules, call_id: &str, by: &Resolution) {
        if let Resolution::Child(child) = by {
            self.usage += child.usage;
            self.counted += child.usage;
        }
        // Time has passed or somebody has spoken: asking the same again may now give something new.
        self.repeats.clear();
        let again = match by {
            Resolution::Signal { value, .. } => value.as_str() == Some(OUTCOME_RETRY),
            _ => false,
        };
        if let Some((_, state)) = self.call_mut(call_id)
            && *state == CallState::Unknown
            && again
        {
            *state = CallState::Pending { started: false };
            return;
        }
        self.complete(rules, call_id, resolution(by), false);
    }

    fn apply_retried(&mut self, rules: &Rules, keep_journal: bool) {
        // A person granted another try, and with it the whole of the limits.
        self.answers = 0;
        self.calls_made = self.calls.len() as u32;
        self.rejections = 0;
        self.counted = Usage::default();
        self.repeats.clear();
        self.looping = None;
        if keep_journal {
            for (_, state) in &mut self.calls {
                if *state == CallState::Unknown {
                    *state = CallState::Pending { started: false };
                }
            }
            if self.answer.take().is_some() {
                // The last answer is what failed the task: it is taken back, so that the model is asked again.
                self.messages.pop();
            }
        } else {
            self.messages = opening(rules, &self.thread, &self.input);
            self.answer = None;
            self.calls.clear();
            self.children = 0;
        }
    }

    fn complete(&mut self, rules: &Rules, call_id: &str, text: String, detect_loop: bool) {
        let Some((call, state)) = self.call_mut(call_id) else { return };
        if matches!(state, CallState::Done(_)) {
            return;
        }
        let fingerprint = detect_loop.then(|| (fingerprint(call, &text), call.name.clone()));
        *state = CallState::Done(text);
        if let Some((fingerprint, name)) = fingerprint {
            let repeats = self.repeats.entry(fingerprint).or_default();
            *repeats += 1;
            if *repeats >= rules.limits.max_repeats.max(2) {
                self.looping = Some(name);
            }
        }
        if self.calls.iter().all(|(_, state)| matches!(state, CallState::Done(_))) {
            self.close_answer();
        }
    }

    /// Shows the model the outcomes in the order of its calls, whatever order they came in.
    fn close_answer(&mut self) {
        for (call, state) in self.calls.drain(..) {
            if let CallState::Done(text) = state {
                self.messages.push(Message::Tool { call_id: call.id, text });
            }
        }
    }

    fn call_mut(&mut self, call_id: &str) -> Option<&mut (ToolCall, CallState)> {
        self.calls.iter_mut().find(|(call, _)| call.id == call_id)
    }
}

fn fail(kind: FailureKind, message: String) -> Decision {
    Decision::Finish(Verdict::Failed(Failure::new(kind, message)))
}

fn ask_about(call: &ToolCall) -> Wait {
    Wait {
        call_id: call.id.clone(),
        on: WaitFor::Signal {
            name: OUTCOME_SIGNAL.to_owned(),
            question: format!(
                "A crash cut the call {} of {} off. Did it happen? Answer `{OUTCOME_RETRY}` to make it again, or say what came of it.",
                call.id, call.name
            ),
            options: Vec::new(),
        },
        expires_at: None,
        default: None,
    }
}

fn fingerprint(call: &ToolCall, text: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(call.name.as_bytes());
    hasher.update(&[0]);
    hasher.update(call.arguments.to_string().as_bytes());
    hasher.update(&[0]);
    hasher.update(text.as_bytes());
    *hasher.finalize().as_bytes()
}
