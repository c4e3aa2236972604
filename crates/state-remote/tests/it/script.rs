//! Every method once, in an order in which all of them have something to do, with nothing left to chance.

use std::time::Duration;

use domain::{
    Amount, AmountLimit, BudgetAccount, BudgetWindow, ExecutionMode, Failure, FailureKind, Gate, GateLimit, Lease,
    Namespace, NewTask, OnLimit, ParentRef, TaskId, Terms, ThreadId, Timestamp, ToolCall, Usd, Wait, WaitFor, WorkerId,
};
use serde_json::json;
use state::{
    Artifact, AttemptFailed, Claim, Finish, LeaseBeat, NewThreadMessage, Outcome, Park, PutCondition, Reserve,
    ReserveId, Retention, Signal, State, StateError, TaskFilter,
};

use crate::support::{model_step, new_task};

/// What became of a call: its method, and its error if it had one.
pub(crate) type Played = Vec<(&'static str, Option<StateError>)>;

fn task_id(n: u128) -> TaskId {
    TaskId(domain_uuid(n))
}

fn domain_uuid(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n)
}

/// Calls every method of `state` at least once; `now` is the time of its clock.
pub(crate) async fn play(state: &dyn State, now: Timestamp) -> Played {
    let mut played = Played::new();
    let mut note = |method, error: Option<StateError>| played.push((method, error));
    macro_rules! call {
        ($method:ident($($argument:expr),*)) => {{
            let answer = state.$method($($argument),*).await;
            note(stringify!($method), answer.as_ref().err().cloned());
            answer.ok()
        }};
    }
    let space = Namespace::default();
    let thread = ThreadId(domain_uuid(900));
    let worker = WorkerId(domain_uuid(901));
    let soon = now + Duration::from_secs(60);
    let claim = |task| Claim { task, worker, now, thread_messages: 100 };
    let lease = |task, epoch| Lease { task, epoch };

    call!(ping());
    let paid = NewTask { thread: Some(thread), terms: terms(), ..full_task(task_id(1), now) };
    call!(submit(paid.clone()));
    call!(submit(NewTask { digest: [8; 32], ..paid }));
    call!(claim(claim(task_id(1))));
    let held = lease(task_id(1), 1);
    call!(renew(worker, vec![held, lease(task_id(2), 4)]));
    let step = model_step(1, now, "a thought").body;
    let domain::StepBody::Model(mut step) = step else { return played };
    step.tool_calls =
        vec![ToolCall { id: "call-1".to_owned(), name: "look".to_owned(), arguments: json!({"at": 1.5}) }];
    let step = state::NewStep { seq: 1, at: now, body: domain::StepBody::Model(step) };
    call!(append(held, vec![step]));
    let amount = Amount { usd: Usd(Usd::DOLLAR), tokens: 900, model_calls: 1, tool_calls: 0 };
    let id = ReserveId::Model { seq: 2 };
    let reserve = Reserve { id, amount, grants: vec![("agent/writer".to_owned(), Amount::default())], at: now };
    call!(reserve(held, Vec::new(), reserve.clone()));
    let too_much = Reserve { id: ReserveId::Tools { seq: 1 }, ..reserve };
    call!(reserve(held, Vec::new(), too_much));
    call!(budget(&space, task_id(1), now));
    call!(accounts(&space, now));
    call!(settle(held, id, Amount { tokens: 10, ..amount }));
    let artifact =
        Artifact { name: "a.txt".to_owned(), media_type: "text/plain".to_owned(), size: 3, digest: [1; 32], at: now };
    call!(put_artifact(held, artifact));
    call!(artifacts(&space, task_id(1)));
    call!(referenced(vec![[1; 32], [2; 32]]));
    call!(submit(new_task(task_id(2), now)));
    let gate = Gate { key: "agent/writer".to_owned(), limit: GateLimit::Running { max: 1 } };
    let gated =
        |n| NewTask { terms: Terms { gates: vec![gate.clone()], ..Terms::default() }, ..new_task(task_id(n), now) };
    call!(submit(gated(4)));
    call!(submit(gated(5)));
    call!(claim(claim(task_id(4))));
    call!(claim(claim(task_id(5))));
    call!(gate(&space, task_id(5), now));
    let child = NewTask {
        parent: Some(ParentRef { task: task_id(1), call_id: "call-1".to_owned() }),
        depth: 1,
        mode: ExecutionMode::Collaborative,
        ..new_task(task_id(3), now)
    };
    let wait = |call_id: &str, on| Wait { call_id: call_id.to_owned(), on, expires_at: Some(soon), default: None };
    let waits = vec![
        wait("call-1", WaitFor::Child { task: task_id(3), agent: child.agent.clone() }),
        wait("call-2", WaitFor::Signal { name: "go".to_owned(), question: "may I?".to_owned(), options: Vec::new() }),
    ];
    call!(park(held, Park { steps: Vec::new(), seq: 2, at: now, waits, children: vec![child] }));
    let signal = |key: Option<&str>| Signal {
        name: "go".to_owned(),
        value: json!({"yes": true, "share": 0.1}),
        from: Some("ann".to_owned()),
        key: key.map(str::to_owned),
        at: now,
    };
    call!(signal(&space, task_id(1), signal(Some("k"))));
    call!(signal(&space, task_id(1), signal(None)));
    call!(claim(claim(task_id(3))));
    let finish = |seq, outcome| Finish {
        steps: vec![model_step(seq, now, "done")],
        outcome,
        usage: domain::Usage::tokens(10, 20),
        messages: Vec::new(),
        at: now,
    };
    call!(finish(lease(task_id(3), 1), finish(1, Outcome::Succeeded)));
    call!(claim(claim(task_id(1))));
    let mut said = finish(6, Outcome::Succeeded);
    said.steps[0].seq = 5;
    said.messages = vec![
        NewThreadMessage { role: "user", text: "say something".to_owned() },
        NewThreadMessage { role: "assistant", text: "done".to_owned() },
    ];
    call!(finish(lease(task_id(1), 2), said));
    call!(answer(&space, task_id(1)));
    call!(task(&space, task_id(1)));
    call!(task(&space, task_id(77)));
    call!(journal(&space, task_id(1), 0, 100));
    call!(threads(&space, None, 10));
    call!(thread_messages(&space, thread, 0, 10));
    call!(claim(claim(task_id(2))));
    let failure = Failure::new(FailureKind::RateLimited, "the provider asked us to slow down");
    call!(fail_attempt(
        lease(task_id(2), 1),
        AttemptFailed { seq: 1, at: now, failure: failure.clone(), retry_at: now }
    ));
    call!(claim(claim(task_id(2))));
    call!(release(lease(task_id(2), 2)));
    call!(claim(claim(task_id(2))));
    call!(leases());
    let beat = LeaseBeat { lease: lease(task_id(2), 3), worker, beat: 0 };
    call!(reap(vec![beat], 3, now));
    call!(claim(claim(task_id(2))));
    call!(append(lease(task_id(2), 3), vec![model_step(9, now, "too late")]));
    call!(finish(lease(task_id(2), 4), Finish { steps: Vec::new(), ..finish(0, Outcome::Failed(failure)) }));
    call!(retry(&space, task_id(2), true));
    call!(retry(&space, task_id(2), false));
    call!(cancel(&space, task_id(2)));
    call!(cancel(&space, task_id(2)));
    call!(due(now, Duration::from_secs(60), 100));
    call!(expire(now, 100));
    let hour = Duration::from_secs(3_600);
    call!(purge(Retention { ended_tasks: hour, idempotency_keys: hour }, now, 100));
    let filter = TaskFilter { statuses: vec![domain::TaskStatus::Succeeded], ..TaskFilter::default() };
    call!(tasks(&space, filter, Some(task_id(50)), 10));
    call!(put_value(&space, "s", "k", json!([1, null]), Some(soon), PutCondition::Always, now));
    call!(put_value(&space, "s", "k", json!(2), None, PutCondition::Version(9), now));
    call!(put_value(&space, "s", "l", json!(null), None, PutCondition::Absent, now));
    call!(value(&space, "s", "k", now));
    call!(values(&space, "s", Some("k"), 10, now));
    call!(delete_value(&space, "s", "k"));
    call!(stats(Some(&space)));
    played
}

fn full_task(id: TaskId, now: Timestamp) -> NewTask {
    NewTask {
        idempotency_key: Some("key-1".to_owned()),
        user: Some("ann".to_owned()),
        metadata: [("team".to_owned(), "a".to_owned())].into(),
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ..new_task(id, now)
    }
}

/// An account of a day, and a task's own.
fn terms() -> Terms {
    let limit = AmountLimit { tokens: Some(1_000), ..AmountLimit::default() };
    let account = |key: &str, window| BudgetAccount { key: key.to_owned(), window, limit, on_limit: OnLimit::Stop };
    let accounts = vec![account("task/1", BudgetWindow::Task), account("agent/writer", BudgetWindow::Day)];
    Terms { limit_key: Some("ann".to_owned()), gates: Vec::new(), accounts }
}
