//! Bytes that no client of ours would send: every one is answered, none does anything.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use state::State;

use crate::golden;
use crate::support::{PATIENCE, Platform};

async fn answer(platform: &Platform, subject: &str, body: Vec<u8>) -> String {
    let answer = platform.requests.request(subject, Bytes::from(body), PATIENCE).await.expect("an answer");
    String::from_utf8(answer.to_vec()).expect("text")
}

fn framed(arguments: &str) -> Vec<u8> {
    format!("1 {{\"budget_ms\":1000}}\n{arguments}").into_bytes()
}

#[tokio::test]
async fn random_bytes_are_refused_by_every_method() {
    let platform = Platform::start().await;
    let mut runner = TestRunner::deterministic();
    let bytes = prop_oneof![
        any::<Vec<u8>>(),
        any::<Vec<u8>>().prop_map(|tail| [framed(""), tail].concat()),
        "[\\PC\n ]{0,64}".prop_map(|tail| framed(&tail)),
        "1 [\\PC]{0,40}\n\\{\\}".prop_map(String::into_bytes),
    ];
    for (subject, _, _) in golden::recorded() {
        for _ in 0..40 {
            let body = bytes.new_tree(&mut runner).unwrap().current();
            let answer = answer(&platform, &subject, body.clone()).await;
            assert!(answer.starts_with("1 refused\n"), "{subject} {body:?}: {answer}");
        }
    }
    nothing_was_done(&platform).await;
}

#[tokio::test]
async fn a_request_that_breaks_off_is_refused_wherever_it_does() {
    let platform = Platform::start().await;
    for (subject, request, _) in golden::recorded() {
        for end in 0..request.len() {
            let answer = answer(&platform, &subject, request[..end].to_vec()).await;
            assert!(answer.starts_with("1 refused\n"), "{subject} cut at {end}: {answer}");
        }
    }
    nothing_was_done(&platform).await;
}

#[tokio::test]
async fn numbers_out_of_range_and_nesting_without_end_are_refused() {
    let platform = Platform::start().await;
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let value = |value: &str| {
        let now = "2026-01-01T00:00:00Z";
        format!(
            "{{\"namespace\":\"a\",\"scope\":\"s\",\"key\":\"k\",\"value\":{value},\"expires_at\":null,\
             \"condition\":\"always\",\"now\":\"{now}\"}}"
        )
    };
    assert!(answer(&platform, "state.put_value", framed(&value("1"))).await.starts_with("1 ok\n"));
    for arguments in [value("1e999"), value(&deep(200)), value(&deep(1_000_000)), deep(1_000_000)] {
        let answer = answer(&platform, "state.put_value", framed(&arguments)).await;
        assert!(answer.starts_with("1 refused\n{\"reason\":\"malformed\""), "{answer:.200}");
    }
    for (header, reason) in [
        ("1 {\"budget_ms\":99999999999999999999}", "malformed"),
        ("1 {\"budget_ms\":-1}", "malformed"),
        ("1 \"\"", "malformed"),
        ("2 {}", "version"),
        ("1000 {}", "version"),
        ("x {}", "malformed"),
        ("", "malformed"),
    ] {
        let answer = answer(&platform, "state.ping", format!("{header}\n{{}}").into_bytes()).await;
        assert!(answer.starts_with(&format!("1 refused\n{{\"reason\":\"{reason}\"")), "{header}: {answer}");
    }
    let long = format!("1 {{\"budget_ms\":1,\"x\":\"{}\"}}\n{{}}", "x".repeat(10_000));
    assert!(answer(&platform, "state.ping", long.into_bytes()).await.starts_with("1 refused\n"));
}

async fn nothing_was_done(platform: &Platform) {
    let stats = platform.store.stats(None).await.unwrap();
    assert_eq!((stats.tasks.values().sum::<u64>(), stats.values, stats.threads), (0, 0, 0));
    tokio::time::timeout(Duration::from_secs(5), platform.client().ping()).await.unwrap().unwrap();
}
