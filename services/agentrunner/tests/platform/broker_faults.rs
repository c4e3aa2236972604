//! What brokers do to a platform: they are away, die, forget everything, lose a queue or an answer, or take nothing more.

use std::time::Duration;

use testkit::cutting_proxy::{Cut, CuttingProxy, Says};

use crate::backends::OwnServers;
use crate::matrix::DRAIN;
use crate::run::Run;
use crate::service::Role;

/// `basic.ack` of a broker: class 60, method 80.
const CONFIRM: &[u8] = &[0, 60, 0, 80];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_without_rabbitmq_at_the_start_tasks_are_accepted_and_run_when_it_comes() {
    let (mut servers, backends) = OwnServers::start().await;
    servers.rabbitmq.stop();
    let mut run = Run::prepare(servers, backends).await;
    run.platform = run.house.spawn_all(1, |_| Vec::new());
    let urls = run.platform.urls();
    let deadline = tokio::time::Instant::now() + DRAIN;
    while !run.client.submit_all(&urls).await {
        assert!(tokio::time::Instant::now() < deadline, "nothing is accepted:\n{}", run.platform.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let reason = run.platform.get(Role::Pool).ready(&run.house.http).await.expect_err("a pool cannot work");
    assert!(reason.contains("rabbitmq"), "{reason}");
    run.servers.rabbitmq.start_again().await;
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_without_nats_at_the_start_services_wait_for_it() {
    let (mut servers, backends) = OwnServers::start().await;
    servers.nats.stop();
    let mut run = Run::prepare(servers, backends).await;
    run.platform = run.house.spawn_all(1, |_| Vec::new());
    tokio::time::sleep(Duration::from_secs(2)).await;
    for service in run.platform.services.values_mut() {
        assert!(service.exited().is_none(), "a service ended: {}", service.log());
    }
    run.servers.nats.start_again().await;
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_rabbitmq_is_killed_and_comes_back() {
    let mut run = Run::start().await;
    run.until_busy().await;
    run.servers.rabbitmq.kill();
    run.for_a_while(Duration::from_secs(1)).await;
    run.servers.rabbitmq.start_again().await;
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_rabbitmq_nats_and_redis_forget_everything_while_tasks_run() {
    let mut run = Run::start().await;
    run.until_busy().await;
    tokio::join!(run.servers.rabbitmq.wipe(), run.servers.nats.wipe(), run.servers.redis.wipe());
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_confirmations_of_the_broker_are_lost() {
    let rabbitmq = testkit::servers::rabbitmq().await.port();
    let proxy = CuttingProxy::start(rabbitmq).await.expect("the proxy starts");
    let mut run = Run::prepare_shared(|backends| backends.rabbitmq = proxy.port()).await;
    run.platform = run.house.start(1).await;
    proxy.cut_at(Says::Server, CONFIRM, Cut::Before, 5);
    run.finish().await;
    assert!(proxy.cuts() > 0, "no confirmation passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f13_the_queues_are_deleted_while_tasks_run() {
    let mut run = Run::start().await;
    run.until_busy().await;
    let delete = format!(
        "[rabbit_amqqueue:delete(Q, false, false, <<\"test\">>) || Q <- rabbit_amqqueue:list(<<\"{}\">>)], ok.",
        run.house.backends.vhost
    );
    run.servers.rabbitmq.control(&["eval", &delete]).await;
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f14_a_memory_alarm_stops_announcements_and_tasks_are_accepted_all_the_same() {
    let mut run = Run::start().await;
    run.servers.rabbitmq.control(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
    let urls = run.platform.urls();
    let deadline = tokio::time::Instant::now() + DRAIN;
    while !run.client.submit_all(&urls).await {
        assert!(tokio::time::Instant::now() < deadline, "nothing is accepted:\n{}", run.platform.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run.for_a_while(Duration::from_secs(1)).await;
    run.servers.rabbitmq.control(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_rabbitmq_and_nats_fall_silent_with_open_connections() {
    let mut run = Run::start().await;
    run.until_busy().await;
    run.servers.rabbitmq.pause();
    run.servers.nats.pause();
    run.for_a_while(Duration::from_secs(6)).await;
    run.servers.rabbitmq.resume();
    run.servers.nats.resume();
    run.finish().await;
}
