//! A platform without services: the record, the bus, scripted models, and one driver that is given tasks by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent::{Announcer, Driver, DriverParts, RunControl, RunEnd};
use async_trait::async_trait;
use bus::InprocBus;
use domain::{
    AgentName, AgentSpec, Clock, ExecutionMode, Ids, ManualClock, Namespace, NewTask, Step, SystemIds, Task, TaskId,
    TaskInput, TaskStatus, ToolSpec, WorkerId,
};
use llm::scripted::{Dialogue, Scripted};
use llm::{Models, Provider};
use serde_json::{Value, json};
use state::agents::Agents;
use state::{Claim, Claimed, State};
use state_sqlite::{SqliteOptions, SqliteState};
use tools::{CallContext, Tool, ToolError, ToolReply, Toolkit};

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ids: Arc<SystemIds>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) scripted: Arc<Scripted>,
    pub(crate) counter: Arc<Counter>,
    pub(crate) driver: Driver,
    _dir: tempfile::TempDir,
}

/// A tool that counts how often it was called, and does as its arguments say.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) calls: AtomicU32,
    pub(crate) keys: std::sync::Mutex<Vec<String>>,
}

#[async_trait]
impl Tool for Counter {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({ "type": "object", "properties": { "hang": { "type": "boolean" } } });
        Some(ToolSpec::new("count", "Counts.", parameters, Duration::from_secs(30)))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.keys.lock().expect("not poisoned").push(context.idempotency_key.clone());
        if arguments["hang"] == true {
            std::future::pending::<()>().await;
        }
        Ok(ToolReply::Done(json!(calls)))
    }
}

pub(crate) fn namespace() -> Namespace {
    Namespace::default()
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let start = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a moment");
        let clock = Arc::new(ManualClock::at(start));
        let state: Arc<dyn State> =
            SqliteState::open(SqliteOptions::new(dir.path()), Arc::clone(&clock) as Arc<dyn Clock>).expect("it opens");
        let agents = Arc::new(Agents::new(Arc::clone(&state), Arc::clone(&clock) as Arc<dyn Clock>));
        let bus = Arc::new(InprocBus::default());
        let scripted = Arc::new(Scripted::new());
        let mut models = Models::default();
        models.add(
            "scripted",
            Provider { chat: Arc::clone(&scripted) as _, models: Vec::new(), note: "for tests".to_owned() },
        );
        let counter = Arc::new(Counter::default());
        let mut toolkit: Toolkit = tools::builtin(tools::BuiltinOptions::default());
        toolkit.add("count", Arc::clone(&counter) as Arc<dyn Tool>);
        let ids = Arc::new(SystemIds);
        let driver = Driver::new(DriverParts {
            state: Arc::clone(&state),
            agents: Arc::clone(&agents),
            announcer: Announcer { queue: Arc::clone(&bus) as _, events: Arc::clone(&bus) as _ },
            blobs: Arc::new(blob::Folder::new(dir.path().join("blobs"))),
            limits: Arc::default(),
            models,
            toolkit,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ids: Arc::clone(&ids) as Arc<dyn Ids>,
        });
        Self { clock, ids, state, agents, scripted, counter, driver, _dir: dir }
    }

    /// Publishes an agent from JSON, whose dialogue of the same name is `dialogue`.
    pub(crate) async fn agent(&self, name: &str, mut spec: Value, dialogue: &str) {
        spec["name"] = json!(name);
        if spec.get("model").is_none() {
            spec["model"] = json!(format!("scripted/{name}"));
        }
        let spec: AgentSpec = serde_json::from_value(spec).expect("an agent");
        self.agents.publish(&namespace(), spec).await.expect("published");
        self.scripted.add(name, Dialogue::parse(dialogue).expect("a dialogue"));
    }

    pub(crate) async fn submit(&self, agent: &str) -> TaskId {
        self.submit_with(agent, |_| {}).await
    }

    pub(crate) async fn submit_with(&self, agent: &str, change: impl FnOnce(&mut NewTask)) -> TaskId {
        let name = AgentName::new(agent).expect("a name");
        let mut task = NewTask {
            id: TaskId(self.ids.uuid()),
            namespace: namespace(),
            idempotency_key: None,
            digest: [0; 32],
            agent: name,
            agent_version: 1,
            mode: ExecutionMode::Autonomous,
            input: TaskInput::new("go".to_owned()),
            priority: 5,
            created_at: self.clock.now(),
            run_at: None,
            expires_at: None,
            deadline: None,
            thread: None,
            user: None,
            parent: None,
            depth: 0,
            metadata: std::collections::BTreeMap::new(),
            trace: None,
            terms: domain::Terms::default(),
        };
        change(&mut task);
        let id = task.id;
        self.state.submit(task).await.expect("recorded");
        id
    }

    pub(crate) async fn claim(&self, task: TaskId) -> Claimed {
        self.try_claim(task).await.expect("it can be claimed")
    }

    pub(crate) async fn try_claim(&self, task: TaskId) -> Option<Claimed> {
        let worker = WorkerId(self.ids.uuid());
        let claim = Claim { task, worker, now: self.clock.now(), thread_messages: 100 };
        self.state.claim(claim).await.expect("the record answers")
    }

    pub(crate) async fn run(&self, task: TaskId) -> RunEnd {
        let claimed = self.claim(task).await;
        self.driver.run(claimed, &RunControl::default()).await
    }

    pub(crate) async fn task(&self, task: TaskId) -> Task {
        self.state.task(&namespace(), task).await.expect("the record answers").expect("it exists")
    }

    pub(crate) async fn journal(&self, task: TaskId) -> Vec<Step> {
        self.state.journal(&namespace(), task, 0, 10_000).await.expect("the record answers")
    }

    pub(crate) async fn children(&self, task: TaskId) -> Vec<Task> {
        let filter = state::TaskFilter { parent: Some(task), ..Default::default() };
        self.state.tasks(&namespace(), filter, None, 100).await.expect("the record answers").items
    }

    /// Asserts that a task ended so.
    pub(crate) async fn ended(&self, task: TaskId, status: TaskStatus) -> Task {
        let task = self.task(task).await;
        assert_eq!(task.status, status, "{:?}", task.failure);
        task
    }
}
