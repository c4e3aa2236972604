//! Budget accounts: reserved before calls, settled after them, never exceeded.

use std::time::Duration;

use domain::{
    Amount, AmountLimit, BudgetAccount, BudgetLevel, BudgetWindow, Dimension, Lease, Namespace, NewTask, OnLimit,
    StepBody, TaskId, Terms, Usage, Usd,
};
use futures::future::join_all;

use super::Run;
use super::world::{World, assert_lost, failure, wait_child, wait_timer};
use crate::{AttemptFailed, NewStep, Outcome, Reserve, ReserveId, Reserved, Retention};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_tasks_terms_and_all_that_it_used_are_kept", |w| Box::pin(kept(w))),
    ("a_task_without_accounts_is_always_granted", |w| Box::pin(unlimited(w))),
    ("a_reservation_counts_until_its_step_settles_it", |w| Box::pin(settled_by_step(w))),
    ("a_step_that_comes_with_a_park_or_a_finish_settles_too", |w| Box::pin(settled_at_the_end(w))),
    ("a_refused_reservation_keeps_its_steps_and_reserves_nothing", |w| Box::pin(refused(w))),
    ("the_first_account_that_refuses_is_told", |w| Box::pin(first_refusal(w))),
    ("the_same_reservation_again_counts_once", |w| Box::pin(repeated(w))),
    ("the_tools_of_a_step_are_paid_once_for_ever", |w| Box::pin(tools(w))),
    ("a_call_without_a_step_is_settled_by_its_word", |w| Box::pin(settled_by_word(w))),
    ("what_is_open_when_a_lease_ends_is_spent_in_full", |w| Box::pin(forfeited(w))),
    ("a_grant_raises_a_limit_for_one_task", |w| Box::pin(grants(w))),
    ("an_hour_that_is_over_counts_no_more", |w| Box::pin(windows(w))),
    ("four_fifths_of_a_limit_are_told_once", |w| Box::pin(warnings(w))),
    ("sub_tasks_pay_from_their_parents_account", |w| Box::pin(families(w))),
    ("who_lost_the_lease_reserves_and_settles_nothing", |w| Box::pin(fenced(w))),
    ("accounts_are_listed_by_key_without_those_of_tasks", |w| Box::pin(listed(w))),
    ("accounts_go_when_nobody_asks_about_them_any_more", |w| Box::pin(purged(w))),
    ("sums_that_are_too_large_stay_at_the_largest", |w| Box::pin(saturating(w))),
    ("many_tasks_at_once_never_exceed_their_limit", |w| Box::pin(crowd(w))),
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

fn paying(world: &World, accounts: Vec<BudgetAccount>) -> NewTask {
    NewTask { terms: Terms { accounts, ..Terms::default() }, ..world.new_task() }
}

/// A running task that pays from these accounts.
async fn payer(world: &World, accounts: &[BudgetAccount]) -> Lease {
    let task = world.submit(paying(world, accounts.to_vec())).await.id;
    world.lease(task).await
}

fn reservation(world: &World, id: ReserveId, amount: Amount) -> Reserve {
    Reserve { id, amount, grants: Vec::new(), at: world.now() }
}

async fn reserve(world: &World, lease: Lease, id: ReserveId, amount: Amount) -> Reserved {
    world.state.reserve(lease, Vec::new(), reservation(world, id, amount)).await.expect("answered")
}

async fn granted(world: &World, lease: Lease, id: ReserveId, amount: Amount) {
    let reserved = reserve(world, lease, id, amount).await;
    assert!(matches!(reserved, Reserved::Granted { .. }), "{reserved:?}");
}

async fn refusal(world: &World, lease: Lease, id: ReserveId, amount: Amount) -> BudgetLevel {
    match reserve(world, lease, id, amount).await {
        Reserved::Refused(level) => level,
        Reserved::Granted { warnings } => panic!("should be refused: {warnings:?}"),
    }
}

/// What is spent and reserved of each thing that a task's accounts limit.
async fn stands(world: &World, task: TaskId) -> Vec<(u64, u64)> {
    let levels = world.state.budget(&world.namespace, task, world.now()).await.expect("read");
    levels.iter().map(|level| (level.spent, level.reserved)).collect()
}

/// Waits until what was answered before it was durable can be read.
pub(super) async fn flush(world: &World) {
    let condition = crate::PutCondition::Always;
    let value = serde_json::Value::Null;
    world.state.put_value(&world.namespace, "test", "flush", value, None, condition, world.now()).await.expect("put");
}

const MODEL: ReserveId = ReserveId::Model { seq: 1 };
const TOOLS: ReserveId = ReserveId::Tools { seq: 1 };

async fn kept(world: World) {
    let mut task = paying(&world, vec![account("namespace", BudgetWindow::Day, 10)]);
    task.terms.limit_key = Some("customer".to_owned());
    task.terms.accounts[0].limit.usd = Some(Usd(1_234_567_891));
    let terms = task.terms.clone();
    let submitted = world.submit(task).await;
    assert_eq!(submitted.terms, terms);
    assert_eq!(world.task(submitted.id).await.terms, terms);
    let claimed = world.claimed(submitted.id).await;
    assert_eq!(claimed.task.terms, terms);
    let all = Usage {
        input_tokens: 9,
        output_tokens: 8,
        cached_input_tokens: 7,
        cache_write_tokens: 6,
        reasoning_tokens: 5,
        cost: Usd(4_000_000_003),
        estimated: true,
    };
    let mut step = world.model(1, "words");
    if let StepBody::Model(model) = &mut step.body {
        model.usage = all;
        let failed = domain::ModelTry { model: "other".to_owned(), failure: failure(), usage: Usage::tokens(100, 0) };
        model.tries.push(failed);
    }
    world.state.append(claimed.lease(), vec![step]).await.expect("appended");
    world.state.cancel(&world.namespace, submitted.id).await.expect("asked");
    world.state.release(claimed.lease()).await.expect("released");
    let task = world.task(submitted.id).await;
    assert_eq!(task.usage, Usage { input_tokens: 109, ..all }, "the journal says it, tries included");
    assert_eq!(task.terms, terms);
}

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

async fn grants(world: World) {
    let own = [account("namespace", BudgetWindow::Day, 100), account("agent/writer", BudgetWindow::Day, 1_000)];
    let (lease, other) = (payer(&world, &own).await, payer(&world, &own).await);
    granted(&world, lease, MODEL, call(100)).await;
    let next = ReserveId::Model { seq: 2 };
    let tokens = |tokens| Amount { tokens, ..Amount::default() };
    let with = |grants: &[(&str, u64)], asked| {
        let grants = grants.iter().map(|(key, granted)| ((*key).to_owned(), tokens(*granted))).collect();
        let reserve = Reserve { grants, ..reservation(&world, next, call(asked)) };
        world.state.reserve(lease, Vec::new(), reserve)
    };
    let refused = with(&[("namespace", 20), ("agent/writer", 500), ("namespace", 9)], 30).await.expect("answered");
    let Reserved::Refused(level) = refused else { panic!("should be refused: {refused:?}") };
    assert_eq!((level.limit, level.reserved, level.asked), (129, 100, 30));
    let reserved = with(&[("namespace", 20), ("namespace", 10)], 30).await.expect("answered");
    assert!(matches!(reserved, Reserved::Granted { .. }), "{reserved:?}");
    assert_eq!(stands(&world, lease.task).await, [(0, 130), (0, 130)]);
    assert_eq!(refusal(&world, other, MODEL, call(1)).await.limit, 100, "others have the limit as it was");
}

async fn windows(world: World) {
    let [hour, day] = [BudgetWindow::Hour, BudgetWindow::Day].map(|window| account("namespace", window, 100));
    let lease = payer(&world, &[hour, day]).await;
    granted(&world, lease, MODEL, call(90)).await;
    let began = BudgetWindow::Hour.begin(world.now());
    let to_the_hour = began + Duration::from_hours(1) - Duration::from_micros(1) - world.now();
    world.clock.advance(to_the_hour.to_std().expect("in the future"));
    let other = ReserveId::Model { seq: 2 };
    refusal(&world, lease, other, call(20)).await;
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(stands(&world, lease.task).await, [(0, 0), (0, 90)]);
    assert_eq!(refusal(&world, lease, other, call(20)).await.account.window, BudgetWindow::Day);
    granted(&world, lease, other, call(10)).await;
    world.state.append(lease, vec![model(&world, 1, 70)]).await.expect("appended");
    assert_eq!(stands(&world, lease.task).await, [(0, 10), (70, 10)], "it is settled where it was reserved");
    let past = world.state.budget(&world.namespace, lease.task, began).await.expect("read");
    assert_eq!((past[0].spent, past[0].reserved), (70, 0));
    world.state.append(lease, vec![model(&world, 2, 10)]).await.expect("appended");
    world.clock.advance(Duration::from_hours(24));
    granted(&world, lease, ReserveId::Model { seq: 3 }, call(100)).await;
    assert_eq!(stands(&world, lease.task).await, [(0, 100), (0, 100)]);
}

async fn warnings(world: World) {
    let mut own = account("namespace", BudgetWindow::Hour, 100);
    own.limit.model_calls = Some(2);
    let lease = payer(&world, &[own]).await;
    let warned = async |seq, tokens| match reserve(&world, lease, ReserveId::Model { seq }, call(tokens)).await {
        Reserved::Granted { warnings } => {
            warnings.iter().map(|level| (level.what, level.limit, level.reserved, level.asked)).collect::<Vec<_>>()
        }
        Reserved::Refused(level) => panic!("should be granted: {level:?}"),
    };
    assert_eq!(warned(1, 79).await, []);
    assert_eq!(warned(2, 1).await, [(Dimension::Tokens, 100, 79, 1), (Dimension::ModelCalls, 2, 1, 1)]);
    world.state.append(lease, vec![model(&world, 1, 0), model(&world, 2, 0)]).await.expect("appended");
    // It sank below and rises again; and a task with a grant goes on beyond the limit.
    let raised = Reserve {
        grants: vec![("namespace".to_owned(), call(1_000))],
        ..reservation(&world, ReserveId::Model { seq: 3 }, call(500))
    };
    let again = world.state.reserve(lease, Vec::new(), raised).await.expect("answered");
    assert_eq!(again, Reserved::Granted { warnings: Vec::new() });
    world.clock.advance(Duration::from_hours(1));
    assert_eq!(warned(4, 80).await, [(Dimension::Tokens, 100, 0, 80)], "another window warns anew");
}

async fn families(world: World) {
    let mut task = world.new_task();
    let own = account(&format!("task/{}", task.id), BudgetWindow::Task, 100);
    task.terms.accounts.push(own.clone());
    let parent = world.submit(task).await.id;
    let lease = world.lease(parent).await;
    granted(&world, lease, MODEL, call(60)).await;
    let mut child = world.new_child(parent, "call-1");
    child.terms.accounts.push(own);
    let child_id = child.id;
    let mut park = world.park(2, vec![wait_child("call-1", child_id)], vec![child]);
    park.steps.push(model(&world, 1, 50));
    world.state.park(lease, park).await.expect("parked");
    let lease = world.lease(child_id).await;
    assert_eq!(refusal(&world, lease, MODEL, call(51)).await.spent, 50);
    granted(&world, lease, MODEL, call(50)).await;
    assert_eq!(stands(&world, parent).await, [(50, 50)]);
    world.clock.advance(Duration::from_hours(48));
    assert_eq!(stands(&world, child_id).await, [(50, 50)], "a task's account has no end");
    world.state.finish(lease, world.finish(vec![model(&world, 1, 7)], Outcome::Succeeded)).await.expect("finished");
    assert_eq!(stands(&world, parent).await, [(57, 0)]);
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

async fn listed(world: World) {
    let day = |key| account(key, BudgetWindow::Day, 100);
    let hour = account("namespace", BudgetWindow::Hour, 100);
    let own = [day("namespace"), hour, day("agent/b"), day("agent/a"), account("task/1", BudgetWindow::Task, 100)];
    let lease = payer(&world, &own).await;
    let all = async |namespace: &Namespace| world.state.accounts(namespace, world.now()).await.expect("read");
    assert!(all(&world.namespace).await.is_empty(), "none was used");
    granted(&world, lease, MODEL, call(10)).await;
    granted(&world, lease, TOOLS, call(5)).await;
    let views = all(&world.namespace).await;
    let keys: Vec<_> = views.iter().map(|view| (view.key.as_str(), view.window)).collect();
    let (an_hour, a_day) = (BudgetWindow::Hour, BudgetWindow::Day);
    assert_eq!(keys, [("agent/a", a_day), ("agent/b", a_day), ("namespace", an_hour), ("namespace", a_day)]);
    assert!(views.iter().all(|view| (view.spent, view.reserved) == (call(5), call(10))));
    assert!(views.iter().all(|view| view.since == view.window.begin(world.now())));
    let foreign = Namespace::new("foreign").expect("a valid name");
    assert!(all(&foreign).await.is_empty());
    assert!(world.state.budget(&foreign, lease.task, world.now()).await.expect("read").is_empty());
    let task = world.submit(NewTask { namespace: foreign.clone(), ..paying(&world, own.to_vec()) }).await.id;
    granted(&world, world.lease(task).await, MODEL, call(100)).await;
    assert_eq!(all(&foreign).await.len(), 4, "another namespace has accounts of its own");
    world.clock.advance(Duration::from_hours(24));
    assert!(all(&world.namespace).await.is_empty());
}

async fn purged(world: World) {
    const DAY: Duration = Duration::from_hours(24);
    let mut task = world.new_task();
    let own = account(&format!("task/{}", task.id), BudgetWindow::Task, 100);
    task.terms.accounts = vec![own.clone(), account("namespace", BudgetWindow::Hour, 100)];
    let lease = world.lease(world.submit(task).await.id).await;
    granted(&world, lease, MODEL, call(50)).await;
    granted(&world, lease, TOOLS, call(50)).await;
    world.state.finish(lease, world.finish(vec![model(&world, 1, 50)], Outcome::Succeeded)).await.expect("finished");
    let used = world.now();
    // Another task that looks at the same accounts, and is never purged.
    let witness = payer(&world, &[own, account("namespace", BudgetWindow::Hour, 100)]).await.task;
    let seen = async || {
        let levels = world.state.budget(&world.namespace, witness, used).await.expect("read");
        levels.iter().map(|level| level.spent).collect::<Vec<_>>()
    };
    let purge = async |kept| {
        let retention = Retention { ended_tasks: kept, idempotency_keys: kept };
        world.state.purge(retention, world.now(), 100).await.expect("purged");
    };
    purge(DAY).await;
    assert_eq!(seen().await, [100, 100]);
    world.clock.advance(7 * DAY);
    purge(DAY).await;
    assert_eq!(seen().await, [0, 100], "a task's account goes with the task, that of an hour stays for eight days");
    world.clock.advance(DAY);
    purge(DAY).await;
    assert_eq!(seen().await, [0, 0]);
}

async fn saturating(world: World) {
    let mut own = account("namespace", BudgetWindow::Day, 0);
    own.limit = AmountLimit { tool_calls: Some(1), ..AmountLimit::default() };
    let lease = payer(&world, &[own]).await;
    let most = Amount { usd: Usd(u64::MAX), tokens: u64::MAX, model_calls: u64::MAX, tool_calls: 0 };
    for seq in 1..9 {
        granted(&world, lease, ReserveId::Model { seq }, most).await;
        granted(&world, lease, ReserveId::Tools { seq }, most).await;
    }
    world.state.append(lease, vec![model(&world, 1, u64::MAX)]).await.expect("appended");
    world.state.settle(lease, ReserveId::Model { seq: 2 }, most).await.expect("settled");
    world.succeed(lease, 2, "done").await;
    let views = world.state.accounts(&world.namespace, world.now()).await.expect("read");
    let spent = views[0].spent;
    let huge = u64::MAX / 16;
    assert!(spent.usd.0 > huge && spent.tokens > huge && spent.model_calls > huge, "{spent:?}");
}

async fn crowd(world: World) {
    let own = [account("namespace", BudgetWindow::Day, 1_000), account("agent/writer", BudgetWindow::Hour, 640)];
    let leases = join_all((0..64).map(|_| payer(&world, &own))).await;
    let results = join_all(leases.iter().map(|lease| reserve(&world, *lease, MODEL, call(20)))).await;
    let won = results.iter().filter(|result| matches!(result, Reserved::Granted { .. })).count();
    assert_eq!(won, 32);
    assert_eq!(stands(&world, leases[0].task).await, [(0, 640), (0, 640)]);
    let told: usize = results
        .iter()
        .map(|result| match result {
            Reserved::Granted { warnings } => warnings.len(),
            Reserved::Refused(_) => 0,
        })
        .sum();
    assert_eq!(told, 1, "four fifths of the smaller one, told to one of them");
    let settle = |lease: Lease| world.state.append(lease, vec![model(&world, 1, 1)]);
    for appended in join_all(leases.iter().map(|lease| settle(*lease))).await {
        appended.expect("appended");
    }
    assert_eq!(stands(&world, leases[0].task).await, [(32, 0), (32, 0)]);
}
