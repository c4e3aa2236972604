//! What nodes bear: places, rates, pauses, and being left alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cache::{Cache, Memory};
use domain::{FailureKind, Usage};
use llm::{BreakerSettings, LlmError, Models, NodeHealth, NodeLimits, NodeSettings};
use tokio::time::Instant;

use crate::nodes::{Act, Node, ask, catalogue, limited, unavailable, until};

fn limits(limits: NodeLimits) -> NodeSettings {
    NodeSettings { limits, ..NodeSettings::server() }
}

fn health(models: &Models, name: &str) -> NodeHealth {
    models.status().into_iter().find(|status| status.name == name).unwrap().health
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_under_way_than_a_node_bears() {
    let a = Node::new(|_| Act::AnswersAfter(Duration::from_millis(100)));
    let settings = limits(NodeLimits { max_concurrent: Some(4), ..NodeLimits::default() });
    let models = Models::new(catalogue(&[("a", &a, settings)]));
    let calls: Vec<_> = (0..60)
        .map(|n| {
            let models = models.clone();
            // Places count over all models of a node.
            let name = if n % 2 == 0 { "a/m" } else { "a/other" };
            tokio::spawn(async move { ask(&models, name).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!((a.count(), a.peak.load(Ordering::SeqCst)), (60, 4));
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_for_too_long_goes_back_and_is_told_when_to_come() {
    let a = Node::new(|_| Act::Waits);
    let settings = limits(NodeLimits { max_concurrent: Some(1), ..NodeLimits::default() });
    let models = Models::new(catalogue(&[("a", &a, settings)]));
    let first = {
        let models = models.clone();
        tokio::spawn(async move { ask(&models, "a/m").await })
    };
    until("the place is taken", || a.count() == 1).await;
    let begun = Instant::now();
    let error = ask(&models, "a/m").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::RateLimited);
    assert!(error.retry_after().is_some_and(|after| after >= Duration::from_secs(1)), "{error:?}");
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert_eq!(a.count(), 1, "it was not asked");
    a.go.add_permits(1);
    first.await.unwrap().unwrap();
    a.now(|_| Act::Answers(Usage::default()));
    ask(&models, "a/m").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_keep_to_their_rate() {
    let a = Node::answers();
    let settings = limits(NodeLimits { requests_per_minute: Some(60), ..NodeLimits::default() });
    let models = Models::new(catalogue(&[("a", &a, settings)]));
    let begun = Instant::now();
    let (mut done, mut told) = (0, 0);
    while begun.elapsed() < Duration::from_secs(120) {
        match ask(&models, "a/m").await {
            Ok(_) => done += 1,
            Err(error) => {
                told += 1;
                tokio::time::sleep(error.retry_after().expect("says when")).await;
            }
        }
    }
    // A minute's worth at once, and then one a second.
    assert!((175..=181).contains(&done), "{done}");
    assert_eq!(told, 0, "a second is waited for");
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_for_a_rate_is_told_instead_of_waited() {
    let a = Node::answers();
    let settings = limits(NodeLimits { requests_per_minute: Some(2), ..NodeLimits::default() });
    let models = Models::new(catalogue(&[("a", &a, settings)]));
    ask(&models, "a/m").await.unwrap();
    ask(&models, "a/m").await.unwrap();
    let begun = Instant::now();
    let error = ask(&models, "a/m").await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let after = error.retry_after().unwrap();
    assert!(matches!(error, LlmError::Busy { .. }));
    assert!(after > Duration::from_secs(29) && after < Duration::from_secs(31), "{after:?}");
    tokio::time::advance(after).await;
    ask(&models, "a/m").await.expect("there is a place when it was told");
    assert_eq!(a.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn tokens_keep_to_their_rate_by_what_was_really_used() {
    let a = Node::new(|_| Act::Answers(Usage::tokens(500, 100)));
    let settings = limits(NodeLimits { tokens_per_minute: Some(6_000), ..NodeLimits::default() });
    let models = Models::new(catalogue(&[("a", &a, settings)]));
    let begun = Instant::now();
    let mut done: u64 = 0;
    while begun.elapsed() < Duration::from_secs(300) {
        match ask(&models, "a/m").await {
            Ok(_) => done += 600,
            Err(error) => tokio::time::sleep(error.retry_after().expect("says when")).await,
        }
    }
    // Six minutes' worth in five minutes that began with a full minute, and at most one call more.
    assert!((34_000..=37_200).contains(&done), "{done}");
}

/// Two processes, as far as they know: what they share is the cache.
fn pair(a: &Arc<Node>, settings: &NodeSettings, cache: &Arc<dyn Cache>) -> [Models; 2] {
    let process = || {
        let models = Models::new(catalogue(&[("a", a, settings.clone())]));
        models.share_rates(Arc::clone(cache));
        models
    };
    [process(), process()]
}

#[tokio::test(start_paused = true)]
async fn processes_that_share_a_cache_keep_to_one_rate_together() {
    let a = Node::new(|_| Act::Answers(Usage::tokens(500, 100)));
    for (node_limits, most) in [
        (NodeLimits { requests_per_minute: Some(60), ..NodeLimits::default() }, 181),
        (NodeLimits { tokens_per_minute: Some(6_000), ..NodeLimits::default() }, 32),
        (NodeLimits { requests_per_minute: Some(6_000), tokens_per_minute: Some(6_000), ..NodeLimits::default() }, 32),
    ] {
        let pair = pair(&a, &limits(node_limits), &(Arc::new(Memory::default()) as _));
        let (before, begun) = (a.count(), Instant::now());
        while begun.elapsed() < Duration::from_secs(120) {
            for models in &pair {
                if ask(models, "a/m").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
        }
        let done = a.count() - before;
        assert!((most * 8 / 10..=most).contains(&done), "{done} with {node_limits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_to_the_other_node_when_all_processes_together_have_used_up_the_first() {
    let (a, b) = (Node::answers(), Node::answers());
    let settings = || limits(NodeLimits { requests_per_minute: Some(1), ..NodeLimits::default() });
    let cache: Arc<dyn Cache> = Arc::new(Memory::default());
    let pooled = catalogue(&[("a", &a, settings()), ("b", &b, settings())]);
    for _ in 0..2 {
        let models = Models::new(pooled.clone());
        models.share_rates(Arc::clone(&cache));
        ask(&models, "pool").await.unwrap();
    }
    assert_eq!((a.count(), b.count()), (1, 1));
    let models = Models::new(pooled);
    models.share_rates(cache);
    assert!(matches!(ask(&models, "pool").await, Err(LlmError::Busy { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_tries_once_and_closes() {
    let a = Node::new(|_| Act::Fails(unavailable()));
    let breaker = BreakerSettings::default();
    let max_wait = Duration::ZERO;
    let settings = NodeSettings { retries: 0, max_wait, breaker: Some(breaker), ..NodeSettings::server() };
    let models = Models::new(catalogue(&[("a", &a, settings)]));
    for _ in 0..5 {
        ask(&models, "a/m").await.unwrap_err();
    }
    assert_eq!(health(&models, "a/m"), NodeHealth::Down);
    for _ in 0..100 {
        let error = ask(&models, "a/m").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::ModelUnavailable);
        assert!(error.retry_after().is_some_and(|after| after <= Duration::from_millis(5_001)), "{error:?}");
    }
    assert_eq!(a.count(), 5, "it is left alone");
    ask(&models, "a/other").await.unwrap_err();
    assert_eq!(a.count(), 6, "other models of it are not");

    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(health(&models, "a/m"), NodeHealth::Trying);
    ask(&models, "a/m").await.unwrap_err();
    assert_eq!(a.count(), 7, "one call tried");
    tokio::time::advance(Duration::from_secs(9)).await;
    ask(&models, "a/m").await.unwrap_err();
    assert_eq!(a.count(), 7, "and the time has doubled");

    a.now(|_| Act::Waits);
    tokio::time::advance(Duration::from_secs(2)).await;
    let trying = {
        let models = models.clone();
        tokio::spawn(async move { ask(&models, "a/m").await })
    };
    until("one call tries", || a.count() == 8).await;
    ask(&models, "a/m").await.unwrap_err();
    assert_eq!(a.count(), 8, "and no other");
    a.go.add_permits(1);
    trying.await.unwrap().unwrap();
    assert_eq!(health(&models, "a/m"), NodeHealth::Up);
    a.now(|_| Act::Answers(Usage::default()));
    ask(&models, "a/m").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_that_make_no_sense_and_refusals_do_not_open_a_breaker() {
    let invalid = LlmError::Invalid { model: "a/m".to_owned(), reason: "a tool call is cut off".to_owned() };
    let refused = LlmError::Refused { model: "a/m".to_owned(), reason: "HTTP 400".to_owned() };
    for act in [Act::SpeaksAndFails(invalid.clone()), Act::Fails(invalid), Act::Fails(refused)] {
        let a = Node::new(move |_| act.clone());
        let models = Models::new(catalogue(&[("a", &a, NodeSettings::server())]));
        for _ in 0..30 {
            ask(&models, "a/m").await.unwrap_err();
        }
        assert_eq!((a.count(), health(&models, "a/m")), (30, NodeHealth::Up));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_answers_with_web_pages_draws_no_calls_from_the_others() {
    let page = LlmError::Invalid { model: "a/m".to_owned(), reason: "a web page came".to_owned() };
    let (a, b) = (Node::new(move |_| Act::Fails(page.clone())), Node::answers());
    let models = Models::new(catalogue(&[("a", &a, NodeSettings::server()), ("b", &b, NodeSettings::server())]));
    let mut failed = 0;
    for _ in 0..100 {
        failed += u32::from(ask(&models, "pool").await.is_err());
    }
    assert_eq!((a.count(), failed, health(&models, "a/m")), (5, 5, NodeHealth::Down));
}

/// Sixty-four tasks that come back whenever they were told, for ten minutes.
async fn storm(retry_after: Option<Duration>) -> u32 {
    let a = Node::new(move |_| Act::Fails(limited(retry_after)));
    let models = Models::new(catalogue(&[("a", &a, NodeSettings::server())]));
    let end = Instant::now() + Duration::from_secs(600);
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let models = models.clone();
            tokio::spawn(async move {
                while Instant::now() < end {
                    let error = ask(&models, "a/m").await.unwrap_err();
                    assert_eq!(error.kind(), FailureKind::RateLimited);
                    let asked = error.retry_after().unwrap_or_default();
                    tokio::time::sleep(asked.max(Duration::from_millis(1)).min(Duration::from_secs(600))).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    a.count()
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_never_spins_whatever_it_asks_for() {
    // No header, `0`, `-1` and nonsense are all "not asked"; a date and 1e9 are long times.
    for asked in [None, Some(Duration::ZERO), Some(Duration::from_secs(30)), Some(Duration::from_secs(1_000_000_000))] {
        let calls = storm(asked).await;
        // Each time a pause ends, those that wait for it may all come at once; the pauses grow to a minute.
        assert!(calls < 64 * 30, "{asked:?}: {calls} calls in ten minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_kept_by_all_calls_and_ends() {
    let a = Node::new(|call| {
        if call == 0 { Act::Fails(limited(Some(Duration::from_secs(30)))) } else { Act::Answers(Usage::default()) }
    });
    let models = Models::new(catalogue(&[("a", &a, NodeSettings::server())]));
    let error = ask(&models, "a/m").await.unwrap_err();
    assert!(error.retry_after().is_some_and(|after| after >= Duration::from_secs(29)), "{error:?}");
    assert_eq!(health(&models, "a/m"), NodeHealth::Paused);
    for _ in 0..50 {
        let error = ask(&models, "a/m").await.unwrap_err();
        assert!(matches!(error, LlmError::Busy { .. }) && error.retry_after().is_some());
    }
    assert_eq!(a.count(), 1, "nobody asks in the meantime");
    tokio::time::advance(Duration::from_secs(30)).await;
    ask(&models, "a/m").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_short_pause_is_waited_for_and_another_node_is_asked_meanwhile() {
    let a = Node::new(|call| {
        if call == 0 { Act::Fails(limited(Some(Duration::from_secs(1)))) } else { Act::Answers(Usage::default()) }
    });
    let models = Models::new(catalogue(&[("a", &a, NodeSettings::server())]));
    let begun = Instant::now();
    ask(&models, "a/m").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(a.count(), 2);

    let busy = Node::new(|_| Act::Fails(limited(Some(Duration::from_secs(60)))));
    let free = Node::answers();
    let models =
        Models::new(catalogue(&[("busy", &busy, NodeSettings::server()), ("free", &free, NodeSettings::server())]));
    let begun = Instant::now();
    for _ in 0..20 {
        ask(&models, "pool").await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(free.count(), 20);
    assert!(busy.count() <= 1);
}
