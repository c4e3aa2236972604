//! Nodes for tests: models that do what they are told, and count who asks.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use domain::{FinishReason, Message, Usage};
use llm::{Catalogue, ChatAnswer, ChatModel, ChatRequest, DeltaSink, LlmError, Models, NodeSettings, Provider, Target};
use tokio::sync::Semaphore;

/// What a node does with a call.
#[derive(Clone)]
pub(crate) enum Act {
    Answers(Usage),
    AnswersAfter(Duration),
    Fails(LlmError),
    SpeaksAndFails(LlmError),
    /// Answers when it is let go.
    Waits,
    Hangs,
}

type Script = Box<dyn Fn(u32) -> Act + Send + Sync>;

pub(crate) struct Node {
    script: Mutex<Arc<Script>>,
    list: Mutex<Option<LlmError>>,
    pub(crate) calls: AtomicU32,
    pub(crate) active: AtomicU32,
    pub(crate) peak: AtomicU32,
    pub(crate) go: Semaphore,
}

impl Node {
    /// A node that does for its n-th call, from 0, what `script` says.
    pub(crate) fn new(script: impl Fn(u32) -> Act + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Arc::new(Box::new(script))),
            list: Mutex::default(),
            calls: AtomicU32::new(0),
            active: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            go: Semaphore::new(0),
        })
    }

    pub(crate) fn answers() -> Arc<Self> {
        Self::new(|_| Act::Answers(Usage::tokens(10, 5)))
    }

    pub(crate) fn now(&self, script: impl Fn(u32) -> Act + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(Box::new(script));
    }

    pub(crate) fn lists(&self, error: Option<LlmError>) {
        *self.list.lock().unwrap() = error;
    }

    pub(crate) fn count(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Notes that a call ended, also one that was dropped.
struct Active<'a>(&'a Node);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ChatModel for Node {
    async fn chat(&self, _: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(active, Ordering::SeqCst);
        let _active = Active(self);
        let script = Arc::clone(&self.script.lock().unwrap());
        match script(call) {
            Act::Answers(usage) => Ok(answer(usage)),
            Act::AnswersAfter(time) => {
                tokio::time::sleep(time).await;
                Ok(answer(Usage::tokens(10, 5)))
            }
            Act::Fails(error) => Err(error),
            Act::SpeaksAndFails(error) => {
                on_delta("I beg");
                Err(error)
            }
            Act::Waits => {
                self.go.acquire().await.unwrap().forget();
                Ok(answer(Usage::tokens(10, 5)))
            }
            Act::Hangs => std::future::pending().await,
        }
    }

    async fn list(&self) -> Result<Vec<String>, LlmError> {
        self.list.lock().unwrap().clone().map_or_else(|| Ok(vec!["m".to_owned()]), Err)
    }
}

pub(crate) fn answer(usage: Usage) -> ChatAnswer {
    ChatAnswer {
        text: "ok".to_owned(),
        tool_calls: Vec::new(),
        reasoning: Vec::new(),
        finish: FinishReason::Stop,
        usage,
    }
}

pub(crate) fn unavailable() -> LlmError {
    LlmError::Unavailable { model: "a/m".to_owned(), reason: "HTTP 503".to_owned(), retry_after: None }
}

pub(crate) fn limited(retry_after: Option<Duration>) -> LlmError {
    LlmError::RateLimited { model: "a/m".to_owned(), retry_after }
}

pub(crate) fn request() -> ChatRequest {
    ChatRequest {
        model: String::new(),
        messages: vec![Message::user("Hello.".to_owned())],
        tools: Vec::new(),
        output_schema: None,
        temperature: None,
        max_output_tokens: Some(10),
        effort: None,
        timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
    }
}

/// A catalogue of such nodes, each with the model `m`, and the route `pool` over all of them as equals.
pub(crate) fn catalogue(nodes: &[(&str, &Arc<Node>, NodeSettings)]) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (name, node, settings) in nodes {
        let chat: Arc<dyn ChatModel> = Arc::clone(node) as _;
        let provider = Provider { chat, models: vec!["m".to_owned()], note: format!("node {name}") };
        catalogue.add_node(*name, provider, settings.clone());
    }
    let names = nodes.iter().map(|(name, ..)| format!("{name}/m")).collect();
    catalogue.add_route("pool", vec![Target { nodes: names }]);
    catalogue
}

/// Asks the first model of a route.
pub(crate) async fn ask(models: &Models, name: &str) -> Result<ChatAnswer, LlmError> {
    models.route(name)?.candidates[0].chat(&request(), &|_| {}).await
}

/// Waits until something is so, for at most ten seconds of the test's clock.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let reached = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), reached).await.is_ok(), "{what}");
}
