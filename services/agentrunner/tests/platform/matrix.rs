//! Every point, killed and stopped in order, in the service that passes it.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::effect_sink::EffectSink;
use tokio::time::Instant;

use crate::backends::Backends;
use crate::client::{Client, Load};
use crate::house::{House, Platform};
use crate::service::{Role, Service};
use crate::verdict::{Allowed, check};

/// Promised is an end within 20 s of the restart; the machine that runs the tests may be slower.
pub(crate) const DRAIN: Duration = Duration::from_secs(60);

/// What a point needs beside the ordinary tasks to be reached at all.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    /// A run that is not renewed for a while, so that there is something to take.
    LostLease,
    /// A cancellation of a running task.
    Cancel,
    /// A task that waits for nothing but a timer: that of the others may not be the last thing for which they wait.
    Timer,
}

async fn crash_at(role: Role, point: &str, action: &str, hit: u32, needs: Needs) {
    let sink = EffectSink::start(None).await.expect("the sink starts");
    let backends = Backends::shared().await;
    let record = backends.postgres;
    let mut house = House::new(backends, &sink.address().to_string());
    let mut client = Client::new(&house.http, Load::USUAL);

    let crash = format!("{point}:{action}:{hit}");
    let plan = |of: Role| {
        let silent = (of == Role::Pool && needs == Needs::LostLease).then_some("C20:skip:20");
        let crash = (of == role).then_some(crash.as_str());
        [crash, silent].into_iter().flatten().collect::<Vec<_>>().join(",")
    };
    let plans: Vec<(Role, String)> = Role::ALL.into_iter().map(|of| (of, plan(of))).collect();
    let mut platform = house.spawn_all(1, |of| {
        let plan = plans.iter().find(|(role, _)| *role == of).map_or("", |(_, plan)| plan.as_str());
        if plan.is_empty() { Vec::new() } else { vec![("FAILPOINT", plan)] }
    });
    until_dead(&mut platform, &mut client, role, (point, action), needs).await;

    let again = house.spawn((role, 0), &[]);
    platform.services.insert((role, 0), again);
    client.finish(&platform, DRAIN).await;
    until_nothing_is_slow(&client, &platform).await;
    // What goes on to its next step is cut off by nothing, unless the only copy of the record's service is away for longer
    // than a lease.
    let orderly = action == "term" && role != Role::States && needs != Needs::LostLease;
    let allowed = if orderly { Allowed::Nothing } else { Allowed::Unknowns };
    check(&mut client, &house, &platform, &sink, record, allowed).await;
    platform.stop().await;
}

/// Works until the service is dead by its point.
async fn until_dead(
    platform: &mut Platform,
    client: &mut Client,
    role: Role,
    (point, action): (&str, &str),
    needs: Needs,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let urls = platform.urls();
    let mut slow = None;
    loop {
        let work = async {
            // First, so that it is what the first renewal finds.
            if needs != Needs::Nothing {
                run_slowly(client, &urls[0], &mut slow, needs).await;
            }
            if needs != Needs::LostLease || slow.is_some() {
                client.submit_all(&urls).await;
            }
            client.attend(&urls).await;
        };
        // Whoever asks a platform without its record waits for seconds, and the dead is wanted back at once.
        tokio::select! {
            () = work => {}
            () = until_ended(platform.get(role)) => {}
        }
        let service = platform.get(role);
        if let Some(status) = service.exited() {
            if action == "term" {
                assert_eq!(status.code(), Some(0), "SIGTERM at {point}: {}", service.log());
            }
            assert!(service.reached(point), "{point} was not why {} ended: {}", role.program(), service.log());
            return;
        }
        assert!(Instant::now() < deadline, "{point} not reached in time:\n{}", platform.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_ended(service: &mut Service) {
    while service.exited().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Keeps one slow task going, which is cancelled if that is what the point needs.
async fn run_slowly(client: &Client, url: &str, slow: &mut Option<String>, needs: Needs) {
    if slow.is_none() {
        let agent = if needs == Needs::Timer { "sleeper" } else { "slow" };
        let body = json!({ "agent": agent, "prompt": "slowly" });
        if let Ok(answer) = client.http.post(format!("{url}/tasks")).json(&body).send().await {
            *slow = answer.json::<Value>().await.ok().and_then(|view| Some(view["id"].as_str()?.to_owned()));
        }
    } else if needs == Needs::Cancel
        && let Some(id) = slow
        && client.get(format!("{url}/tasks/{id}")).await.is_some_and(|view| view["status"] == "running")
    {
        let _ = client.http.post(format!("{url}/tasks/{id}/cancel")).send().await;
    }
}

/// Waits until tasks that the client does not own have ended, too.
pub(crate) async fn until_nothing_is_slow(client: &Client, platform: &Platform) {
    let deadline = Instant::now() + DRAIN;
    let open = |task: &Value| ["queued", "running", "waiting"].iter().any(|status| task["status"] == *status);
    loop {
        // One question: a task could slip through between several.
        let list = client.get(format!("{}/tasks?limit=1000", platform.urls()[0])).await;
        let tasks = list.as_ref().and_then(|list| list["items"].as_array());
        if tasks.is_some_and(|tasks| !tasks.iter().any(open)) {
            return;
        }
        assert!(Instant::now() < deadline, "not everything has ended: {tasks:?}\n{}", platform.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

macro_rules! points {
    ($($name:ident: $role:ident $point:literal x $hit:literal needs $needs:ident;)*) => {
        $(mod $name {
            use super::{crash_at, Needs};
            use crate::service::Role;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn kill() {
                crash_at(Role::$role, $point, "kill", $hit, Needs::$needs).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn term() {
                crash_at(Role::$role, $point, "term", $hit, Needs::$needs).await;
            }
        })*
    };
}

points! {
    c01_submit_parsed: Orchestrator "C01" x 2 needs Nothing;
    c02_submit_in_transaction: States "C02" x 3 needs Nothing;
    c03_submit_committed_before_response: Orchestrator "C03" x 2 needs Nothing;
    c04_submit_before_announcement: Orchestrator "C04" x 3 needs Nothing;
    c05_before_announcement: Orchestrator "C05" x 4 needs Nothing;
    c05_before_announcement_of_sub_tasks: Pool "C05" x 2 needs Nothing;
    c06_published_before_confirm: Orchestrator "C06" x 5 needs Nothing;
    c07_confirmed_before_return: Orchestrator "C07" x 3 needs Nothing;
    c08_announced: Orchestrator "C08" x 4 needs Nothing;
    c09_hint_received: Pool "C09" x 3 needs Nothing;
    c10_claim_in_transaction: States "C10" x 4 needs Nothing;
    c10_claimed_before_acknowledgement: Pool "C10" x 4 needs Nothing;
    c11_before_first_step: Pool "C11" x 2 needs Nothing;
    c12_marked_before_call: Pool "C12" x 2 needs Nothing;
    c12_marked_before_later_call: Pool "C12" x 6 needs Nothing;
    c13_before_model_call: Pool "C13" x 5 needs Nothing;
    c14_answer_received_before_journal: Pool "C14" x 1 needs Nothing;
    c14_later_answer_received_before_journal: Pool "C14" x 9 needs Nothing;
    c15_journaled_before_next_step: Pool "C15" x 2 needs Nothing;
    c15_journaled_later_before_next_step: Pool "C15" x 8 needs Nothing;
    c16_inside_fan_out: States "C16" x 2 needs Nothing;
    c17_before_terminal_commit: States "C17" x 3 needs Nothing;
    c18_terminal_committed_before_event: Pool "C18" x 4 needs Nothing;
    c20_renewal: Pool "C20" x 1 needs LostLease;
    c21_timer_due: States "C21" x 1 needs Timer;
    c22_timer_resumed_before_hint: Orchestrator "C22" x 1 needs Timer;
    c23_signal_committed_before_wake: Orchestrator "C23" x 1 needs Nothing;
    c23_decision_committed_before_wake: Orchestrator "C23" x 3 needs Nothing;
    c27_lease_expiry_decided: Orchestrator "C27" x 1 needs LostLease;
    c27_lease_expiry_in_transaction: States "C27" x 1 needs LostLease;
    c28_lease_reaped_before_hint: Orchestrator "C28" x 1 needs LostLease;
    c29_cancel_accepted: Orchestrator "C29" x 1 needs Cancel;
    c30_cancel_delivered: Pool "C30" x 1 needs Cancel;
    c32_agent_validated: Configs "C32" x 2 needs Nothing;
    c33_agent_activated: Configs "C33" x 2 needs Nothing;
}
