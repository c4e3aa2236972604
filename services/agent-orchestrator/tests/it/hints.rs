//! Live hints: how far a tool is, and budgets that are nearly used up.

use bus::Events as _;
use client::TaskEvent;
use domain::{
    AmountLimit, BudgetAccount, BudgetLevel, BudgetWindow, Dimension, Event, EventBody, Namespace, OnLimit, Usd,
};
use futures::StreamExt;

use crate::platform::{PATIENCE, Platform};
use crate::raw_events::RawEvents;
use crate::worker::Run;

fn publish(platform: &Platform, body: EventBody) {
    platform.bus.publish(Event { namespace: Namespace::default(), body });
}

#[tokio::test]
async fn progress_and_budget_warnings_are_told_live_and_without_ids() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let raw = RawEvents::open(&platform, &format!("/tasks/{id}/events"), None).await;
    let mut events = platform.client.events(id, None);
    // Whoever is told the input listens.
    assert!(matches!(events.next().await, Some(Ok(TaskEvent::Step(_)))));
    let reader = tokio::spawn(async move {
        let mut hints = Vec::new();
        while let Some(event) = events.next().await {
            match event.unwrap() {
                hint @ (TaskEvent::Progress(_) | TaskEvent::Budget(_)) => hints.push(hint),
                TaskEvent::Finished(_) => break,
                _ => {}
            }
        }
        hints
    });
    let run = Run::of(&platform, id).await;
    publish(
        &platform,
        EventBody::ToolProgress {
            task: id,
            call_id: "c1".to_owned(),
            message: "page 3".to_owned(),
            fraction: Some(0.25),
        },
    );
    let account = BudgetAccount {
        key: "agent/writer".to_owned(),
        window: BudgetWindow::Day,
        limit: AmountLimit::default(),
        on_limit: OnLimit::Ask,
    };
    let level = BudgetLevel {
        account,
        what: Dimension::Usd,
        limit: 5 * Usd::DOLLAR,
        spent: 4 * Usd::DOLLAR,
        reserved: Usd::DOLLAR / 10,
        asked: 0,
    };
    publish(&platform, EventBody::BudgetWarning { task: id, level });
    run.succeed("done").await;

    let hints = tokio::time::timeout(PATIENCE, reader).await.unwrap().unwrap();
    let [TaskEvent::Progress(progress), TaskEvent::Budget(warning)] = &hints[..] else { panic!("{hints:?}") };
    assert_eq!((progress.call_id.as_str(), progress.fraction), ("c1", Some(0.25)));
    assert_eq!(
        (warning.account.as_str(), warning.limit.as_str(), warning.used.as_str()),
        ("agent/writer", "$5.00", "$4.10")
    );
    let told = raw.rest().await;
    for name in ["task.progress", "budget.warning"] {
        let hint =
            told.iter().find(|event| event.name == name).unwrap_or_else(|| panic!("{name} is not among {told:?}"));
        assert_eq!(hint.id, None);
    }
}
