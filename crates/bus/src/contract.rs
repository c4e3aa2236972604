//! The suite that every bus must pass, the in-process one included.
//!
//! Each case is a function that takes a fresh port; [`work_queue`], [`events`] and [`requests`] run all cases of a port.
//! A case fails by panicking, as a test does.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{
    AgentName, Delta, Event, EventBody, ExecutionMode, Namespace, ReadyTask, Step, StepBody, TaskId, TaskStatus,
    Timestamp,
};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use crate::{BusError, Delivery, Events, Received, RequestHandler, Requests, WorkQueue};

/// How long a case waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a case looks whether something happens that must not.
const GLANCE: Duration = Duration::from_millis(100);
/// How long a broker gets to hand over what was announced to a consumer that is there already.
const HAND_OVER: Duration = Duration::from_millis(300);

/// Runs all cases of a work queue; `make` makes an empty one, which hands at least five tasks to a consumer in advance and
/// leaves them there for a second.
pub async fn work_queue<F: Future<Output = Arc<dyn WorkQueue>>>(make: impl Fn() -> F) {
    the_highest_priority_comes_first_then_the_oldest(&*make().await).await;
    pools_do_not_take_each_other_s_tasks(&*make().await).await;
    a_waiter_is_woken_by_an_announcement(make().await).await;
    a_waiter_that_gives_up_takes_nothing(&*make().await).await;
    a_delivery_that_is_dropped_undone_comes_again(&*make().await).await;
    no_announcement_is_lost_between_many_consumers(make().await).await;
}

/// Runs all cases of events; `make` makes a bus without subscribers.
pub async fn events<F: Future<Output = Arc<dyn Events>>>(make: impl Fn() -> F) {
    a_subscriber_hears_everything_but_deltas_in_order(&*make().await).await;
    who_listens_to_ends_or_control_hears_nothing_else(&*make().await).await;
    a_task_s_subscriber_hears_its_task_only(&*make().await).await;
    a_late_reader_gets_what_was_spoken_before(&*make().await).await;
    a_new_call_voids_the_deltas_of_the_one_before(&*make().await).await;
    a_journaled_step_replaces_its_deltas(&*make().await).await;
    the_end_of_a_task_forgets_its_deltas(&*make().await).await;
    a_slow_subscriber_is_told_that_it_missed_something(&*make().await).await;
    backlog_and_live_have_no_gap_and_no_overlap(make().await).await;
}

/// Runs all cases of requests; `make` makes a bus without servers.
pub async fn requests<F: Future<Output = Arc<dyn Requests>>>(make: impl Fn() -> F) {
    a_request_is_answered(&*make().await).await;
    a_subject_without_a_server_is_refused_at_once(&*make().await).await;
    servers_of_one_subject_share_its_requests(&*make().await).await;
    an_answer_that_does_not_come_is_a_time_out(&*make().await).await;
    a_handler_that_panics_fails_one_request_only(&*make().await).await;
}

// --- work queue

fn ready(number: u128, priority: u8) -> ReadyTask {
    ReadyTask { task: task(number), mode: ExecutionMode::Autonomous, priority }
}

fn task(number: u128) -> TaskId {
    TaskId(uuid::Uuid::from_u128(number))
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

async fn deliver(queue: &dyn WorkQueue, mode: ExecutionMode) -> Delivery {
    within("the next task", queue.next(mode)).await.expect("a task")
}

async fn take(queue: &dyn WorkQueue) -> ReadyTask {
    let delivery = deliver(queue, ExecutionMode::Autonomous).await;
    let task = delivery.task;
    delivery.done();
    task
}

async fn announce(queue: &dyn WorkQueue, tasks: &[ReadyTask]) {
    queue.announce(tasks).await.expect("an announcement");
}

/// The highest priority comes first, then the oldest announcement, among what a consumer has at hand.
pub async fn the_highest_priority_comes_first_then_the_oldest(queue: &dyn WorkQueue) {
    announce(queue, &[ready(9, 9)]).await;
    assert_eq!(take(queue).await.task, task(9));
    announce(queue, &[ready(1, 0), ready(2, 5), ready(3, 9), ready(4, 5), ready(5, 0)]).await;
    tokio::time::sleep(HAND_OVER).await;
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(take(queue).await.task);
    }
    assert_eq!(order, [3, 2, 4, 1, 5].map(task));
}

/// A pool gets the tasks of its own mode only.
pub async fn pools_do_not_take_each_other_s_tasks(queue: &dyn WorkQueue) {
    let continuous = ReadyTask { mode: ExecutionMode::Continuous, ..ready(1, 9) };
    announce(queue, &[continuous, ready(2, 0)]).await;
    assert_eq!(take(queue).await.task, task(2));
    let mode = ExecutionMode::Continuous;
    let delivery = deliver(queue, mode).await;
    assert_eq!(delivery.task, continuous);
    delivery.done();
    within("the end of both queues", async {
        while (queue.depth(mode), queue.depth(ExecutionMode::Autonomous)) != (0, 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A worker that waits is woken.
pub async fn a_waiter_is_woken_by_an_announcement(queue: Arc<dyn WorkQueue>) {
    let waiting = queue.clone();
    let waiter = tokio::spawn(async move { take(&*waiting).await });
    tokio::time::sleep(GLANCE).await;
    announce(&*queue, &[ready(1, 0)]).await;
    assert_eq!(within("the waiter", waiter).await.expect("no panic").task, task(1));
}

/// A dropped call takes nothing, whether it was waiting or about to be served.
pub async fn a_waiter_that_gives_up_takes_nothing(queue: &dyn WorkQueue) {
    for number in 1..=50 {
        let mut waiter = queue.next(ExecutionMode::Autonomous);
        assert!((&mut waiter).now_or_never().is_none(), "there is nothing yet");
        announce(queue, &[ready(number, 0)]).await;
        drop(waiter);
        // A broker that was not told in time that a task was used delivers it again.
        let mut taken = take(queue).await.task;
        while taken < task(number) {
            taken = take(queue).await.task;
        }
        assert_eq!(taken, task(number));
    }
}

/// A delivery that nobody settled comes again, and one that was settled does not.
pub async fn a_delivery_that_is_dropped_undone_comes_again(queue: &dyn WorkQueue) {
    announce(queue, &[ready(1, 0)]).await;
    for _ in 0..3 {
        let delivery = deliver(queue, ExecutionMode::Autonomous).await;
        assert_eq!(delivery.task, ready(1, 0));
        drop(delivery);
    }
    assert_eq!(take(queue).await, ready(1, 0));
    let more = tokio::time::timeout(GLANCE, queue.next(ExecutionMode::Autonomous)).await;
    assert!(more.is_err(), "it was settled: {more:?}");
}

/// Every announced task reaches a consumer, although consumers give up all the time.
pub async fn no_announcement_is_lost_between_many_consumers(queue: Arc<dyn WorkQueue>) {
    const PRODUCERS: u128 = 4;
    const EACH: u128 = 500;
    let all = (PRODUCERS * EACH) as usize;
    let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let consumers: Vec<_> = (0..8_u64)
        .map(|number| {
            let (queue, sender) = (queue.clone(), sender.clone());
            tokio::spawn(async move {
                loop {
                    let patience = Duration::from_micros(50 * (number + 1));
                    let next = queue.next(ExecutionMode::Autonomous);
                    if let Ok(Ok(delivery)) = tokio::time::timeout(patience, next).await {
                        let task = delivery.task.task;
                        delivery.done();
                        if sender.send(task).is_err() {
                            return;
                        }
                    }
                }
            })
        })
        .collect();
    for producer in 0..PRODUCERS {
        let queue = queue.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                announce(&*queue, &[ready(producer * EACH + number, (number % 10) as u8)]).await;
                if number % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let mut seen = BTreeMap::new();
    while seen.len() < all {
        let task = within("the delivery of every task", taken.recv()).await.expect("consumers");
        *seen.entry(task).or_insert(0_usize) += 1;
    }
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
}

// --- events

fn event(body: EventBody) -> Event {
    Event { namespace: Namespace::default(), body }
}

fn created(number: u128) -> Event {
    let agent = AgentName::new("writer").expect("a name");
    event(EventBody::TaskCreated { task: task(number), agent })
}

fn step(number: u128, seq: u32) -> Event {
    let step = Step { seq, epoch: 1, at: Timestamp::UNIX_EPOCH, body: StepBody::Input(domain::TaskInput::default()) };
    event(EventBody::TaskStep { task: task(number), step: Arc::new(step) })
}

fn cancelled(number: u128) -> Event {
    event(EventBody::CancelRequested { task: task(number) })
}

fn finished(number: u128) -> Event {
    event(EventBody::TaskFinished { task: task(number), status: TaskStatus::Succeeded })
}

fn delta(number: u128, (epoch, seq, call, n): (u32, u32, u32, u32)) -> Event {
    let delta = Delta { seq, epoch, call, n, text: format!("{epoch}.{seq}.{call}.{n} ") };
    event(EventBody::TaskDelta { task: task(number), delta })
}

async fn hear(stream: &mut BoxStream<'static, Received>) -> Event {
    match within("an event", stream.next()).await.expect("the stream goes on") {
        Received::Event(event) => (*event).clone(),
        Received::Missed => panic!("nothing was to be missed"),
    }
}

fn numbers(backlog: &[Delta]) -> Vec<(u32, u32, u32, u32)> {
    backlog.iter().map(|delta| (delta.epoch, delta.seq, delta.call, delta.n)).collect()
}

/// The backlog that a reader who comes now gets, once it is as long as expected.
async fn backlog(bus: &dyn Events, number: u128, expected: usize) -> Vec<(u32, u32, u32, u32)> {
    within("the expected backlog", async {
        loop {
            let found = bus.subscribe_task(task(number)).await.expect("a subscription").backlog;
            if found.len() == expected {
                return numbers(&found);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A subscriber hears everything but deltas, in order, from its subscription on.
pub async fn a_subscriber_hears_everything_but_deltas_in_order(bus: &dyn Events) {
    bus.publish(created(1));
    tokio::time::sleep(GLANCE).await;
    let mut stream = bus.subscribe().await.expect("a subscription");
    let expected = [created(2), step(2, 0), finished(2), created(3)];
    for event in &expected {
        bus.publish(delta(2, (1, 1, 1, 1)));
        bus.publish(event.clone());
    }
    for event in expected {
        assert_eq!(hear(&mut stream).await, event);
    }
}

/// A subscriber to ends hears the ends of tasks and nothing else, one to control what services tell each other.
pub async fn who_listens_to_ends_or_control_hears_nothing_else(bus: &dyn Events) {
    let mut ends = bus.subscribe_ends().await.expect("a subscription");
    let mut control = bus.subscribe_control().await.expect("a subscription");
    let told = [created(1), step(1, 0), cancelled(1), delta(1, (1, 1, 1, 1)), finished(1), cancelled(2), finished(2)];
    for event in told {
        bus.publish(event);
    }
    for number in 1..=2 {
        assert_eq!(hear(&mut ends).await, finished(number));
        assert_eq!(hear(&mut control).await, cancelled(number));
    }
}

/// A task's subscriber hears all of its task, deltas included, and nothing else.
pub async fn a_task_s_subscriber_hears_its_task_only(bus: &dyn Events) {
    let mut events = bus.subscribe_task(task(1)).await.expect("a subscription");
    assert!(events.backlog.is_empty());
    assert!(bus.listens(task(1)));
    let expected = [created(1), delta(1, (1, 1, 1, 1)), delta(1, (1, 1, 1, 2)), step(1, 1), finished(1)];
    for event in &expected {
        bus.publish(created(2));
        bus.publish(event.clone());
    }
    for event in expected {
        assert_eq!(hear(&mut events.live).await, event);
    }
}

/// Whoever comes late gets the call that is being spoken from its first word, and then what follows.
pub async fn a_late_reader_gets_what_was_spoken_before(bus: &dyn Events) {
    for n in 1..=3 {
        bus.publish(delta(1, (1, 1, 1, n)));
    }
    assert_eq!(backlog(bus, 1, 3).await, [(1, 1, 1, 1), (1, 1, 1, 2), (1, 1, 1, 3)]);
    let mut events = bus.subscribe_task(task(1)).await.expect("a subscription");
    bus.publish(delta(1, (1, 1, 1, 4)));
    assert_eq!(hear(&mut events.live).await, delta(1, (1, 1, 1, 4)));
}

/// Another call, and still more another lease, begins anew; what the one before still says is not heard.
pub async fn a_new_call_voids_the_deltas_of_the_one_before(bus: &dyn Events) {
    bus.publish(delta(1, (1, 1, 1, 1)));
    bus.publish(delta(1, (1, 1, 1, 2)));
    bus.publish(delta(1, (1, 1, 2, 1)));
    bus.publish(delta(1, (1, 1, 1, 3)));
    assert_eq!(backlog(bus, 1, 1).await, [(1, 1, 2, 1)]);
    bus.publish(delta(1, (2, 1, 1, 1)));
    bus.publish(delta(1, (2, 1, 1, 2)));
    bus.publish(delta(1, (1, 1, 2, 2)));
    assert_eq!(backlog(bus, 1, 2).await, [(2, 1, 1, 1), (2, 1, 1, 2)]);
}

/// A step that is in the journal needs no deltas any more; those of the next step stay.
pub async fn a_journaled_step_replaces_its_deltas(bus: &dyn Events) {
    bus.publish(delta(1, (1, 3, 1, 1)));
    bus.publish(step(1, 2));
    assert_eq!(backlog(bus, 1, 1).await, [(1, 3, 1, 1)]);
    bus.publish(step(1, 3));
    backlog(bus, 1, 0).await;
}

/// An ended task has no deltas.
pub async fn the_end_of_a_task_forgets_its_deltas(bus: &dyn Events) {
    bus.publish(delta(1, (1, 1, 1, 1)));
    backlog(bus, 1, 1).await;
    bus.publish(finished(1));
    backlog(bus, 1, 0).await;
}

/// A subscriber that does not read is told so once, and hears what comes after it reads again.
pub async fn a_slow_subscriber_is_told_that_it_missed_something(bus: &dyn Events) {
    let mut stream = bus.subscribe().await.expect("a subscription");
    let mut published = 0_u128;
    let mut missed = false;
    // However many an adapter buffers, they are bounded.
    while !missed {
        assert!(published < 10_000_000, "the buffer has no bound");
        for _ in 0..10_000 {
            published += 1;
            bus.publish(created(published));
        }
        tokio::time::sleep(GLANCE).await;
        while let Some(Some(received)) = stream.next().now_or_never() {
            missed |= matches!(received, Received::Missed);
        }
    }
    bus.publish(finished(1));
    within("an event after the gap", async {
        while !matches!(stream.next().await, Some(Received::Event(event)) if *event == finished(1)) {}
    })
    .await;
}

/// Wherever a reader comes in between, it gets every delta exactly once.
pub async fn backlog_and_live_have_no_gap_and_no_overlap(bus: Arc<dyn Events>) {
    const ALL: u32 = 200;
    let speaker = bus.clone();
    let speaking = tokio::spawn(async move {
        for n in 1..=ALL {
            speaker.publish(delta(1, (1, 1, 1, n)));
            tokio::task::yield_now().await;
        }
    });
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let bus = bus.clone();
            tokio::spawn(async move {
                let mut events = bus.subscribe_task(task(1)).await.expect("a subscription");
                let mut heard: Vec<u32> = events.backlog.iter().map(|delta| delta.n).collect();
                while heard.last() != Some(&ALL) {
                    let EventBody::TaskDelta { delta, .. } = hear(&mut events.live).await.body else { continue };
                    heard.push(delta.n);
                }
                assert_eq!(heard, (1..=ALL).collect::<Vec<_>>());
            })
        })
        .collect();
    within("the speaker", speaking).await.expect("no panic");
    for reader in readers {
        within("a reader", reader).await.expect("no panic");
    }
}

// --- requests

struct Echo {
    name: &'static str,
    served: AtomicUsize,
}

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, body: Bytes) -> Bytes {
        self.served.fetch_add(1, Ordering::SeqCst);
        match &*body {
            b"hang" => std::future::pending().await,
            b"panic" => panic!("the handler's panic"),
            body => Bytes::from([self.name.as_bytes(), body].concat()),
        }
    }
}

fn echo(name: &'static str) -> Arc<Echo> {
    Arc::new(Echo { name, served: AtomicUsize::new(0) })
}

async fn ask(bus: &dyn Requests, body: &'static str) -> Result<Bytes, BusError> {
    within("an answer", bus.request("contract.echo", Bytes::from_static(body.as_bytes()), PATIENCE / 2)).await
}

/// A request reaches its server, and the answer whoever asked.
pub async fn a_request_is_answered(bus: &dyn Requests) {
    let _serving = bus.serve("contract.echo", echo("a:")).await.expect("a server");
    assert_eq!(ask(bus, "hello").await.expect("an answer"), "a:hello");
    assert_eq!(ask(bus, "").await.expect("an answer"), "a:");
}

/// Nobody has to wait for a server that is not there, or is no longer.
pub async fn a_subject_without_a_server_is_refused_at_once(bus: &dyn Requests) {
    assert!(matches!(ask(bus, "hello").await, Err(BusError::NoResponder { .. })));
    let serving = bus.serve("contract.echo", echo("a:")).await.expect("a server");
    drop(serving);
    within("the end of serving", async {
        while !matches!(ask(bus, "hello").await, Err(BusError::NoResponder { .. })) {}
    })
    .await;
}

/// Each request goes to one server, and every server gets some.
pub async fn servers_of_one_subject_share_its_requests(bus: &dyn Requests) {
    let (first, second) = (echo("a:"), echo("b:"));
    let _one = bus.serve("contract.echo", first.clone()).await.expect("a server");
    let _two = bus.serve("contract.echo", second.clone()).await.expect("a server");
    for _ in 0..100 {
        ask(bus, "hello").await.expect("an answer");
    }
    let (first, second) = (first.served.load(Ordering::SeqCst), second.served.load(Ordering::SeqCst));
    assert_eq!(first + second, 100);
    assert!(first > 0 && second > 0, "{first} and {second}");
}

/// A server that is silent costs the time-out and no more.
pub async fn an_answer_that_does_not_come_is_a_time_out(bus: &dyn Requests) {
    let _serving = bus.serve("contract.echo", echo("a:")).await.expect("a server");
    let hanging = bus.request("contract.echo", Bytes::from_static(b"hang"), GLANCE);
    assert!(matches!(within("the time-out", hanging).await, Err(BusError::Timeout { .. })));
    assert_eq!(ask(bus, "hello").await.expect("others are served meanwhile"), "a:hello");
}

/// A panic in a handler is an error for one caller.
pub async fn a_handler_that_panics_fails_one_request_only(bus: &dyn Requests) {
    let _serving = bus.serve("contract.echo", echo("a:")).await.expect("a server");
    let panicking = bus.request("contract.echo", Bytes::from_static(b"panic"), Duration::from_secs(1));
    assert!(within("an error", panicking).await.is_err());
    assert_eq!(ask(bus, "hello").await.expect("others are served afterwards"), "a:hello");
}
