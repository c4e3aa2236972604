//! What budget accounts are: who shares them, when they begin anew, what they warn of, when they go.

use std::time::Duration;

use domain::{Amount, AmountLimit, BudgetWindow, Dimension, Lease, Namespace, NewTask, StepBody, Usage, Usd};
use futures::future::join_all;

use super::Run;
use super::budgets::{
    MODEL, TOOLS, account, call, granted, model, payer, paying, refusal, reservation, reserve, stands,
};
use super::world::{World, failure, wait_child};
use crate::{Outcome, Reserve, ReserveId, Reserved, Retention};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_tasks_terms_and_all_that_it_used_are_kept", |w| Box::pin(kept(w))),
    ("a_grant_raises_a_limit_for_one_task", |w| Box::pin(grants(w))),
    ("an_hour_that_is_over_counts_no_more", |w| Box::pin(windows(w))),
    ("four_fifths_of_a_limit_are_told_once", |w| Box::pin(warnings(w))),
    ("sub_tasks_pay_from_their_parents_account", |w| Box::pin(families(w))),
    ("accounts_are_listed_by_key_without_those_of_tasks", |w| Box::pin(listed(w))),
    ("accounts_go_when_nobody_asks_about_them_any_more", |w| Box::pin(purged(w))),
    ("sums_that_are_too_large_stay_at_the_largest", |w| Box::pin(saturating(w))),
    ("many_tasks_at_once_never_exceed_their_limit", |w| Box::pin(crowd(w))),
];

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
