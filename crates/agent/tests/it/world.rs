//! A platform without services: the record, the bus, scripted models, and one driver that is given tasks by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use agent::{Announcer, Driver, DriverParts, RunControl, RunEnd};
use async_trait::async_trait;
use bus::InprocBus;
use domain::{
    AgentName, AgentSpec, Clock, ExecutionMode, Ids, ManualClock, Namespace, NewTask, Step, SystemIds, Task, TaskId,
    TaskInput, TaskStatus, ToolSpec, WorkerId,
};
use llm::scripted::{Dialogue, Scripted};
use llm::{ChatModel, ModelTerms, Models, Price, Provider};
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
    pub(crate) bank: Arc<Bank>,
    pub(crate) bus: Arc<InprocBus>,
    pub(crate) blobs: Arc<dyn blob::Blobs>,
    pub(crate) models: Models,
    pub(crate) driver: Driver,
    numbers: AtomicU32,
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

/// A tool that cannot be undone, the tool that knows what it did, and a colleague who never answers in time.
#[derive(Default)]
pub(crate) struct Bank {
    /// The keys and arguments of the payments that were made.
    pub(crate) paid: std::sync::Mutex<Vec<(String, Value)>>,
    /// How often it was asked what it did.
    pub(crate) asked: AtomicU32,
}

impl Bank {
    pub(crate) fn payments(&self) -> Vec<(String, Value)> {
        self.paid.lock().expect("not poisoned").clone()
    }
}

struct Pay(Arc<Bank>);

#[async_trait]
impl Tool for Pay {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let properties = json!({ "amount": { "type": "number", "minimum": 0 }, "to": { "type": "string" } });
        let parameters = json!({ "type": "object", "properties": properties, "required": ["amount"] });
        let spec = ToolSpec::new("pay", "Pays.", parameters, Duration::from_secs(30));
        Some(ToolSpec { effect: domain::Effect::Once, ..spec })
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        // Whoever kills the run can do so before and after the money has gone.
        tokio::task::yield_now().await;
        let key = context.idempotency_key.clone();
        self.0.paid.lock().expect("not poisoned").push((key, arguments));
        tokio::task::yield_now().await;
        Ok(ToolReply::Done(json!("paid")))
    }
}

struct Paid(Arc<Bank>);

#[async_trait]
impl Tool for Paid {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let properties = json!({ "idempotency_key": { "type": "string" }, "tool": { "type": "string" } });
        let parameters = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        Some(ToolSpec::new("paid", "Tells whether a payment was made.", parameters, Duration::from_secs(30)))
    }

    async fn call(&self, _: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let happened = self.0.payments().iter().any(|(key, _)| arguments["idempotency_key"] == json!(key));
        Ok(ToolReply::Done(json!({ "happened": happened, "asked": arguments["tool"] })))
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
        let bank = Arc::new(Bank::default());
        toolkit.add("pay", Arc::new(Pay(Arc::clone(&bank))));
        toolkit.add("paid", Arc::new(Paid(Arc::clone(&bank))));
        toolkit.add("workbench", Arc::new(crate::workspaces::Workbench));
        let blobs: Arc<dyn blob::Blobs> = Arc::new(blob::Folder::new(dir.path().join("blobs")));
        let ids = Arc::new(SystemIds);
        let driver = Driver::new(DriverParts {
            state: Arc::clone(&state),
            agents: Arc::clone(&agents),
            announcer: Announcer { queue: Arc::clone(&bus) as _, events: Arc::clone(&bus) as _ },
            blobs: Arc::clone(&blobs),
            limits: Arc::default(),
            models: models.clone(),
            toolkit,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ids: Arc::clone(&ids) as Arc<dyn Ids>,
        });
        Self {
            clock,
            ids,
            state,
            agents,
            scripted,
            counter,
            bank,
            bus,
            blobs,
            models,
            driver,
            numbers: AtomicU32::new(0),
            _dir: dir,
        }
    }

    /// A number that no other call returns.
    pub(crate) fn ids_made(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    /// Adds a provider of one model, `NAME/m`.
    pub(crate) fn model(&self, name: &str, chat: Arc<dyn ChatModel>) {
        self.models.clone().add(name, Provider { chat, models: Vec::new(), note: String::new() });
    }

    /// Says what a million tokens of the model `NAME/m` cost, read and written.
    pub(crate) fn price(&self, name: &str, dollars: f64) {
        let usd = domain::Usd::from_dollars(dollars);
        let price = Price { input: usd, output: usd, cached_input: None, cache_write: None };
        self.describe(name, ModelTerms { price: Some(price), ..ModelTerms::default() });
    }

    pub(crate) fn describe(&self, name: &str, terms: ModelTerms) {
        self.models.clone().describe(format!("{name}/m"), terms);
    }

    /// Publishes an agent from JSON.
    pub(crate) async fn publish(&self, name: &str, mut spec: Value) {
        spec["name"] = json!(name);
        let spec: AgentSpec = serde_json::from_value(spec).expect("an agent");
        self.agents.publish(&namespace(), spec).await.expect("published");
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
        let active = self.agents.active(&namespace(), &task.agent).await.expect("the record answers");
        if let Some(active) = active {
            task.terms = domain::terms_of(task.id, &active.spec, &domain::NamespaceLimits::default(), None, None);
        }
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

    /// Runs a task until it has waited so often, and then kills it; `None` when it was killed.
    pub(crate) async fn run_until_killed(&self, task: TaskId, waits: &mut u32) -> Option<RunEnd> {
        let claimed = self.claim(task).await;
        let control = RunControl::default();
        let mut run = Box::pin(self.driver.run(claimed, &control));
        let end = std::future::poll_fn(|context| match run.as_mut().poll(context) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending if *waits == 0 => Poll::Ready(None),
            Poll::Pending => {
                *waits -= 1;
                Poll::Pending
            }
        });
        let end = end.await;
        drop(run);
        if end.is_none() {
            *waits = u32::MAX;
            let leases = self.state.leases().await.expect("the record answers");
            let leases = leases.into_iter().filter(|beat| beat.lease.task == task).collect();
            self.state.reap(leases, 1_000, self.clock.now()).await.expect("reaped");
        }
        end
    }

    /// Runs a task, and has its worker stop in order when the task has waited so often; true when that came.
    pub(crate) async fn run_until_stopped(&self, task: TaskId, mut waits: u32) -> bool {
        let claimed = self.claim(task).await;
        let control = RunControl::default();
        let mut run = Box::pin(self.driver.run(claimed, &control));
        std::future::poll_fn(|context| {
            let polled = run.as_mut().poll(context);
            if polled.is_pending() {
                match waits.checked_sub(1) {
                    Some(left) => waits = left,
                    None => control.release.cancel(),
                }
            }
            polled
        })
        .await;
        control.release.is_cancelled()
    }

    /// How the accounts of a task stand.
    pub(crate) async fn levels(&self, task: TaskId) -> Vec<domain::BudgetLevel> {
        self.state.budget(&namespace(), task, self.clock.now()).await.expect("the record answers")
    }

    /// What the last step of a task waits for.
    pub(crate) async fn waits(&self, task: TaskId) -> Vec<domain::Wait> {
        let journal = self.journal(task).await;
        match journal.into_iter().rev().find_map(|step| match step.body {
            domain::StepBody::Parked { waits } => Some(waits),
            _ => None,
        }) {
            Some(waits) => waits,
            None => panic!("it never waited"),
        }
    }

    /// Answers a wait as a person does.
    pub(crate) async fn answer(&self, task: TaskId, wait: &domain::Wait, value: Value) {
        let name = wait.on.signal(&wait.call_id).expect("a signal ends it");
        let signal = state::Signal { name, value, from: Some("ann".to_owned()), key: None, at: self.clock.now() };
        self.state.signal(&namespace(), task, signal).await.expect("delivered");
    }

    /// Approves what a task waits for.
    pub(crate) async fn approve(&self, task: TaskId) {
        for wait in self.waits(task).await {
            let domain::WaitFor::Approval { digest, .. } = &wait.on else { panic!("{wait:?}") };
            self.answer(task, &wait, json!({ "approved": true, "digest": digest })).await;
        }
    }

    pub(crate) async fn said(&self, task: TaskId) -> Value {
        self.state.answer(&namespace(), task).await.expect("the record answers").expect("an answer")
    }

    pub(crate) async fn failure(&self, task: TaskId) -> domain::Failure {
        self.ended(task, TaskStatus::Failed).await.failure.expect("a failure")
    }

    pub(crate) async fn kinds(&self, task: TaskId) -> Vec<&'static str> {
        self.journal(task).await.iter().map(|step| step.body.kind()).collect()
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
