//! Several copies of every service, and one that was thought dead.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use testkit::servers::query;
use tokio::time::Instant;

use crate::client::Load;
use crate::matrix::DRAIN;
use crate::run::Run;
use crate::service::Role;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_two_of_every_service_share_the_work_and_one_of_each_may_die() {
    let mut run = Run::start_shared(2).await;
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
    let mut run = Run::start_shared(1).await;
    let (zombie, other) = ((Role::Pool, 0), (Role::Pool, 1));
    for round in 0..2 {
        // Words that take longer than a lease: the sleeper wakes up in the middle of an answer.
        let held = run_slowly(&mut run, 3).await;
        run.platform.services[&zombie].signal(Signal::STOP);
        let successor = run.house.spawn(other, &[]);
        run.platform.services.insert(other, successor);
        run.client.add(Load { keyed: 1, once: 1, approved: 0, asker: 0 });
        until_taken_over(&mut run, &held).await;
        run.platform.services[&zombie].signal(Signal::CONT);
        run.for_a_while(Duration::from_secs(1)).await;
        let mut successor = run.platform.services.remove(&other).expect("it runs");
        successor.signal(Signal::TERM);
        assert_eq!(successor.wait_exit().await.code(), Some(0), "round {round}: {}", successor.log());
        // What the other one leaves and what is new is the sleeper's alone.
        run.client.add(Load { keyed: 1, once: 1, approved: 0, asker: 0 });
        run.client.finish(&run.platform, DRAIN).await;
    }
    let log = run.platform.services[&zombie].log();
    assert!(log.contains("lease lost"), "the sleeper never noticed: {log}");
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f05_a_pool_whose_renewals_never_leave_it_writes_nothing_after_its_leases() {
    let mut run = Run::prepare_shared(|_| ()).await;
    run.platform = run.house.spawn_all(1, |role| {
        // It does not hear of its loss either: only the record can refuse what it writes.
        if role == Role::Pool { vec![("FAILPOINT", "C20:skip:1000000")] } else { Vec::new() }
    });
    let held = run_slowly(&mut run, 2).await;
    let other = (Role::Pool, 1);
    let successor = run.house.spawn(other, &[]);
    run.platform.services.insert(other, successor);
    until_taken_over(&mut run, &held).await;
    run.for_a_while(Duration::from_secs(5)).await;
    let mut deaf = run.platform.services.remove(&(Role::Pool, 0)).expect("it runs");
    assert!(deaf.exited().is_none(), "it ended: {}", deaf.log());
    assert!(deaf.log().contains("lease lost"), "nothing of it was refused: {}", deaf.log());
    deaf.kill().await;
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_a_copy_of_the_records_service_dies_with_a_renewal_and_no_lease_is_lost() {
    let mut run = Run::start_shared(1).await;
    let name = (Role::States, 1);
    let mut copy = run.house.spawn(name, &[("FAILPOINT", "C20:kill:2")]);
    assert!(copy.wait_ready(&run.house.http).await, "it ended: {}", copy.log());
    run.platform.services.insert(name, copy);
    // Which copy is asked is chance.
    while run.platform.services.get_mut(&name).expect("it was started").exited().is_none() {
        let held = submit_slow(&mut run, "slow", 3).await;
        until(&mut run, &format!("SELECT count(*) = 0 FROM tasks WHERE id IN ({}) AND status < 3", list(&held))).await;
    }
    run.platform.services.remove(&name);
    let lost = query(&run.record_url(), "SELECT count(*) FROM tasks WHERE agent = 'slow' AND epoch > 1");
    assert_eq!(lost.expect("the record answers"), "0", "runs were lost with a copy: {}", run.platform.logs());
    run.finish().await;
}

/// Submits tasks that take seconds, and waits until all of them are run. Returns their ids.
async fn run_slowly(run: &mut Run<()>, count: usize) -> Vec<String> {
    let ids = submit_slow(run, "slow", count).await;
    until(run, &format!("SELECT count(*) = {count} FROM tasks WHERE id IN ({}) AND status = 1", list(&ids))).await;
    ids
}

/// Submits tasks that take seconds. Returns their ids.
pub(crate) async fn submit_slow<S>(run: &mut Run<S>, agent: &str, count: usize) -> Vec<String> {
    let url = run.platform.urls()[0].clone();
    run.client.submit_all(std::slice::from_ref(&url)).await;
    let deadline = Instant::now() + DRAIN;
    let mut ids = Vec::new();
    while ids.len() < count {
        let body = json!({ "agent": agent, "prompt": "slowly" });
        let view = match run.client.http.post(format!("{url}/tasks")).json(&body).send().await {
            Ok(answer) if answer.status().is_success() => answer.json::<serde_json::Value>().await.ok(),
            // Agents are read while the platform starts.
            _ => None,
        };
        ids.extend(view.and_then(|view| Some(view["id"].as_str()?.to_owned())));
        assert!(Instant::now() < deadline, "slow tasks are not accepted:\n{}", run.platform.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ids
}

/// Waits until another worker has claimed what the sleeper held.
async fn until_taken_over(run: &mut Run<()>, held: &[String]) {
    until(run, &format!("SELECT count(*) = {} FROM tasks WHERE id IN ({}) AND epoch > 1", held.len(), list(held)))
        .await;
}

fn list(ids: &[String]) -> String {
    ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",")
}

async fn until(run: &mut Run<()>, question: &str) {
    let deadline = Instant::now() + DRAIN;
    let url = run.record_url();
    while query(&url, question).expect("the record answers") != "t" {
        run.for_a_while(Duration::from_millis(100)).await;
        assert!(Instant::now() < deadline, "never: {question}\n{}", run.platform.logs());
    }
}
