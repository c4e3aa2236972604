//! Budget accounts: reserved before calls, settled after them, never exceeded.

use domain::{
    Amount, AmountLimit, BudgetAccount, BudgetLevel, BudgetWindow, Dimension, Lease, NewTask, OnLimit, StepBody,
    TaskId, Terms, Usage, Usd,
};

use super::Run;
use super::world::{World, assert_lost, failure, wait_timer};
use crate::{AttemptFailed, NewStep, Outcome, Reserve, ReserveId, Reserved};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_task_without_accounts_is_always_granted", |w| Box::pin(unlimited(w))),
    ("a_reservation_counts_until_its_step_settles_it", |w| Box::pin(settled_by_step(w))),
    ("a_step_that_comes_with_a_park_or_a_finish_settles_too", |w| Box::pin(settled_at_the_end(w))),
    ("a_refused_reservation_keeps_its_steps_and_reserves_nothing", |w| Box::pin(refused(w))),
    ("the_first_account_that_refuses_is_told", |w| Box::pin(first_refusal(w))),
    ("the_same_reservation_again_counts_once", |w| Box::pin(repeated(w))),
    ("the_tools_of_a_step_are_paid_once_for_ever", |w| Box::pin(tools(w))),
    ("a_call_without_a_step_is_settled_by_its_word", |w| Box::pin(settled_by_word(w))),
    ("what_is_open_when_a_lease_ends_is_spent_in_full", |w| Box::pin(forfeited(w))),
    ("who_lost_the_lease_reserves_and_settles_nothing", |w| Box::pin(fenced(w))),
];

/// An account that limits tokens.
pub(super) fn account(key: &str, window: BudgetWindow, tokens: u64) -> BudgetAccount {
    let limit = AmountLimit { tokens: Some(tokens), ..AmountLimit::default() };
    BudgetAccount { key: key.to_owned(), window, limit, on_limit: OnLimit::Stop }
}

/// So many tokens of one model call.
pub(super) fn call(tokens: u64) -> Amount {
    Amount { tokens, model_calls: 1, ..Amount::default() }
}

/// A model step that used so many tokens.
pub(super) fn model(world: &World, seq: u32, used: u64) -> NewStep {
    let mut step = world.model(seq, "words");
    if let StepBody::Model(model) = &mut step.body {
        model.usage = Usage::tokens(used, 0);
    }
    step
}

pub(super) fn paying(world: &World, accounts: Vec<BudgetAccount>) -> NewTask {
    NewTask { terms: Terms { accounts, ..Terms::default() }, ..world.new_task() }
}

/// A running task that pays from these accounts.
pub(super) async fn payer(world: &World, accounts: &[BudgetAccount]) -> Lease {
    let task = world.submit(paying(world, accounts.to_vec())).await.id;
    world.lease(task).await
}

pub(super) fn reservation(world: &World, id: ReserveId, amount: Amount) -> Reserve {
    Reserve { id, amount, grants: Vec::new(), at: world.now() }
}

pub(super) async fn reserve(world: &World, lease: Lease, id: ReserveId, amount: Amount) -> Reserved {
    world.state.reserve(lease, Vec::new(), reservation(world, id, amount)).await.expect("answered")
}

pub(super) async fn granted(world: &World, lease: Lease, id: ReserveId, amount: Amount) {
    let reserved = reserve(world, lease, id, amount).await;
    assert!(matches!(reserved, Reserved::Granted { .. }), "{reserved:?}");
}

pub(super) async fn refusal(world: &World, lease: Lease, id: ReserveId, amount: Amount) -> BudgetLevel {
    match reserve(world, lease, id, amount).await {
        Reserved::Refused(level) => level,
        Reserved::Granted { warnings } => panic!("should be refused: {warnings:?}"),
    }
}

/// What is spent and reserved of each thing that a task's accounts limit.
pub(super) async fn stands(world: &World, task: TaskId) -> Vec<(u64, u64)> {
    let levels = world.state.budget(&world.namespace, task, world.now()).await.expect("read");
    levels.iter().map(|level| (level.spent, level.reserved)).collect()
}

/// Waits until what was answered before it was durable can be read.
pub(super) async fn flush(world: &World) {
    let condition = crate::PutCondition::Always;
    let value = serde_json::Value::Null;
    world.state.put_value(&world.namespace, "test", "flush", value, None, condition, world.now()).await.expect("put");
}

pub(super) const MODEL: ReserveId = ReserveId::Model { seq: 1 };
pub(super) const TOOLS: ReserveId = ReserveId::Tools { seq: 1 };

async fn unlimited(world: World) {
    let lease = world.running().await;
    let granted = Reserved::Granted { warnings: Vec::new() };
    let steps = vec![world.model(1, "words")];
    let reserved = world.state.reserve(lease, steps, reservation(&world, TOOLS, call(u64::MAX))).await;
    assert_eq!(reserved.expect("answered"), granted);
    assert_eq!(reserve(&world, lease, ReserveId::Model { seq: 2 }, call(u64::MAX)).await, granted);
    assert_eq!(world.kinds(lease.task).await, ["input", "model"]);
    world.state.settle(lease, MODEL, call(1)).await.expect("ignored");
    assert!(stands(&world, lease.task).await.is_empty());
    assert!(stands(&world, TaskId(uuid::Uuid::nil())).await.is_empty());
    assert!(world.state.accounts(&world.namespace, world.now()).await.expect("read").is_empty());
}

async fn settled_by_step(world: World) {
    let mut all = account("namespace", BudgetWindow::Hour, 100);
    all.limit = AmountLimit { usd: Some(Usd(1_000)), tokens: Some(100), model_calls: Some(9), tool_calls: Some(9) };
    let lease = payer(&world, &[all]).await;
    assert_eq!(stands(&world, lease.task).await, [(0, 0); 4]);
    let amount = Amount { usd: Usd(500), tokens: 60, model_calls: 1, tool_calls: 0 };
    granted(&world, lease, MODEL, amount).await;
    assert_eq!(stands(&world, lease.task).await, [(0, 500), (0, 60), (0, 1), (0, 0)]);
    let mut step = model(&world, 1, 40);
    if let StepBody::Model(model) = &mut step.body {
        model.usage.cost = Usd(300);
        // What these used was settled on its own.
        let failed = domain::ModelTry { model: "other".to_owned(), failure: failure(), usage: Usage::tokens(7, 0) };
        model.tries.push(failed);
    }
    world.state.append(lease, vec![step.clone()]).await.expect("appended");
    let wanted = [(300, 0), (40, 0), (1, 0), (0, 0)];
    assert_eq!(stands(&world, lease.task).await, wanted);
    world.state.append(lease, vec![step]).await.expect("accepted");
    assert_eq!(stands(&world, lease.task).await, wanted, "the same step again settles nothing");
    world.succeed(lease, 2, "done").await;
    assert_eq!(stands(&world, lease.task).await, wanted, "a step that nothing was reserved for costs nothing");
}

async fn settled_at_the_end(world: World) {
    let own = [account("namespace", BudgetWindow::Day, 1_000)];
    let lease = payer(&world, &own).await;
    granted(&world, lease, MODEL, call(100)).await;
    world.state.finish(lease, world.finish(vec![model(&world, 1, 10)], Outcome::Succeeded)).await.expect("finished");
    assert_eq!(stands(&world, lease.task).await, [(10, 0)]);
    let lease = payer(&world, &own).await;
    granted(&world, lease, MODEL, call(100)).await;
    let mut park = world.park(2, vec![wait_timer("timer", world.after(9))], Vec::new());
    park.steps.push(model(&world, 1, 20));
    world.state.park(lease, park).await.expect("parked");
    assert_eq!(stands(&world, lease.task).await, [(30, 0)]);
    let lease = payer(&world, &own).await;
    granted(&world, lease, MODEL, call(100)).await;
    let tools = reservation(&world, TOOLS, Amount { tool_calls: 2, ..Amount::default() });
    world.state.reserve(lease, vec![model(&world, 1, 5)], tools).await.expect("answered");
    assert_eq!(stands(&world, lease.task).await, [(35, 0)], "the steps of a reservation settle, too");
}

async fn refused(world: World) {
    let wide = account("namespace", BudgetWindow::Day, 1_000);
    let narrow = account("agent/writer", BudgetWindow::Hour, 50);
    let lease = payer(&world, &[wide, narrow.clone()]).await;
    let steps = vec![model(&world, 1, 5)];
    let asked = reservation(&world, ReserveId::Model { seq: 2 }, call(51));
    let reserved = world.state.reserve(lease, steps, asked).await.expect("answered");
    let level = BudgetLevel { account: narrow, what: Dimension::Tokens, limit: 50, spent: 0, reserved: 0, asked: 51 };
    assert_eq!(reserved, Reserved::Refused(level));
    assert_eq!(world.kinds(lease.task).await, ["input", "model"]);
    assert_eq!(stands(&world, lease.task).await, [(0, 0), (0, 0)]);
    assert!(world.state.accounts(&world.namespace, world.now()).await.expect("read").is_empty());
    granted(&world, lease, ReserveId::Model { seq: 2 }, call(50)).await;
    assert_eq!(stands(&world, lease.task).await, [(0, 50), (0, 50)]);
}

async fn first_refusal(world: World) {
    let mut one = account("task/1", BudgetWindow::Task, 50);
    one.limit.model_calls = Some(1);
    let two = account("namespace", BudgetWindow::Day, 10);
    let lease = payer(&world, &[one.clone(), two.clone()]).await;
    assert_eq!(refusal(&world, lease, MODEL, call(11)).await.account, two);
    assert_eq!(refusal(&world, lease, MODEL, call(51)).await.account, one);
    granted(&world, lease, MODEL, call(4)).await;
    world.state.append(lease, vec![model(&world, 1, 3)]).await.expect("appended");
    let level = refusal(&world, lease, ReserveId::Model { seq: 2 }, call(7)).await;
    let wanted = BudgetLevel { account: one, what: Dimension::ModelCalls, limit: 1, spent: 1, reserved: 0, asked: 1 };
    assert_eq!(level, wanted, "a limit of zero more calls comes before the other account's tokens");
    let tools = Amount { tool_calls: 3, ..Amount::default() };
    granted(&world, lease, ReserveId::Tools { seq: 2 }, tools).await;
}

async fn repeated(world: World) {
    let lease = payer(&world, &[account("namespace", BudgetWindow::Day, 100)]).await;
    for _ in 0..3 {
        granted(&world, lease, MODEL, call(60)).await;
        assert_eq!(stands(&world, lease.task).await, [(0, 60)]);
    }
    world.state.append(lease, vec![model(&world, 1, 60)]).await.expect("appended");
    assert_eq!(stands(&world, lease.task).await, [(60, 0)]);
    for _ in 0..3 {
        granted(&world, lease, TOOLS, call(30)).await;
        assert_eq!(stands(&world, lease.task).await, [(90, 0)]);
    }
}

async fn tools(world: World) {
    let mut limited = account("namespace", BudgetWindow::Day, 100);
    limited.limit = AmountLimit { tool_calls: Some(4), ..AmountLimit::default() };
    let lease = payer(&world, &[limited]).await;
    let calls = Amount { tool_calls: 3, ..Amount::default() };
    granted(&world, lease, TOOLS, calls).await;
    assert_eq!(stands(&world, lease.task).await, [(3, 0)]);
    world.state.settle(lease, TOOLS, Amount::default()).await.expect("ignored");
    world.state.release(lease).await.expect("released");
    let next = world.lease(lease.task).await;
    granted(&world, next, TOOLS, calls).await;
    assert_eq!(stands(&world, lease.task).await, [(3, 0)], "another lease does not pay again");
    refusal(&world, next, ReserveId::Tools { seq: 2 }, calls).await;
    world.fail(next).await;
    world.state.retry(&world.namespace, lease.task, true).await.expect("retried");
    let next = world.lease(lease.task).await;
    granted(&world, next, TOOLS, calls).await;
    granted(&world, next, ReserveId::Tools { seq: 0 }, Amount { tool_calls: 1, ..Amount::default() }).await;
    assert_eq!(stands(&world, lease.task).await, [(4, 0)]);
}

async fn settled_by_word(world: World) {
    let lease = payer(&world, &[account("namespace", BudgetWindow::Day, 100)]).await;
    granted(&world, lease, MODEL, call(80)).await;
    world.state.settle(lease, ReserveId::Model { seq: 7 }, call(9)).await.expect("ignored");
    world.state.settle(lease, MODEL, call(20)).await.expect("settled");
    world.state.settle(lease, MODEL, call(20)).await.expect("ignored");
    flush(&world).await;
    assert_eq!(stands(&world, lease.task).await, [(20, 0)]);
    granted(&world, lease, MODEL, call(80)).await;
    assert_eq!(stands(&world, lease.task).await, [(20, 80)], "the next try reserves under the same id");
    world.state.append(lease, vec![model(&world, 1, 30)]).await.expect("appended");
    assert_eq!(stands(&world, lease.task).await, [(50, 0)]);
}

async fn forfeited(world: World) {
    let own = [account("namespace", BudgetWindow::Day, 10_000)];
    let mut spent = 0;
    for way in 0..9 {
        let lease = payer(&world, &own).await;
        granted(&world, lease, MODEL, call(100)).await;
        granted(&world, lease, ReserveId::Model { seq: 5 }, call(11)).await;
        spent += 111;
        let state = &world.state;
        match way {
            0 => drop(state.release(lease).await.expect("released")),
            1 => {
                let waits = vec![wait_timer("timer", world.after(9))];
                state.park(lease, world.park(1, waits, Vec::new())).await.expect("parked");
            }
            2 => {
                let failed = AttemptFailed { seq: 1, at: world.now(), failure: failure(), retry_at: world.after(3) };
                state.fail_attempt(lease, failed).await.expect("failed");
            }
            3 | 4 => {
                let held = state.leases().await.expect("leases");
                state.reap(held, if way == 3 { 5 } else { 1 }, world.now()).await.expect("reaped");
            }
            5 => drop(world.fail(lease).await),
            6 => {
                // One of two is settled by its step, the other is open at the end.
                let finish = world.finish(vec![model(&world, 1, 40)], Outcome::Succeeded);
                state.finish(lease, finish).await.expect("finished");
                spent -= 60;
            }
            7 => {
                state.cancel(&world.namespace, lease.task).await.expect("asked");
                state.finish(lease, world.finish(Vec::new(), Outcome::Cancelled)).await.expect("finished");
            }
            _ => {
                state.cancel(&world.namespace, lease.task).await.expect("asked");
                state.release(lease).await.expect("released");
            }
        }
        assert_eq!(stands(&world, lease.task).await, [(spent, 0)], "way {way}");
    }
}

async fn fenced(world: World) {
    let lease = payer(&world, &[account("namespace", BudgetWindow::Day, 100)]).await;
    granted(&world, lease, MODEL, call(10)).await;
    world.state.release(lease).await.expect("released");
    let asked = || reservation(&world, MODEL, call(20));
    assert_lost(world.state.reserve(lease, Vec::new(), asked()).await, lease);
    let next = world.lease(lease.task).await;
    granted(&world, next, MODEL, call(30)).await;
    assert_lost(world.state.reserve(lease, vec![model(&world, 1, 9)], asked()).await, lease);
    world.state.settle(lease, MODEL, call(1)).await.expect("ignored");
    flush(&world).await;
    assert_eq!(stands(&world, lease.task).await, [(10, 30)]);
    assert_eq!(world.kinds(lease.task).await, ["input"]);
}
