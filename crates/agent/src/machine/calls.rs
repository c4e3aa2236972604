//! The tool calls of the last answer, and what has become of each.

use domain::{Resolution, ToolCall, Wait, WaitFor};

use super::approval::{self, Decided};
use super::{OUTCOME_RETRY, OUTCOME_SIGNAL};

/// A tool call without an outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingCall {
    /// What is to be called: as the model asked for it, or as a person edited it.
    pub call: ToolCall,
    /// The model step that asked, and the call's position in it: together they name the call for ever.
    pub answer_seq: u32,
    /// The call's position in its answer, from 0.
    pub index: usize,
    /// A mark of an earlier run says that it began.
    pub started: bool,
    /// The step in which a person allowed it.
    pub approved: Option<u32>,
    /// A person changed its arguments.
    pub edited: bool,
}

impl PendingCall {
    /// The same for every repetition of this call, and for no other call.
    pub fn idempotency_key(&self, task: domain::TaskId) -> String {
        format!("{task}/{}/{}", self.answer_seq, self.index)
    }
}

/// What has become of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CallState {
    Pending {
        started: bool,
    },
    /// A person is asked about the call that this digest names.
    AwaitsApproval {
        digest: String,
    },
    /// Nobody knows whether it happened; a probe may have been asked and not have known either.
    Unknown {
        probed: bool,
    },
    /// What the model is told of it.
    Done(String),
}

/// One call of the last answer.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) call: ToolCall,
    pub(super) state: CallState,
    pub(super) approved: Option<u32>,
    pub(super) edited: bool,
    /// How often it was made without anybody knowing what came of it.
    pub(super) unknown: u32,
}

/// What the end of a wait means for its call.
pub(super) enum Ended {
    /// It may be made now.
    MayRun,
    /// A person refused it: what the model is told.
    Refused(String),
    /// It was another kind of wait, which answers the call.
    Answered,
}

impl Tracked {
    pub(super) fn new(call: ToolCall) -> Self {
        Self { call, state: CallState::Pending { started: false }, approved: None, edited: false, unknown: 0 }
    }

    pub(super) fn pending(&self, answer_seq: u32, index: usize, started: bool) -> PendingCall {
        let Self { call, approved, edited, .. } = self;
        PendingCall { call: call.clone(), answer_seq, index, started, approved: *approved, edited: *edited }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, CallState::Done(_))
    }

    /// The task begins to wait for it.
    pub(super) fn parked(&mut self, wait: &Wait) {
        if let WaitFor::Approval { digest, .. } = &wait.on
            && matches!(self.state, CallState::Pending { .. })
        {
            self.state = CallState::AwaitsApproval { digest: digest.clone() };
        }
    }

    /// Its wait ended with step `seq`.
    pub(super) fn resolved(&mut self, seq: u32, by: &Resolution) -> Ended {
        match &self.state {
            CallState::AwaitsApproval { digest } => match approval::read(digest, by) {
                Decided::Approved(arguments) => {
                    self.state = CallState::Pending { started: false };
                    self.approved = Some(seq);
                    if let Some(arguments) = arguments
                        && arguments != self.call.arguments
                    {
                        self.call.arguments = arguments;
                        self.edited = true;
                    }
                    Ended::MayRun
                }
                Decided::Refused(why) => Ended::Refused(format!("error: a person refused this call: {why}")),
            },
            CallState::Unknown { .. } if says_again(by) => {
                self.state = CallState::Pending { started: false };
                Ended::MayRun
            }
            _ => Ended::Answered,
        }
    }

    /// A person gave the task another try: what was uncertain is decided anew.
    pub(super) fn retried(&mut self) {
        if matches!(self.state, CallState::Unknown { .. } | CallState::AwaitsApproval { .. }) {
            self.state = CallState::Pending { started: false };
        }
    }

    /// What the model is told: with other arguments than its own, it must know them.
    pub(super) fn told(&self, text: String) -> String {
        if self.edited { format!("(a person changed the arguments to {}) {text}", self.call.arguments) } else { text }
    }

    /// Names the call and what came of it: the same again is nothing new.
    pub(super) fn fingerprint(&self, text: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.call.name.as_bytes());
        hasher.update(&[0]);
        hasher.update(self.call.arguments.to_string().as_bytes());
        hasher.update(&[0]);
        hasher.update(text.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The question whether a call that was cut off had happened.
    pub(super) fn ask_about(&self) -> Wait {
        let ToolCall { id, name, .. } = &self.call;
        let question = format!(
            "A crash cut the call {id} of {name} off. Did it happen? Answer `{OUTCOME_RETRY}` to make it again, or say what came of it."
        );
        let on = WaitFor::Signal { name: OUTCOME_SIGNAL.to_owned(), question, options: Vec::new() };
        Wait { call_id: id.clone(), on, expires_at: None, default: None }
    }
}

fn says_again(by: &Resolution) -> bool {
    matches!(by, Resolution::Signal { value, .. } if value.as_str() == Some(OUTCOME_RETRY))
}
