//! People allow calls, or do not.

use domain::{ApprovalDecision, Resolution, StepBody, TaskId, TaskStatus, Wait, WaitFor};
use reqwest::StatusCode;
use serde_json::{Value, json};
use wire::{ApprovalStatus, DecideApproval, Decision, WaitingFor};

use crate::platform::{Platform, answer};
use crate::worker::Run;

fn asks(call_id: &str, digest: &str) -> Wait {
    let on = WaitFor::Approval {
        tool: "pay".to_owned(),
        arguments: json!({ "amount": 20, "to": "ACME" }),
        digest: digest.to_owned(),
        reason: "every call of pay needs a person's approval".to_owned(),
    };
    Wait { call_id: call_id.to_owned(), on, expires_at: None, default: None }
}

fn decision(decision: Decision, digest: &str, by: &str) -> DecideApproval {
    DecideApproval { decision, digest: digest.to_owned(), arguments: None, reason: None, by: by.to_owned() }
}

async fn waiting(platform: &Platform, waits: Vec<Wait>) -> TaskId {
    let id = platform.submit().await;
    Run::of(platform, id).await.park(waits).await;
    id
}

/// What the journal says of the decisions: by whom, and what.
async fn journaled(platform: &Platform, id: TaskId) -> Vec<(Option<String>, ApprovalDecision)> {
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
async fn an_approval_is_shown_decided_and_journaled_with_who_and_when() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call_1", "d1")]).await;
    let view = platform.task(id).await;
    assert!(
        matches!(&view.waiting_for[..], [WaitingFor::Approval { tool, digest, .. }] if tool == "pay" && digest == "d1")
    );
    let open = platform.client.approvals(id).await.unwrap();
    assert_eq!((open.len(), open[0].status, &open[0].arguments["to"]), (1, ApprovalStatus::Open, &json!("ACME")));

    let decided = platform.client.decide(id, "call_1", &decision(Decision::Approve, "d1", "kim")).await.unwrap();
    assert_eq!((decided.status, decided.by.as_deref()), (ApprovalStatus::Approved, Some("kim")));
    assert!(decided.at.is_some_and(|at| at >= decided.asked_at));
    assert_eq!(platform.client.approvals(id).await.unwrap(), [decided]);
    let [(from, journaled)] = &journaled(&platform, id).await[..] else { panic!("one decision") };
    assert_eq!((from.as_deref(), journaled.approved, journaled.digest.as_str()), (Some("kim"), true, "d1"));
    assert_eq!(platform.task(id).await.status, TaskStatus::Queued, "it goes on");
}

#[tokio::test]
async fn arguments_are_edited_with_an_approval_and_reasons_kept_with_a_denial() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("a", "d1"), asks("b", "d2")]).await;
    let edited = Some(json!({ "amount": 5, "to": "ACME" }));
    let approve = DecideApproval { arguments: edited.clone(), ..decision(Decision::Approve, "d1", "kim") };
    let deny = DecideApproval { reason: Some("too much".to_owned()), ..decision(Decision::Deny, "d2", "alex") };
    let approved = platform.client.decide(id, "a", &approve).await.unwrap();
    assert_eq!((approved.status, &approved.edited_arguments), (ApprovalStatus::Approved, &edited));
    assert_eq!(platform.task(id).await.status, TaskStatus::Waiting, "the other one is still open");
    let denied = platform.client.decide(id, "b", &deny).await.unwrap();
    assert_eq!((denied.status, denied.decision_reason.as_deref()), (ApprovalStatus::Denied, Some("too much")));
    let journaled = journaled(&platform, id).await;
    assert_eq!((journaled[0].1.arguments.clone(), journaled[1].1.reason.as_deref()), (edited, Some("too much")));
}

#[tokio::test]
async fn the_first_decision_wins_and_the_same_one_again_changes_nothing() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call_1", "d1")]).await;
    let first = decision(Decision::Deny, "d1", "kim");
    let view = platform.client.decide(id, "call_1", &first).await.unwrap();
    assert_eq!(platform.client.decide(id, "call_1", &first).await.unwrap(), view);
    let url = format!("/tasks/{id}/approvals/call_1");
    for later in [decision(Decision::Approve, "d1", "alex"), decision(Decision::Deny, "d1", "alex")] {
        let (status, problem) = answer(platform.post(&url).json(&later)).await;
        assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/errors/already-decided")));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("denied by kim at 20"), "{detail}");
    }
    assert_eq!(journaled(&platform, id).await.len(), 1);
}

#[tokio::test]
async fn of_many_that_decide_at_once_one_is_heard_and_the_others_are_told() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call_1", "d1")]).await;
    let decide = |n: usize| {
        let decide = if n.is_multiple_of(2) { Decision::Approve } else { Decision::Deny };
        let client = platform.client.clone();
        tokio::spawn(async move { client.decide(id, "call_1", &decision(decide, "d1", &format!("person {n}"))).await })
    };
    let decisions: Vec<_> = (0..16).map(decide).collect();
    let mut heard = Vec::new();
    for decision in decisions {
        match decision.await.unwrap() {
            Ok(view) => heard.push(view),
            Err(error) => assert_eq!(error.problem().map(client::Problem::slug), Some("already-decided"), "{error}"),
        }
    }
    let journaled = journaled(&platform, id).await;
    assert_eq!((heard.len(), journaled.len()), (1, 1));
    assert_eq!(heard[0].by, journaled[0].0);
}

#[tokio::test]
async fn a_decision_about_another_call_is_refused() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call_1", "d1")]).await;
    let url = format!("/tasks/{id}/approvals/");
    let stranger = TaskId(uuid::Uuid::from_u128(99));
    for (path, digest, kind) in [
        (format!("{url}call_1"), "d2", "approval-mismatch"),
        (format!("{url}call_2"), "d1", "unknown-approval"),
        (format!("/tasks/{stranger}/approvals/call_1"), "d1", "unknown-task"),
    ] {
        let (_, problem) = answer(platform.post(&path).json(&decision(Decision::Approve, digest, "kim"))).await;
        assert_eq!(problem["type"], format!("/errors/{kind}"));
    }
    assert!(journaled(&platform, id).await.is_empty());
    let (_, problem) = answer(platform.get(&format!("/tasks/{stranger}/approvals"))).await;
    assert_eq!(problem["type"], "/errors/unknown-task");
}

#[tokio::test]
async fn a_decision_that_breaks_rules_is_refused() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call_1", "d1")]).await;
    let url = format!("/tasks/{id}/approvals/call_1");
    let whole = json!({ "decision": "approve", "digest": "d1", "by": "kim" });
    for (field, value) in [
        ("decision", json!("yes")),
        ("decision", json!(true)),
        ("digest", json!("")),
        ("by", json!("")),
        ("by", json!("a\nb")),
        ("arguments", json!([1])),
        ("arguments", json!("all of it")),
        ("arguments", json!({ "a": "x".repeat(300_000) })),
        ("reason", json!("x".repeat(5_000))),
        ("approved", json!(true)),
    ] {
        let mut body = whole.clone();
        body[field] = value;
        let (status, problem) = answer(platform.post(&url).json(&body)).await;
        assert_eq!((status, &problem["type"]), (StatusCode::BAD_REQUEST, &json!("/errors/invalid-request")), "{field}");
    }
    for missing in ["decision", "digest", "by"] {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(missing);
        assert_eq!(answer(platform.post(&url).json(&body)).await.0, StatusCode::BAD_REQUEST, "{missing}");
    }
    let mut denied = whole;
    denied["decision"] = json!("deny");
    denied["arguments"] = json!({});
    assert_eq!(answer(platform.post(&url).json(&denied)).await.0, StatusCode::BAD_REQUEST);
    assert!(journaled(&platform, id).await.is_empty());
}

#[tokio::test]
async fn a_plain_signal_never_decides() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call_1", "d1")]).await;
    let yes = json!({ "approved": true, "digest": "d1" });
    for name in ["approval/call_1", "approval/", "budget/call_1"] {
        let signal = json!({ "name": name, "value": yes, "from": "kim" });
        let (status, problem) = answer(platform.post(&format!("/tasks/{id}/signal")).json(&signal)).await;
        assert_eq!((status, &problem["type"]), (StatusCode::BAD_REQUEST, &json!("/errors/reserved-signal")), "{name}");
    }
    // Other names do not reach the question.
    let signal = json!({ "name": "call_1", "value": yes });
    assert_eq!(answer(platform.post(&format!("/tasks/{id}/signal")).json(&signal)).await.0, StatusCode::ACCEPTED);
    assert_eq!(platform.client.approvals(id).await.unwrap()[0].status, ApprovalStatus::Open);
}

#[tokio::test]
async fn an_ended_task_is_not_decided_about() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call_1", "d1")]).await;
    platform.client.cancel(id).await.unwrap();
    assert_eq!(platform.client.approvals(id).await.unwrap()[0].status, ApprovalStatus::Void);
    let url = format!("/tasks/{id}/approvals/call_1");
    let (status, problem) = answer(platform.post(&url).json(&decision(Decision::Approve, "d1", "kim"))).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/errors/task-ended")));
}

#[tokio::test]
async fn a_task_that_begins_anew_asks_anew_even_under_the_same_call() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call_1", "d1")]).await;
    platform.client.decide(id, "call_1", &decision(Decision::Deny, "d1", "kim")).await.unwrap();
    Run::of(&platform, id).await.fail().await;
    platform.client.retry(id, false).await.unwrap();
    Run::of(&platform, id).await.park(vec![asks("call_1", "d1")]).await;
    let approvals = platform.client.approvals(id).await.unwrap();
    assert_eq!(
        approvals.iter().map(|asked| asked.status).collect::<Vec<_>>(),
        [ApprovalStatus::Denied, ApprovalStatus::Open]
    );
    let decided = platform.client.decide(id, "call_1", &decision(Decision::Approve, "d1", "alex")).await.unwrap();
    assert_eq!((decided.status, decided.by.as_deref()), (ApprovalStatus::Approved, Some("alex")));
}

#[tokio::test]
async fn a_question_that_nobody_answers_expires_as_a_denial() {
    let platform = Platform::start().await;
    let soon = platform.clock.now() + std::time::Duration::from_millis(50);
    let id = waiting(&platform, vec![Wait { expires_at: Some(soon), ..asks("call_1", "d1") }]).await;
    crate::platform::until("it expires", async || {
        platform.client.approvals(id).await.unwrap()[0].status == ApprovalStatus::Expired
    })
    .await;
    let url = format!("/tasks/{id}/approvals/call_1");
    let (status, problem) = answer(platform.post(&url).json(&decision(Decision::Approve, "d1", "kim"))).await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("/errors/unknown-approval")));
}

#[tokio::test]
async fn open_questions_of_all_tasks_are_listed_in_pages() {
    let platform = Platform::start().await;
    let mut expected = Vec::new();
    for n in 0..5 {
        let waits = vec![asks(&format!("a{n}"), "d"), asks(&format!("b{n}"), "d")];
        let id = waiting(&platform, waits).await;
        expected.insert(0, (id, format!("a{n}")));
        platform.client.decide(id, &format!("b{n}"), &decision(Decision::Deny, "d", "kim")).await.unwrap();
    }
    platform.submit().await;
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = platform.client.open_approvals(cursor.as_deref(), 2).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|asked| (asked.task, asked.call_id)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    let (status, problem): (_, Value) = answer(platform.get("/approvals?cursor=abc")).await;
    assert_eq!((status, &problem["type"]), (StatusCode::BAD_REQUEST, &json!("/errors/invalid-cursor")));
}

#[tokio::test]
async fn a_call_id_may_be_any_text() {
    let platform = Platform::start().await;
    let id = waiting(&platform, vec![asks("call/1 ä?#%", "d1")]).await;
    let decided = platform.client.decide(id, "call/1 ä?#%", &decision(Decision::Approve, "d1", "kim")).await.unwrap();
    assert_eq!(decided.status, ApprovalStatus::Approved);
}
