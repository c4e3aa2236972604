//! How long it takes to write and read what travels most and what is largest: the append of a step of 1 KB, and the answer
//! to a claim with a journal of a hundred such steps.
//!
//! `cargo bench -p state-remote` prints microseconds and bytes of both, and of an append through client and server over the
//! in-process bus, with the store behind them and without.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bus::{InprocBus, Requests};
use domain::{
    AgentName, Clock, ExecutionMode, FinishReason, Ids, Lease, ModelStep, Namespace, NewTask, Step, StepBody,
    SystemClock, SystemIds, TaskId, TaskInput, Terms, Timestamp, Usage, WorkerId,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use state::{Claim, Claimed, NewStep, State};
use state_remote::{ClientOptions, RemoteState, ServerOptions, serve};
use state_sqlite::{SqliteOptions, SqliteState};

const TURNS: u32 = 2_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(measure());
}

async fn measure() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = SqliteState::open(SqliteOptions::new(dir.path()), clock.clone()).expect("a store");
    let store = store as Arc<dyn State>;
    let bus: Arc<dyn Requests> = Arc::new(InprocBus::default());
    let serving = serve(&*bus, store.clone(), ServerOptions::default()).await.expect("served");
    let remote = RemoteState::new(bus, Arc::new(SystemIds), ClientOptions::default());

    let now = clock.now();
    let task = store.submit(new_task(now)).await.expect("submitted").task;
    let claim = Claim { task: task.id, worker: WorkerId(SystemIds.uuid()), now, thread_messages: 0 };
    let claimed = remote.claim(claim).await.expect("claimed").expect("the task");
    let lease = claimed.lease();
    let steps: Vec<Step> = (0..100).map(|seq| Step { seq, epoch: 1, at: now, body: body() }).collect();
    turn("the arguments of an append, 1 KB", &(lease, vec![NewStep { seq: 1, at: now, body: body() }]));
    turn("the answer to a claim, 100 steps of 1 KB", &Claimed { steps, ..claimed });

    let mut seq = 1;
    for (what, state) in
        [("an append, direct", &*store), ("an append, through client and server", &remote as &dyn State)]
    {
        let started = clock.monotonic();
        for _ in 0..TURNS {
            append(state, lease, seq, now).await;
            seq += 1;
        }
        println!("{what:45} {:8.1} us", micros(clock.monotonic().saturating_sub(started)));
    }
    drop(serving);
}

async fn append(state: &dyn State, lease: Lease, seq: u32, now: Timestamp) {
    state.append(lease, vec![NewStep { seq, at: now, body: body() }]).await.expect("appended");
}

/// Writes and reads a value.
fn turn<T: Serialize + DeserializeOwned>(what: &str, value: &T) {
    let clock = SystemClock::default();
    let text = serde_json::to_vec(value).expect("JSON");
    let started = clock.monotonic();
    for _ in 0..TURNS {
        black_box(serde_json::to_vec(black_box(value)).expect("JSON"));
    }
    let written = clock.monotonic();
    for _ in 0..TURNS {
        black_box(serde_json::from_slice::<T>(black_box(&text)).expect("the value"));
    }
    let read = clock.monotonic();
    let (write_us, read_us, bytes) =
        (micros(written.saturating_sub(started)), micros(read.saturating_sub(written)), text.len());
    println!("{what:45} {write_us:8.1} us to write, {read_us:8.1} us to read, {bytes} bytes");
}

fn micros(all: Duration) -> f64 {
    all.as_secs_f64() * 1e6 / f64::from(TURNS)
}

fn body() -> StepBody {
    StepBody::Model(ModelStep {
        model: "scripted/test".to_owned(),
        text: "a thought of a model. ".repeat(1024 / 22),
        tool_calls: Vec::new(),
        finish: FinishReason::Stop,
        usage: Usage::tokens(10, 20),
        structured: false,
        duration_ms: 12,
        reasoning: Vec::new(),
        tries: Vec::new(),
    })
}

fn new_task(now: Timestamp) -> NewTask {
    NewTask {
        id: TaskId(SystemIds.uuid()),
        namespace: Namespace::default(),
        idempotency_key: None,
        digest: [7; 32],
        agent: AgentName::new("writer").expect("a name"),
        agent_version: 1,
        mode: ExecutionMode::Autonomous,
        input: TaskInput::new("say something"),
        priority: 5,
        created_at: now,
        run_at: None,
        expires_at: None,
        deadline: None,
        thread: None,
        user: None,
        parent: None,
        depth: 0,
        metadata: BTreeMap::new(),
        trace: None,
        terms: Terms::default(),
    }
}
