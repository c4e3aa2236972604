//! Readiness.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::health::{CheckStatus, Health};
use serde_json::Value;

use crate::service::Service;

#[tokio::test]
async fn a_service_is_ready_while_what_it_cannot_do_without_is_up() {
    let service = Service::start().await;
    service.health.add("state", true, || async { Ok(()) });
    service.health.add("cache", false, || async { Err("connection refused".to_owned()) });
    let response = service.get("/health/ready").await;
    assert_eq!(response.status(), 200);
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["state"]["status"], "up");
    assert!(body["state"]["latency_ms"].is_number() && body["state"].get("error").is_none(), "{body}");
    assert_eq!(body["cache"]["status"], "down");
    assert_eq!(body["cache"]["error"], "connection refused");

    service.health.add("queue", true, || async { Err("gone".to_owned()) });
    assert_eq!(service.get("/health/ready").await.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_is_down() {
    let health = Health::new();
    health.add("hangs", true, std::future::pending);
    health.add("panics", false, || async { panic!("broken") });
    let report = health.report().await;
    assert!(!report.ready);
    assert_eq!(report.checks["hangs"].error.as_deref(), Some("no answer within 2 s"));
    assert_eq!(report.checks["panics"].status, CheckStatus::Down);
}

#[tokio::test(start_paused = true)]
async fn many_callers_cause_one_check_a_second() {
    let health = Health::new();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    health.add("state", true, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(())
        }
    });
    futures::future::join_all((0..100).map(|_| health.report())).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    health.report().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}
