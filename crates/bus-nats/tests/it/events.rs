//! Events between processes.

use std::sync::Arc;

use bus::{Events, Received, contract};
use bytes::Bytes;
use domain::EventBody;
use futures::StreamExt as _;

use crate::support::{
    cancelled, connected, created, delta, finished, hear, options, pair, step, stranger, task, until, within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_keep_their_contract() {
    let url = testkit::servers::nats().await.url();
    contract::events(|| async { Arc::new(connected(options(&url)).await) as Arc<dyn Events> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_tells_another_hears() {
    let (here, there) = pair(&testkit::servers::nats().await.url()).await;
    let mut all = here.subscribe().await.unwrap();
    let (mut ends, mut control) = (here.subscribe_ends().await.unwrap(), here.subscribe_control().await.unwrap());
    let mut one = here.subscribe_task(task(1)).await.unwrap();
    for event in [created(1), delta(1, 1), step(1, 1, "short"), created(2), cancelled(1), finished(1)] {
        there.publish(event);
    }
    for event in [created(1), step(1, 1, "short"), created(2), cancelled(1), finished(1)] {
        assert_eq!(hear(&mut all).await, event);
    }
    assert_eq!((hear(&mut ends).await, hear(&mut control).await), (finished(1), cancelled(1)));
    for event in [created(1), delta(1, 1), step(1, 1, "short"), cancelled(1), finished(1)] {
        assert_eq!(hear(&mut one.live).await, event);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_reader_elsewhere_hears_a_call_from_its_first_word() {
    let (here, there) = pair(&testkit::servers::nats().await.url()).await;
    for n in 1..=3000 {
        there.publish(delta(1, n));
    }
    until("the whole backlog", async || here.subscribe_task(task(1)).await.unwrap().backlog.len() == 3000).await;
    let mut late = here.subscribe_task(task(1)).await.unwrap();
    assert!(late.backlog.iter().map(|delta| delta.n).eq(1..=3000));
    there.publish(delta(1, 3001));
    assert_eq!(hear(&mut late.live).await, delta(1, 3001));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_knows_who_listens_elsewhere() {
    let (here, there) = pair(&testkit::servers::nats().await.url()).await;
    until("the end of not knowing", async || !there.listens(task(1))).await;
    let ends = here.subscribe_ends().await.unwrap();
    let one = here.subscribe_task(task(1)).await.unwrap();
    until("the news", async || there.listens(task(1))).await;
    assert!(!there.listens(task(2)));
    let all = here.subscribe().await.unwrap();
    until("the news", async || there.listens(task(2))).await;
    drop((ends, one, all));
    until("the silence", async || !there.listens(task(1)) && !there.listens(task(2))).await;

    there.publish(delta(3, 1));
    assert!(there.listens(task(3)), "its step will replace the deltas that are kept");
    there.publish(finished(3));
    assert!(!there.listens(task(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_fits_into_no_message_is_missed() {
    let (here, there) = pair(&testkit::servers::nats().await.url()).await;
    let mut one = here.subscribe_task(task(1)).await.unwrap();
    there.publish(step(1, 1, &"x".repeat(2 << 20)));
    let received = within("the news", one.live.next()).await;
    assert!(matches!(received, Some(Received::Missed)), "{received:?}");
    there.publish(finished(1));
    assert_eq!(hear(&mut one.live).await, finished(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_on_our_subjects_is_dropped() {
    let url = testkit::servers::nats().await.url();
    let options = options(&url);
    let bus = connected(options.clone()).await;
    let (mut all, mut one) = (bus.subscribe().await.unwrap(), bus.subscribe_task(task(1)).await.unwrap());
    let nats = stranger(&url).await;
    let huge = vec![b'['; 1 << 20];
    let other_task = br#"{"v":1,"event":{"namespace":"default","body":{"event":"task.cancel_requested","task":"00000000-0000-0000-0000-000000000009"}}}"#;
    for payload in
        [b"".as_slice(), b"null", b"\xff\xfe", br#"{"v":99,"missed":true}"#, br#"{"v":1}"#, &huge, other_task]
    {
        for subject in
            ["events.step", "events.progress", "events.end", "events.control", "deltas.spoken", "anything.else"]
        {
            let subject = format!("{}.{subject}.{}", options.prefix, task(1));
            nats.publish(subject, Bytes::copy_from_slice(payload)).await.unwrap();
        }
        for subject in ["interest", "missed"] {
            nats.publish(format!("{}.{subject}", options.prefix), Bytes::copy_from_slice(payload)).await.unwrap();
        }
    }
    nats.flush().await.unwrap();
    until("a backlog beside the rubbish", async || {
        bus.publish(delta(1, 1));
        bus.subscribe_task(task(1)).await.unwrap().backlog.len() == 1
    })
    .await;
    assert_eq!(hear(&mut one.live).await, delta(1, 1));
    bus.publish(finished(1));
    let heard = within("our own event", async {
        loop {
            let event = hear(&mut all).await;
            if !matches!(event.body, EventBody::CancelRequested { .. }) {
                return event;
            }
        }
    });
    assert_eq!(heard.await, finished(1));
}
