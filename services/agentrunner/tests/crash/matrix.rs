//! Every point, killed and stopped in order.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::effect_sink::EffectSink;
use tokio::time::Instant;

use crate::history::{
    Told, check_approved, check_budget, check_counts, check_journal, check_keyed, check_once, journaled,
};
use crate::platform::{Home, Platform};

/// Promised is an end within 20 s of the restart; the machine that runs the tests may be slower.
const DRAIN: Duration = Duration::from_secs(60);
const KEYED: usize = 3;
const ONCE: usize = 3;
const APPROVED: usize = 2;
/// Tasks of the agent `once` that may run at once.
const GATE: usize = 2;
/// Who allows the calls.
const PERSON: &str = "kim";

/// A client that keeps its promises: the same key for the same task, until it is answered.
struct Client {
    http: reqwest::Client,
    tasks: BTreeMap<String, (Value, Option<String>)>,
    /// The most tasks of the agent with a gate that were seen running at once.
    most: usize,
}

impl Client {
    fn new() -> Self {
        common::tls::install();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
        let mut tasks = BTreeMap::new();
        for (agent, count) in [("keyed", KEYED), ("once", ONCE), ("approved", APPROVED), ("asker", 1)] {
            for n in 0..count {
                tasks.insert(format!("{agent}-{n}"), (json!({ "agent": agent, "prompt": format!("task {n}") }), None));
            }
        }
        Self { http, tasks, most: 0 }
    }

    /// Submits what was not answered yet; false when the platform does not answer.
    async fn submit_all(&mut self, url: &str) -> bool {
        for (key, (body, id)) in &mut self.tasks {
            if id.is_some() {
                continue;
            }
            let sent = self.http.post(format!("{url}/tasks")).header("idempotency-key", key.as_str()).json(body).send();
            let Ok(answer) = sent.await else { return false };
            let status = answer.status();
            let Ok(view) = answer.json::<Value>().await else { return false };
            if status.as_u16() == 404 {
                // The agents' files are read while the platform starts.
                return false;
            }
            assert!(status.is_success(), "{key}: {status} {view}");
            *id = Some(view["id"].as_str().expect("an id").to_owned());
        }
        true
    }

    async fn get(&self, url: String) -> Option<Value> {
        let answer = self.http.get(url).send().await.ok()?;
        answer.status().is_success().then_some(())?;
        answer.json().await.ok()
    }

    /// Answers the question of the task that asks.
    async fn answer_question(&self, url: &str) {
        let Some(id) = self.tasks["asker-0"].1.clone() else { return };
        if self.get(format!("{url}/tasks/{id}")).await.is_some_and(|view| view["status"] == "waiting") {
            let body = json!({ "name": "answer", "value": "yes" });
            let _ = self.http.post(format!("{url}/tasks/{id}/signal")).json(&body).send().await;
        }
    }

    /// Allows the calls that wait for a person, again until the platform has said that it knows.
    async fn allow_calls(&self, url: &str) {
        for n in 0..APPROVED {
            let Some(id) = &self.tasks[&format!("approved-{n}")].1 else { continue };
            let Some(view) = self.get(format!("{url}/tasks/{id}")).await else { return };
            let wait = &view["waiting_for"][0];
            if view["status"] != "waiting" || wait["kind"] != "approval" {
                continue;
            }
            let call = wait["call_id"].as_str().expect("a call");
            let body = json!({ "decision": "approve", "digest": wait["digest"], "by": PERSON });
            let sent = self.http.post(format!("{url}/tasks/{id}/approvals/{call}")).json(&body).send();
            let Ok(answer) = sent.await else { return };
            let status = answer.status();
            assert!(status.is_success() || status.is_server_error(), "{status} {:?}", answer.text().await);
        }
    }

    /// Looks how many tasks run that a gate counts.
    async fn look(&mut self, url: &str) {
        if let Some(list) = self.get(format!("{url}/tasks?status=running&agent=once&limit=1000")).await {
            self.most = self.most.max(list["items"].as_array().map_or(0, Vec::len));
        }
    }

    /// What a person does beside submitting tasks.
    async fn attend(&mut self, url: &str) {
        self.answer_question(url).await;
        self.allow_calls(url).await;
        self.look(url).await;
    }

    async fn all_ended(&self, url: &str) -> bool {
        for (_, id) in self.tasks.values() {
            let Some(id) = id else { return false };
            let Some(view) = self.get(format!("{url}/tasks/{id}")).await else { return false };
            if !["succeeded", "failed", "cancelled"].contains(&view["status"].as_str().unwrap_or("?")) {
                return false;
            }
        }
        true
    }

    async fn told(&self, url: &str, id: &str) -> Told {
        let view = self.get(format!("{url}/tasks/{id}")).await.expect("the task");
        let journal = self.get(format!("{url}/tasks/{id}/journal?limit=1000")).await.expect("its journal");
        let steps = journal.get("items").unwrap_or(&journal).as_array().expect("a list").clone();
        Told { view, journal: steps }
    }
}

/// What a point needs beside the ordinary tasks to be reached at all.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    /// A run that is not renewed for a while, so that the reaper has something to take.
    LostLease,
    /// A cancellation of a running task.
    Cancel,
}

async fn crash_at(point: &str, action: &str, hit: u32, needs: Needs) {
    let sink = EffectSink::start(None).await.expect("the sink starts");
    let home = Home::new(&sink.address().to_string());
    let mut plan = format!("{point}:{action}:{hit}");
    if needs == Needs::LostLease {
        plan.push_str(",C20:skip:20");
    }
    let mut client = Client::new();
    let started = home.start(Some(&plan)).await;
    let reached = match started {
        // It died before it listened, at a point that it passes while it starts.
        Err(_) => true,
        Ok(platform) => until_dead(platform, &mut client, point, action, needs).await,
    };
    assert!(reached, "point {point} was never passed");

    let platform = home.start(None).await.expect("it starts again");
    let deadline = Instant::now() + DRAIN;
    loop {
        let submitted = client.submit_all(&platform.url).await;
        client.attend(&platform.url).await;
        if submitted && client.all_ended(&platform.url).await {
            break;
        }
        assert!(Instant::now() < deadline, "not everything ended: {}", platform.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What goes on to its next step is cut off by nothing.
    let orderly = action == "term" && needs != Needs::LostLease;
    check(&client, &platform, &sink, orderly).await;
    platform.stop().await;
}

/// Works until the platform is dead; true when the point was the reason.
async fn until_dead(mut platform: Platform, client: &mut Client, point: &str, action: &str, needs: Needs) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut slow = None;
    loop {
        // First, so that it is what the first renewal finds.
        if needs != Needs::Nothing {
            run_slowly(client, &platform.url, &mut slow, needs).await;
        }
        if needs != Needs::LostLease || slow.is_some() {
            client.submit_all(&platform.url).await;
        }
        client.attend(&platform.url).await;
        if let Some(status) = platform.exited() {
            if action == "term" {
                assert_eq!(status.code(), Some(0), "SIGTERM at {point}: {}", platform.log());
            }
            return platform.reached(point);
        }
        assert!(Instant::now() < deadline, "{point} not reached in time: {}", platform.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Keeps one slow task running, which is cancelled if that is what the point needs.
async fn run_slowly(client: &Client, url: &str, slow: &mut Option<String>, needs: Needs) {
    if slow.is_none() {
        let body = json!({ "agent": "slow", "prompt": "slowly" });
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

async fn check(client: &Client, platform: &Platform, sink: &EffectSink, orderly: bool) {
    let mut problems = Vec::new();
    let listed = client.get(format!("{}/tasks?limit=1000", platform.url)).await.expect("a list");
    let listed = listed["items"].as_array().expect("items").clone();
    for agent in ["keyed", "once", "approved", "asker"] {
        let expected = client.tasks.keys().filter(|key| key.starts_with(agent)).count();
        let found = listed.iter().filter(|task| task["agent"] == agent).count();
        if found != expected {
            problems.push(format!("{found} tasks of {agent} instead of {expected}"));
        }
    }
    let (mut once, mut keyed) = (Vec::new(), Vec::new());
    for (key, (_, id)) in &client.tasks {
        let told = client.told(&platform.url, id.as_deref().expect("submitted")).await;
        check_journal(&told, &mut problems);
        match key.split('-').next() {
            Some("keyed") => {
                check_counts(&told, 3, 5, &mut problems);
                keyed.push(told);
            }
            Some("asker") => check_counts(&told, 2, 1, &mut problems),
            Some("approved") => {
                check_approved(&told, PERSON, &mut problems);
                once.push(told);
            }
            _ => once.push(told),
        }
    }
    let children: Vec<&Value> = listed.iter().filter(|task| task["agent"] == "child").collect();
    if children.len() != 2 * KEYED {
        problems.push(format!("{} sub-tasks instead of {}", children.len(), 2 * KEYED));
    }
    for child in children.into_iter().chain(listed.iter().filter(|task| task["agent"] == "slow")) {
        let told = client.told(&platform.url, child["id"].as_str().expect("an id")).await;
        if told.view["agent"] == "child" {
            check_counts(&told, 1, 0, &mut problems);
            check_journal(&told, &mut problems);
            keyed.push(told);
        }
    }
    let beyond = check_budgets(client, platform, &once, &keyed, &mut problems).await;
    if client.most > GATE {
        problems.push(format!("{} tasks ran at once where {GATE} may", client.most));
    }
    let deliveries: Vec<_> = sink.deliveries().into_iter().map(|entry| (entry.path, entry.key)).collect();
    check_keyed(&deliveries, "/keyed/a", KEYED, &mut problems);
    check_keyed(&deliveries, "/keyed/b", KEYED, &mut problems);
    check_once(&deliveries, &once.iter().collect::<Vec<_>>(), &mut problems);
    let count = |path: &str| deliveries.iter().filter(|(at, _)| at.starts_with(path)).count();
    let unknown = once.iter().filter(|task| task.view["status"] == "failed").count();
    if orderly && (unknown, beyond) != (0, 0) {
        problems.push(format!("an orderly stop cut off {unknown} calls and {beyond} answers"));
    }
    // Shown for a test that fails, and with `--no-capture` for those who want the figures of the whole matrix.
    println!(
        "figures: once {} delivered of {}, {unknown} unknown; keyed {}; {beyond} calls forfeited; {} ran at once",
        count("/once"),
        once.len(),
        count("/keyed"),
        client.most
    );
    assert!(problems.is_empty(), "{}\n{}", problems.join("\n"), platform.log());
}

/// All that was reserved is settled, and what is spent lies between what the journals say and the limits. Returns the
/// model calls that are spent beyond those of the journals.
async fn check_budgets(
    client: &Client,
    platform: &Platform,
    once: &[Told],
    keyed: &[Told],
    problems: &mut Vec<String>,
) -> u64 {
    let mut beyond = 0;
    for task in once {
        let id = task.view["id"].as_str().expect("an id");
        let accounts = client.get(format!("{}/tasks/{id}/budget", platform.url)).await.expect("its budget");
        beyond += check_budget(task, &accounts, problems);
    }
    let accounts = client.get(format!("{}/budgets", platform.url)).await.expect("the accounts");
    for account in accounts.as_array().expect("a list") {
        let reserved = &account["reserved"];
        if ["tokens", "model_calls", "tool_calls"].iter().any(|what| reserved[what] != 0) {
            problems.push(format!("something is still reserved: {account}"));
        }
    }
    let account = accounts.as_array().and_then(|all| all.iter().find(|account| account["account"] == "agent/keyed"));
    // What was used before the full hour stands in another window.
    let since = account.and_then(|account| account["since"].as_str()).unwrap_or("9");
    if keyed.iter().any(|task| task.view["created_at"].as_str().unwrap_or("0") < since) {
        return beyond;
    }
    let spent = |what: &str| account.and_then(|account| account["spent"][what].as_u64()).unwrap_or(0);
    let (tokens, answers) = journaled(keyed);
    // A tool call is paid once for ever, however often a crash has it repeated.
    if spent("tokens") < tokens || spent("model_calls") < answers || spent("tool_calls") != 5 * KEYED as u64 {
        problems.push(format!("{tokens} tokens and {answers} answers are journaled, but: {account:?}"));
    }
    beyond + spent("model_calls").saturating_sub(answers)
}

macro_rules! points {
    ($($name:ident: $point:literal x $hit:literal needs $needs:ident;)*) => {
        $(mod $name {
            use super::{crash_at, Needs};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn kill() {
                crash_at($point, "kill", $hit, Needs::$needs).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn term() {
                crash_at($point, "term", $hit, Needs::$needs).await;
            }
        })*
    };
}

points! {
    c01_submit_parsed: "C01" x 2 needs Nothing;
    c02_submit_in_transaction: "C02" x 3 needs Nothing;
    c03_submit_committed_before_response: "C03" x 2 needs Nothing;
    c04_submit_before_announcement: "C04" x 3 needs Nothing;
    c05_before_announcement: "C05" x 4 needs Nothing;
    c06_announced: "C06" x 5 needs Nothing;
    c09_hint_received: "C09" x 3 needs Nothing;
    c10_claimed: "C10" x 4 needs Nothing;
    c11_before_first_step: "C11" x 2 needs Nothing;
    c12_marked_before_call: "C12" x 2 needs Nothing;
    c12_marked_before_later_call: "C12" x 6 needs Nothing;
    c13_before_model_call: "C13" x 5 needs Nothing;
    c14_answer_received_before_journal: "C14" x 1 needs Nothing;
    c14_later_answer_received_before_journal: "C14" x 9 needs Nothing;
    c15_journaled_before_next_step: "C15" x 2 needs Nothing;
    c15_journaled_later_before_next_step: "C15" x 8 needs Nothing;
    c16_inside_fan_out: "C16" x 2 needs Nothing;
    c17_before_terminal_commit: "C17" x 3 needs Nothing;
    c18_terminal_committed_before_event: "C18" x 4 needs Nothing;
    c20_renewal: "C20" x 1 needs LostLease;
    c21_timer_due: "C21" x 1 needs Nothing;
    c22_timer_resumed_before_hint: "C22" x 1 needs Nothing;
    c23_signal_committed_before_wake: "C23" x 1 needs Nothing;
    c23_decision_committed_before_wake: "C23" x 3 needs Nothing;
    c27_lease_expiry_decided: "C27" x 1 needs LostLease;
    c28_lease_reaped_before_hint: "C28" x 1 needs LostLease;
    c29_cancel_accepted: "C29" x 1 needs Cancel;
    c30_cancel_delivered: "C30" x 1 needs Cancel;
    c32_agent_validated: "C32" x 2 needs Nothing;
    c33_agent_activated: "C33" x 2 needs Nothing;
}
