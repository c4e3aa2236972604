//! The in-process bus through its ports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Events, InprocBus, Received, Requests, WorkQueue, contract};
use domain::{Delta, Event, EventBody, ExecutionMode, Namespace, ReadyTask, TaskId, TaskStatus};
use futures::{FutureExt as _, StreamExt as _};
use uuid::Uuid;

async fn take(bus: &InprocBus, mode: ExecutionMode) -> ReadyTask {
    let delivery = bus.next(mode).await.expect("a delivery");
    let task = delivery.task;
    delivery.done();
    task
}

fn task(number: u128) -> TaskId {
    TaskId(Uuid::from_u128(number))
}

fn publish(bus: &InprocBus, body: EventBody) {
    bus.publish(Event { namespace: Namespace::default(), body });
}

fn speak(bus: &InprocBus, number: u128, n: u32) {
    let delta = Delta { seq: 1, epoch: 1, call: 1, n, text: "word ".to_owned() };
    publish(bus, EventBody::TaskDelta { task: task(number), delta });
}

fn finish(bus: &InprocBus, number: u128) {
    publish(bus, EventBody::TaskFinished { task: task(number), status: TaskStatus::Succeeded });
}

#[tokio::test]
async fn the_work_queue_keeps_its_contract() {
    contract::work_queue(|| async { Arc::new(InprocBus::default()) as Arc<dyn WorkQueue> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_work_queue_keeps_its_contract_on_many_threads() {
    contract::work_queue(|| async { Arc::new(InprocBus::default()) as Arc<dyn WorkQueue> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_keep_their_contract() {
    contract::events(|| async { Arc::new(InprocBus::default()) as Arc<dyn Events> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_keep_their_contract() {
    contract::requests(|| async { Arc::new(InprocBus::default()) as Arc<dyn Requests> }).await;
}

#[tokio::test]
async fn a_task_that_waits_is_announced_only_once() {
    let bus = InprocBus::default();
    let ready = |priority| ReadyTask { task: task(1), mode: ExecutionMode::Autonomous, priority };
    bus.announce(&[ready(3), ready(3), ready(1)]).await.unwrap();
    assert_eq!(bus.depth(ExecutionMode::Autonomous), 1);
    bus.announce(&[ready(9)]).await.unwrap();
    assert_eq!(take(&bus, ExecutionMode::Autonomous).await.priority, 9, "the higher priority counts");
    assert_eq!(bus.depth(ExecutionMode::Autonomous), 0);
    assert!(bus.next(ExecutionMode::Autonomous).now_or_never().is_none());
    bus.announce(&[ready(3)]).await.unwrap();
    assert_eq!(take(&bus, ExecutionMode::Autonomous).await.priority, 3, "once taken it can be announced again");
}

/// 20,000 tasks, 16 consumers on four threads, each giving up at random moments: each task is taken exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_stress_every_task_is_taken_exactly_once() {
    const ALL: u128 = 20_000;
    let bus = InprocBus::default();
    let done = Arc::new(AtomicBool::new(false));
    let consumers: Vec<_> = (0..16_u32)
        .map(|number| {
            let (bus, done) = (bus.clone(), done.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                let mut turn = number;
                while !done.load(Ordering::SeqCst) {
                    turn = turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Sometimes polled once and dropped, sometimes dropped while others are being woken.
                    let next = take(&bus, ExecutionMode::Autonomous);
                    let got = if turn & 0x1_0000 == 0 {
                        let got = next.now_or_never();
                        tokio::task::yield_now().await;
                        got
                    } else {
                        let patience = Duration::from_micros(u64::from(turn >> 24));
                        tokio::time::timeout(patience, next).await.ok()
                    };
                    taken.extend(got.map(|ready| ready.task.0.as_u128()));
                }
                taken
            })
        })
        .collect();
    let producers: Vec<_> = (0..4)
        .map(|producer| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for chunk in (producer..ALL).step_by(4).collect::<Vec<_>>().chunks(7) {
                    let mode = ExecutionMode::Autonomous;
                    let tasks: Vec<ReadyTask> = chunk
                        .iter()
                        .map(|&number| ReadyTask { task: task(number), mode, priority: (number % 10) as u8 })
                        .collect();
                    bus.announce(&tasks).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.unwrap();
    }
    tokio::time::timeout(Duration::from_mins(1), async {
        while bus.depth(ExecutionMode::Autonomous) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("somebody takes every task");
    done.store(true, Ordering::SeqCst);
    let mut taken = Vec::new();
    for consumer in consumers {
        taken.extend(consumer.await.unwrap());
    }
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..ALL), "none lost, none twice");
}

/// All workers wait at first: one wake-up too few would leave a task lying although a worker is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_waiters_wake_as_tasks_arrive() {
    let bus = InprocBus::default();
    for round in 0..200_u128 {
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                let bus = bus.clone();
                tokio::spawn(async move { take(&bus, ExecutionMode::Continuous).await.task })
            })
            .collect();
        let tasks: Vec<ReadyTask> = (0..8)
            .map(|number| ReadyTask { task: task(8 * round + number), mode: ExecutionMode::Continuous, priority: 5 })
            .collect();
        bus.announce(&tasks).await.unwrap();
        for waiter in waiters {
            tokio::time::timeout(Duration::from_secs(20), waiter).await.expect("every waiter is served").unwrap();
        }
    }
}

#[tokio::test]
async fn nobody_listens_until_somebody_does() {
    let bus = InprocBus::default();
    assert!(!bus.listens(task(1)));
    let (ends, control) = (bus.subscribe_ends().await.unwrap(), bus.subscribe_control().await.unwrap());
    assert!(!bus.listens(task(1)), "they want no steps");
    let one = bus.subscribe_task(task(1)).await.unwrap();
    assert!(bus.listens(task(1)) && !bus.listens(task(2)));
    let all = bus.subscribe().await.unwrap();
    assert!(bus.listens(task(2)));
    drop((all, one, ends, control));
    assert!(!bus.listens(task(1)) && !bus.listens(task(2)));

    speak(&bus, 3, 1);
    assert!(bus.listens(task(3)), "the step will replace the deltas that are kept");
    finish(&bus, 3);
    assert!(!bus.listens(task(3)));
}

#[tokio::test]
async fn a_slow_reader_of_a_task_is_told_between_what_it_got_and_what_follows() {
    let bus = InprocBus::new(bus::InprocOptions { subscriber_queue: 4, ..bus::InprocOptions::default() });
    let mut events = bus.subscribe_task(task(1)).await.unwrap();
    for n in 1..=10 {
        speak(&bus, 1, n);
    }
    let mut heard = Vec::new();
    while let Some(Some(received)) = events.live.next().now_or_never() {
        heard.push(match received {
            Received::Event(event) => match &event.body {
                EventBody::TaskDelta { delta, .. } => Some(delta.n),
                other => panic!("{other:?}"),
            },
            Received::Missed => None,
        });
    }
    assert_eq!(heard, [Some(1), Some(2), Some(3), Some(4), None]);
    finish(&bus, 1);
    assert!(matches!(events.live.next().await, Some(Received::Event(_))), "it hears again what comes after");
    let again = bus.subscribe_task(task(1)).await.unwrap();
    assert!(again.backlog.is_empty(), "the task has ended");
}
