//! A model that does what a function says, and knows what its answers really cost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use domain::{FinishReason, Message, ToolCall, Usage};
use llm::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, LlmError};
use serde_json::Value;

/// What is said, and how it ends.
pub(crate) struct Act {
    deltas: Vec<String>,
    end: Result<ChatAnswer, LlmError>,
}

impl Act {
    pub(crate) fn says(text: &str) -> Self {
        let answer = ChatAnswer {
            text: text.to_owned(),
            tool_calls: Vec::new(),
            reasoning: Vec::new(),
            finish: FinishReason::Stop,
            usage: Usage::tokens(100, 10),
        };
        Self { deltas: vec![text.to_owned()], end: Ok(answer) }
    }

    pub(crate) fn calls(calls: &[(&str, Value)]) -> Self {
        Self::says("").change(|answer| {
            answer.finish = FinishReason::ToolCalls;
            for (n, (name, arguments)) in calls.iter().enumerate() {
                let call = ToolCall { id: format!("c{n}"), name: (*name).to_owned(), arguments: arguments.clone() };
                answer.tool_calls.push(call);
            }
        })
    }

    pub(crate) fn breaks(error: LlmError) -> Self {
        Self { deltas: Vec::new(), end: Err(error) }
    }

    /// It says this before it ends.
    pub(crate) fn after(mut self, text: &str) -> Self {
        self.deltas = vec![text.to_owned()];
        self
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut ChatAnswer)) -> Self {
        self.end = self.end.map(|mut answer| {
            change(&mut answer);
            answer
        });
        self
    }
}

type Play = Box<dyn Fn(&ChatRequest) -> Act + Send + Sync>;

pub(crate) struct Actor {
    play: Play,
    pub(crate) requests: Mutex<Vec<ChatRequest>>,
    /// Tokens of all answers that were begun, whoever heard them.
    pub(crate) tokens: AtomicU64,
}

impl Actor {
    pub(crate) fn new(play: impl Fn(&ChatRequest) -> Act + Send + Sync + 'static) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self { play: Box::new(play), requests: Mutex::default(), tokens: AtomicU64::new(0) })
    }

    pub(crate) fn asked(&self) -> usize {
        self.requests.lock().expect("not poisoned").len()
    }

    pub(crate) fn request(&self, number: usize) -> ChatRequest {
        self.requests.lock().expect("not poisoned")[number].clone()
    }
}

/// How many answers of the model a conversation has.
pub(crate) fn turn(request: &ChatRequest) -> usize {
    request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count()
}

/// What the last tool said.
pub(crate) fn last_tool(request: &ChatRequest) -> String {
    let tools = request.messages.iter().rev();
    let found = tools.filter_map(|message| match message {
        Message::Tool { text, .. } => Some(text.clone()),
        _ => None,
    });
    found.into_iter().next().unwrap_or_default()
}

#[async_trait]
impl ChatModel for Actor {
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        self.requests.lock().expect("not poisoned").push(request.clone());
        let act = (self.play)(request);
        if let Ok(answer) = &act.end {
            self.tokens.fetch_add(answer.usage.total(), Ordering::SeqCst);
        }
        for delta in &act.deltas {
            on_delta(delta);
            tokio::task::yield_now().await;
        }
        act.end
    }
}
