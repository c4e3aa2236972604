//! Several copies of every service, and one that was thought dead.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::backends::OwnServers;
use crate::client::Load;
use crate::run::Run;
use crate::service::Role;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_two_of_every_service_share_the_work_and_one_of_each_may_die() {
    let (servers, backends) = OwnServers::start().await;
    let mut run = Run::prepare(servers, backends).await;
    run.platform = run.house.start(2).await;
    run.until_busy().await;
    for role in Role::ALL {
        let service = run.platform.services.get_mut(&(role, 1)).expect("it was started");
        service.kill().await;
        run.for_a_while(Duration::from_millis(200)).await;
        let again = run.house.spawn((role, 1), &[]);
        run.platform.services.insert((role, 1), again);
    }
    run.client.add(Load::USUAL);
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f05_a_pool_that_slept_longer_than_its_leases_writes_nothing_and_takes_new_work() {
    let mut run = Run::start().await;
    let url = run.platform.urls()[0].clone();
    for _ in 0..3 {
        let slow = json!({ "agent": "slow", "prompt": "slowly" });
        run.client.http.post(format!("{url}/tasks")).json(&slow).send().await.expect("it is accepted");
    }
    run.until_busy().await;
    let zombie = (Role::Pool, 0);
    for round in 0..3 {
        run.platform.services[&zombie].signal(Signal::STOP);
        let other = run.house.spawn((Role::Pool, 1), &[]);
        run.platform.services.insert((Role::Pool, 1), other);
        run.for_a_while(Duration::from_secs(6)).await;
        run.platform.services[&zombie].signal(Signal::CONT);
        run.client.add(Load { keyed: 2, once: 2, approved: 0, asker: 0 });
        run.for_a_while(Duration::from_secs(1)).await;
        let mut other = run.platform.services.remove(&(Role::Pool, 1)).expect("it runs");
        other.signal(Signal::TERM);
        assert_eq!(other.wait_exit().await.code(), Some(0), "round {round}: {}", other.log());
        // What the other one leaves and what is new is the zombie's alone.
        run.client.add(Load { keyed: 1, once: 1, approved: 0, asker: 0 });
        run.for_a_while(Duration::from_millis(500)).await;
    }
    let log = run.platform.services[&zombie].log();
    assert!(log.contains("lease"), "the sleeper never noticed: {log}");
    run.finish().await;
}
