//! How fast tasks live through the record: submit, claim, two steps, and the last step with the finish, each step 1 KB.
//!
//! `cargo bench -p state-postgres` prints tasks a second and latencies at 1 and at 64 in flight, and once more with budgets:
//! then every call is reserved in two accounts, which all tasks share, together with the step before it. The two take
//! turns, `LIFE_TURNS` times, so that the ratio of their CPU time, which the last line gives, does not depend on what else the
//! machine did. `LIFE_TASKS`, `LIFE_FULL` (tasks that are there before) and `LIFE_IN_FLIGHT` (comma separated) change what it does; the server
//! is testkit's, which waits for the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{
    AgentName, Amount, AmountLimit, BudgetAccount, BudgetWindow, Clock, ExecutionMode, FinishReason, Ids, ModelStep,
    Namespace, NewTask, OnLimit, StepBody, SystemClock, SystemIds, TaskId, TaskInput, Terms, Usage, Usd, WorkerId,
};
use state::{Claim, Finish, NewStep, Outcome, Reserve, ReserveId, Reserved, State};
use state_postgres::{PostgresOptions, PostgresState};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let tasks: u64 = setting("LIFE_TASKS", "40000").parse().expect("LIFE_TASKS is a number");
    let turns: u32 = setting("LIFE_TURNS", "1").parse().expect("LIFE_TURNS is a number");
    for in_flight in setting("LIFE_IN_FLIGHT", "1,64").split(',') {
        let in_flight: u64 = in_flight.parse().expect("LIFE_IN_FLIGHT is a list of numbers");
        let tasks = if in_flight == 1 { tasks / 10 } else { tasks };
        let mut cpu = [0.0; 2];
        for _ in 0..turns {
            for (sum, terms) in cpu.iter_mut().zip([Terms::default(), budgets()]) {
                *sum += runtime.block_on(measure(in_flight, tasks, &terms));
            }
        }
        println!("{in_flight:>3} in flight: budgets take {:.3} times the CPU time", cpu[1] / cpu[0]);
    }
}

/// An agent's and the namespace's account of a day, which nothing here comes near to.
fn budgets() -> Terms {
    let limit = AmountLimit { usd: Some(Usd(u64::MAX >> 4)), tokens: Some(u64::MAX >> 4), ..AmountLimit::default() };
    let account =
        |key: &str| BudgetAccount { key: key.to_owned(), window: BudgetWindow::Day, limit, on_limit: OnLimit::Stop };
    Terms { accounts: vec![account("agent/bench"), account("namespace")], ..Terms::default() }
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// Returns the CPU time of a task, in milliseconds.
async fn measure(in_flight: u64, tasks: u64, terms: &Terms) -> f64 {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let server = testkit::servers::postgres().await;
    let options = PostgresOptions::from_url(&server.fresh_database().await).expect("a valid URL");
    let store = PostgresState::open(options, Arc::clone(&clock));
    let state: Arc<dyn State> = store;
    let full: u64 = setting("LIFE_FULL", "20000").parse().expect("LIFE_FULL is a number");
    run(&state, &clock, 64, full.max(1), &Terms::default()).await;
    let (cpu, start) = (cpu_seconds(), clock.monotonic());
    let mut lives = run(&state, &clock, in_flight, tasks, terms).await;
    let seconds = since(clock.as_ref(), start).as_secs_f64();
    let cpu = (cpu_seconds() - cpu) * 1e3 / lives.len() as f64;
    let stats = state.stats(None).await.expect("stats");
    state.close().await;
    let mut submits: Vec<_> = lives.iter().map(|life| life.submit).collect();
    lives.sort_by_key(|life| life.whole);
    submits.sort();
    let whole: Vec<_> = lives.iter().map(|life| life.whole).collect();
    println!(
        "{in_flight:>3} in flight{}: {:>7.0} tasks/s   end to end p50 {:.2} ms p99 {:.2} ms   submit p50 {:.2} ms p99 {:.2} ms   {cpu:.3} CPU ms a task   {} bytes a task on disk",
        if terms.is_empty() { "         " } else { ", budgets" },
        lives.len() as f64 / seconds,
        quantile(&whole, 50),
        quantile(&whole, 99),
        quantile(&submits, 50),
        quantile(&submits, 99),
        stats.bytes / stats.tasks.values().sum::<u64>().max(1),
    );
    cpu
}

fn since(clock: &dyn Clock, start: Duration) -> Duration {
    clock.monotonic().saturating_sub(start)
}

fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3
}

/// User and system time of this process, in seconds; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

struct Life {
    submit: Duration,
    whole: Duration,
}

async fn run(state: &Arc<dyn State>, clock: &Arc<dyn Clock>, in_flight: u64, tasks: u64, terms: &Terms) -> Vec<Life> {
    let left = Arc::new(AtomicU64::new(tasks));
    let loops: Vec<_> = (0..in_flight)
        .map(|_| {
            let (state, clock, left) = (Arc::clone(state), Arc::clone(clock), Arc::clone(&left));
            let terms = terms.clone();
            tokio::spawn(async move {
                let worker = WorkerId(SystemIds.uuid());
                let mut lives = Vec::new();
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    lives.push(live(state.as_ref(), clock.as_ref(), worker, &terms).await);
                }
                lives
            })
        })
        .collect();
    let mut lives = Vec::new();
    for one in loops {
        lives.extend(one.await.expect("no loop panics"));
    }
    lives
}

async fn live(state: &dyn State, clock: &dyn Clock, worker: WorkerId, terms: &Terms) -> Life {
    let start = clock.monotonic();
    let task = TaskId(SystemIds.uuid());
    state.submit(NewTask { terms: terms.clone(), ..new_task(task, clock) }).await.expect("submitted");
    let submit = since(clock, start);
    let claim = Claim { task, worker, now: clock.now(), thread_messages: 0 };
    let claimed = state.claim(claim).await.expect("answered").expect("claimed");
    let lease = claimed.lease();
    let mut steps = Vec::new();
    for seq in 1..=3 {
        let steps = std::mem::replace(&mut steps, vec![step(seq, clock)]);
        if terms.is_empty() {
            if !steps.is_empty() {
                state.append(lease, steps).await.expect("appended");
            }
            continue;
        }
        let amount = Amount { usd: Usd(50_000_000), tokens: 4_000, model_calls: 1, tool_calls: 0 };
        let reserve = Reserve { id: ReserveId::Model { seq }, amount, grants: Vec::new(), at: clock.now() };
        let reserved = state.reserve(lease, steps, reserve).await.expect("answered");
        assert!(matches!(reserved, Reserved::Granted { .. }), "the limit is large");
    }
    let finish =
        Finish { steps, outcome: Outcome::Succeeded, usage: Usage::default(), messages: Vec::new(), at: clock.now() };
    state.finish(lease, finish).await.expect("finished");
    Life { submit, whole: since(clock, start) }
}

fn new_task(id: TaskId, clock: &dyn Clock) -> NewTask {
    NewTask {
        id,
        namespace: Namespace::default(),
        idempotency_key: None,
        digest: [0; 32],
        agent: AgentName::new("bench").expect("a valid name"),
        agent_version: 1,
        mode: ExecutionMode::Autonomous,
        input: TaskInput::new(kilobyte()),
        priority: 5,
        created_at: clock.now(),
        run_at: None,
        expires_at: None,
        deadline: None,
        thread: None,
        user: None,
        parent: None,
        depth: 0,
        metadata: BTreeMap::new(),
        trace: None,
        terms: domain::Terms::default(),
    }
}

fn step(seq: u32, clock: &dyn Clock) -> NewStep {
    let body = StepBody::Model(ModelStep {
        model: "scripted/bench".to_owned(),
        text: kilobyte(),
        tool_calls: Vec::new(),
        finish: FinishReason::Stop,
        usage: Usage::default(),
        structured: false,
        duration_ms: 0,
        reasoning: Vec::new(),
        tries: Vec::new(),
    });
    NewStep { seq, at: clock.now(), body }
}

fn kilobyte() -> String {
    "The quick brown fox jumps over the lazy dog; ".repeat(23)
}
