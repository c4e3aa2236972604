//! Budgets, and people who raise them or do not.

use domain::{
    Amount, AmountLimit, BudgetAccount, BudgetDecision, BudgetWindow, Dimension, ExecutionMode, Namespace, NewTask,
    OnLimit, Resolution, StepBody, TaskId, TaskInput, Terms, Usd, Wait, WaitFor,
};
use reqwest::StatusCode;
use serde_json::json;
use state::{Reserve, ReserveId, Reserved};
use uuid::Uuid;
use wire::{AmountView, DecideBudget};

use crate::platform::{Platform, answer, writer};
use crate::worker::Run;

fn account(key: &str, window: BudgetWindow, limit: AmountLimit) -> BudgetAccount {
    BudgetAccount { key: key.to_owned(), window, limit, on_limit: OnLimit::Ask }
}

/// A task with a budget of its own and one that its agent shares.
async fn paid(platform: &Platform) -> TaskId {
    let id = TaskId(Uuid::from_u128(0x0195_d3a0_0000_7000_8000_0000_0000_0042));
    let dollar = AmountLimit { usd: Some(Usd(Usd::DOLLAR)), tokens: Some(10_000), ..AmountLimit::default() };
    let calls = AmountLimit { model_calls: Some(100), ..AmountLimit::default() };
    let accounts = vec![
        account(&format!("task/{id}"), BudgetWindow::Task, dollar),
        account("agent/writer", BudgetWindow::Day, calls),
    ];
    let task = NewTask {
        id,
        namespace: Namespace::default(),
        idempotency_key: None,
        digest: [0; 32],
        agent: writer(),
        agent_version: 1,
        mode: ExecutionMode::Autonomous,
        input: TaskInput::new("hello"),
        priority: 5,
        created_at: platform.clock.now(),
        run_at: None,
        expires_at: None,
        deadline: None,
        thread: None,
        user: None,
        parent: None,
        depth: 0,
        metadata: std::collections::BTreeMap::new(),
        trace: None,
        terms: Terms { accounts, ..Terms::default() },
    };
    platform.state.submit(task).await.unwrap();
    id
}

fn asks(call_id: &str) -> Wait {
    let on = WaitFor::Budget {
        account: "agent/writer".to_owned(),
        what: Dimension::Usd,
        limit: Usd::DOLLAR,
        used: Usd::DOLLAR,
        asked: Usd::DOLLAR / 4,
    };
    Wait { call_id: call_id.to_owned(), on, expires_at: None, default: None }
}

fn grant(usd: f64, by: &str) -> DecideBudget {
    let grant = Some(AmountView { usd: Some(usd), ..AmountView::default() });
    DecideBudget { call_id: "budget-1".to_owned(), grant, deny: false, by: by.to_owned() }
}

async fn waiting(platform: &Platform) -> TaskId {
    let id = platform.submit().await;
    Run::of(platform, id).await.park(vec![asks("budget-1")]).await;
    id
}

async fn journaled(platform: &Platform, id: TaskId) -> Vec<(Option<String>, BudgetDecision)> {
    let steps = platform.client.whole_journal(id).await.unwrap();
    let resolved = steps.into_iter().filter_map(|step| match step.0.body {
        StepBody::Resolved { by: Resolution::Signal { value, from }, .. } => {
            Some((from, serde_json::from_value(value).unwrap()))
        }
        _ => None,
    });
    resolved.collect()
}

#[tokio::test]
async fn a_tasks_accounts_are_shown_with_what_is_spent_and_reserved() {
    let platform = Platform::start().await;
    let id = paid(&platform).await;
    let run = Run::of(&platform, id).await;
    let amount = Amount { usd: Usd(Usd::DOLLAR / 4), tokens: 1_000, model_calls: 1, tool_calls: 0 };
    let reserve =
        Reserve { id: ReserveId::Model { seq: run.next }, amount, grants: Vec::new(), at: platform.clock.now() };
    let reserved = platform.state.reserve(run.lease, Vec::new(), reserve).await.unwrap();
    assert!(matches!(reserved, Reserved::Granted { .. }));

    let accounts = platform.client.budget(id).await.unwrap();
    let [own, shared] = &accounts[..] else { panic!("two accounts: {accounts:?}") };
    assert_eq!((own.account.as_str(), own.window), (format!("task/{id}").as_str(), BudgetWindow::Task));
    assert_eq!((own.limit.usd, own.limit.tokens, own.limit.model_calls), (Some(1.0), Some(10_000), None));
    assert_eq!((own.reserved.usd, own.reserved.tokens, own.spent.tokens), (Some(0.25), Some(1_000), Some(0)));
    assert_eq!((shared.account.as_str(), shared.limit.model_calls), ("agent/writer", Some(100)));

    let used = platform.client.budgets().await.unwrap();
    assert_eq!(used.len(), 1, "a task's own account is not among them: {used:?}");
    assert_eq!((used[0].account.as_str(), used[0].reserved.model_calls), ("agent/writer", Some(1)));
}

#[tokio::test]
async fn a_task_without_limits_has_no_accounts() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    assert!(platform.client.budget(id).await.unwrap().is_empty());
    assert!(platform.client.budgets().await.unwrap().is_empty());
    let stranger = TaskId(Uuid::from_u128(99));
    let (status, problem) = answer(platform.get(&format!("/tasks/{stranger}/budget"))).await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("/errors/unknown-task")));
}

#[tokio::test]
async fn a_grant_is_journaled_with_who_gave_it_and_the_first_one_counts() {
    let platform = Platform::start().await;
    let id = waiting(&platform).await;
    platform.client.decide_budget(id, &grant(1.5, "kim")).await.unwrap();
    platform.client.decide_budget(id, &grant(1.5, "kim")).await.unwrap();
    for later in [grant(2.0, "kim"), grant(1.5, "alex")] {
        let (status, problem) = answer(platform.post(&format!("/tasks/{id}/budget")).json(&later)).await;
        assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/errors/already-decided")));
    }
    let journaled = journaled(&platform, id).await;
    let [(from, decision)] = &journaled[..] else { panic!("one decision") };
    assert_eq!((from.as_deref(), decision.grant.usd), (Some("kim"), Usd::from_dollars(1.5)));
}

#[tokio::test]
async fn a_denial_grants_nothing() {
    let platform = Platform::start().await;
    let id = waiting(&platform).await;
    let deny = DecideBudget { grant: None, deny: true, ..grant(1.0, "kim") };
    platform.client.decide_budget(id, &deny).await.unwrap();
    assert_eq!(journaled(&platform, id).await[0].1.grant, Amount::default());
}

#[tokio::test]
async fn a_decision_that_nothing_waits_for_is_refused() {
    let platform = Platform::start().await;
    let id = waiting(&platform).await;
    let url = format!("/tasks/{id}/budget");
    let unknown = DecideBudget { call_id: "other".to_owned(), ..grant(1.0, "kim") };
    let (status, problem) = answer(platform.post(&url).json(&unknown)).await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("/errors/unknown-approval")));
    for wrong in [
        json!({ "call_id": "budget-1", "by": "kim" }),
        json!({ "call_id": "budget-1", "by": "kim", "grant": {} }),
        json!({ "call_id": "budget-1", "by": "kim", "grant": { "usd": -1 } }),
        json!({ "call_id": "budget-1", "by": "kim", "grant": { "euro": 1 } }),
        json!({ "call_id": "budget-1", "by": "kim", "grant": { "usd": 1 }, "deny": true }),
        json!({ "call_id": "budget-1", "grant": { "usd": 1 } }),
    ] {
        assert_eq!(answer(platform.post(&url).json(&wrong)).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert!(journaled(&platform, id).await.is_empty());
}
