//! What RabbitMQ does with deliveries: it repeats, delays and mixes them, and wants them back when they are held too long.

use std::time::Duration;

use futures::StreamExt as _;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use testkit::servers::query;
use tokio::time::Instant;

use crate::backends::OwnServers;
use crate::dice::Dice;
use crate::matrix::{DRAIN, until_nothing_is_slow};
use crate::meddler::{self, Meddler};
use crate::replicas::submit_slow;
use crate::run::Run;
use crate::service::Role;

/// Longer than the machine ever stands still: nothing but the fault is to be seen.
pub(crate) const UNDISTURBED: (&str, &str) = ("AGENT_LEASE", "30s");
/// RabbitMQ looks as often whether a delivery was held for too long.
const LOOK_MS: u32 = 250;
/// A delivery that is held for longer costs its channel: longer than a claim takes on a machine that stands still for a
/// while. A `slower` task takes twice as long.
const TIMEOUT: Duration = Duration::from_secs(8);
/// The same where deliveries are held: shorter than a claim waits for the record.
const SHORT_TIMEOUT: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_each_delivery_comes_two_to_ten_times_late_and_out_of_order() {
    let (dice, _) = Dice::of_this_test();
    let expected = undisturbed().await;

    let mut run = Run::prepare_shared(|_| ()).await;
    let pools = testkit::servers::rabbitmq().await.fresh_vhost().await;
    let elsewhere = ("RABBITMQ_VHOST", pools.rsplit('/').next().expect("a virtual host"));
    let settings = |role| if role == Role::Pool { vec![UNDISTURBED, elsewhere] } else { vec![UNDISTURBED] };
    run.platform = run.house.spawn_all(1, settings);
    let second = run.house.spawn((Role::Pool, 1), &settings(Role::Pool));
    run.platform.services.insert((Role::Pool, 1), second);
    run.until_ready().await;
    let meddler = Meddler::start(&run.house.backends.broker_url(), &pools, dice).await;
    let figures = run.verdict().await;
    let (claimed, missed) = until_drained(&run, &meddler).await;

    assert_eq!(histories(&run), expected, "journals show what happened to messages");
    assert_eq!((figures.unknown, figures.forfeited), (0, 0), "{figures:?}");
    let calls = 2 * run.client.load.keyed + run.client.load.once + run.client.load.approved;
    assert_eq!(figures.deliveries, calls, "calls were repeated");
    let epochs = query(&run.record_url(), "SELECT sum(epoch) FROM tasks").expect("the record answers");
    assert_eq!(claimed.to_string(), epochs, "claims that nobody counted");
    let announcements = meddler.announcements();
    assert!(claimed + missed >= 2 * announcements, "nothing was repeated");
    println!("{announcements} announcements, {} deliveries: {claimed} claims, {missed} missed", claimed + missed);
    // What a pool held without acknowledging it would come back now.
    run.platform.stop().await;
    assert_eq!(meddler.waiting().await, 0, "deliveries were not acknowledged");
}

/// The tasks of the usual load when nothing happens to them.
async fn undisturbed() -> String {
    let mut run = Run::prepare_shared(|_| ()).await;
    run.platform = run.house.spawn_all(1, |_| vec![UNDISTURBED]);
    run.until_ready().await;
    run.verdict().await;
    let histories = histories(&run);
    run.platform.stop().await;
    histories
}

/// How each task went: its agent, status, claims, lost leases, and the length of its journal.
fn histories(run: &Run<()>) -> String {
    let sql = "SELECT agent, status, epoch, losses, (SELECT count(*) FROM steps WHERE place >> 20 = tasks.key) AS steps \
               FROM tasks ORDER BY 1, 2, 3, 4, 5";
    query(&run.record_url(), sql).expect("the record answers")
}

/// Waits until every delivery was taken, and each by one claim that was won or missed. Returns how many of each.
async fn until_drained(run: &Run<()>, meddler: &Meddler) -> (usize, usize) {
    let deadline = Instant::now() + DRAIN;
    loop {
        let (mut claimed, mut missed) = (0, 0);
        for (_, pool) in run.platform.services.iter().filter(|((role, _), _)| *role == Role::Pool) {
            let status = run.client.get(format!("{}/status", pool.url)).await.expect("a pool tells its numbers");
            claimed += status["runs"]["claimed"].as_u64().expect("a number") as usize;
            missed += status["runs"]["missed"].as_u64().expect("a number") as usize;
        }
        let (delivered, waiting) = (meddler.delivered(), meddler.waiting().await);
        if delivered == Some(claimed + missed) && waiting == 0 {
            return (claimed, missed);
        }
        let numbers = format!("{delivered:?} deliveries, {waiting} wait, {claimed} claims, {missed} missed");
        assert!(Instant::now() < deadline, "{numbers}\n{}", run.platform.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_a_task_may_run_longer_than_a_delivery_may_be_held() {
    let mut run = Run::prepare_impatient(TIMEOUT).await;
    // So few places that deliveries lie in a pool that cannot take them.
    let few = [UNDISTURBED, ("AGENT_POOL_CAPACITY", "2"), ("RABBITMQ_PREFETCH_COUNT", "4")];
    run.platform = run.house.spawn_all(1, |role| if role == Role::Pool { few.to_vec() } else { vec![UNDISTURBED] });
    run.until_ready().await;
    submit_slow(&mut run, "slower", 2).await;
    let holder = hold(&run).await;
    run.client.finish(&run.platform, DRAIN).await;
    until_nothing_is_slow(&run.client, &run.platform).await;
    holder.await.expect("whoever holds a delivery loses its channel");
    let timeouts = timeouts(&run);
    assert_eq!(timeouts.len(), 1, "a pool held a delivery for too long: {timeouts:?}");
    let slow = query(&run.record_url(), "SELECT count(*), max(epoch) FROM tasks WHERE agent = 'slower'");
    assert_eq!(slow.expect("the record answers"), "2|1", "a task that ran was claimed again");
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_deliveries_that_are_held_too_long_come_back_and_nothing_is_lost() {
    let mut run = Run::prepare_impatient(SHORT_TIMEOUT).await;
    run.platform = run.house.start(1).await;
    run.until_busy().await;
    let (_connection, channel) = meddler::connect(&run.house.backends.broker_url()).await;
    // A claim waits for the record, and its delivery for the claim.
    run.servers.postgres.pause();
    for id in run.client.tasks.values().filter_map(|(_, id)| id.clone()) {
        let hint = format!(r#"{{"v":1,"task":"{id}","mode":"autonomous","priority":5}}"#);
        meddler::publish(&channel, hint.as_bytes(), BasicProperties::default()).await;
    }
    tokio::time::sleep(2 * SHORT_TIMEOUT).await;
    run.servers.postgres.resume();
    run.client.finish(&run.platform, DRAIN).await;
    assert!(!timeouts(&run).is_empty(), "no delivery was held for too long:\n{}", run.platform.logs());
    let log = run.platform.get(Role::Pool).log();
    assert!(log.contains("consumer lost"), "the pool did not notice: {log}");
    run.verdict().await;
    run.platform.stop().await;
    assert_eq!(meddler::depth(&channel).await, 0, "deliveries were not acknowledged");
}

impl Run {
    /// Starts nothing but a RabbitMQ that wants deliveries back soon, and the rest that a run needs.
    async fn prepare_impatient(timeout: Duration) -> Self {
        let (servers, backends) = OwnServers::start().await;
        let program = format!(
            "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {LOOK_MS}).",
            timeout.as_millis()
        );
        servers.rabbitmq.control(&["eval", &program]).await;
        Self::prepare(servers, backends).await
    }
}

/// Takes a delivery of its own and holds it, until that costs its channel: so the limit does apply.
async fn hold(run: &Run) -> tokio::task::JoinHandle<()> {
    let (connection, channel) = meddler::connect(&run.house.backends.broker_url()).await;
    let (alone, none) =
        (QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() }, FieldTable::default);
    channel.queue_declare("held".into(), alone, none()).await.expect("a queue");
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), "held".into(), options, b"held", properties).await.expect("it is sent");
    let options = BasicConsumeOptions::default();
    let mut source = channel.basic_consume("held".into(), "holder".into(), options, none()).await.expect("a consumer");
    let held = source.next().await.expect("a delivery").expect("a delivery");
    tokio::spawn(async move {
        let deadline = Instant::now() + DRAIN;
        while channel.status().connected() {
            assert!(Instant::now() < deadline, "a delivery may be held as long as one likes");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop((held, source, connection));
    })
}

/// What RabbitMQ said of deliveries that were held for too long.
fn timeouts(run: &Run) -> Vec<String> {
    let log = run.servers.rabbitmq.log();
    log.lines().filter(|line| line.contains("has timed out waiting")).map(str::to_owned).collect()
}
