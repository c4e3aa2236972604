//! The hostile corpus: every case of `corpus.yml` is refused as it says, and leaves nothing behind.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::house::{House, Plan};
use crate::raw::{Answer, Body, Request};

/// One case. See the head of `corpus.yml` for what the fields mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    service: Service,
    send: String,
    #[serde(default)]
    headers: Vec<String>,
    body: Option<String>,
    hex: Option<String>,
    #[serde(default)]
    chunked: bool,
    declared: Option<u64>,
    expect: Vec<u16>,
    #[serde(rename = "type")]
    kind: Option<String>,
    at: Option<String>,
    #[serde(default)]
    bare: bool,
}

#[derive(Deserialize, Default, Clone, Copy)]
enum Service {
    #[default]
    #[serde(rename = "agent-orchestrator")]
    Orchestrator,
    #[serde(rename = "config-service")]
    Configs,
    #[serde(rename = "state-manager")]
    States,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "agent-orchestrator",
            Self::Configs => "config-service",
            Self::States => "state-manager",
        }
    }
}

/// Writes `<<unit*times>>` out; `#` in the unit is its number.
fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once("<<") else { return text.to_owned() };
    let (inner, after) = rest.split_once(">>").expect("<< is closed");
    let (unit, times) = inner.rsplit_once('*').expect("a number of times");
    let times: usize = times.parse().expect("a number");
    let middle = if unit.contains('#') {
        (0..times).map(|n| unit.replace('#', &n.to_string())).collect()
    } else {
        unit.repeat(times)
    };
    format!("{before}{middle}{}", expand(after))
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("a byte");
    digits.chunks(2).map(byte).collect()
}

/// What the cases speak of.
struct World {
    task: String,
    cursor: String,
}

impl Case {
    fn request(&self, world: &World) -> Request {
        let fill = |text: &str| expand(text).replace("{task}", &world.task).replace("{cursor}", &world.cursor);
        let send = fill(&self.send);
        let (method, path) = send.split_once(' ').expect("a method and a path");
        let mut request = Request::new(method, path);
        for header in &self.headers {
            let header = fill(header);
            let (name, value) = header.split_once(':').expect("a header");
            request = request.also(name, value.strip_prefix(' ').unwrap_or(value));
        }
        let body = self.body.as_deref().map(fill).map(String::into_bytes).or(self.hex.as_deref().map(from_hex));
        if let Some(body) = body {
            if !self.headers.iter().any(|header| header.starts_with("content-type")) {
                request = request.also("content-type", "application/json");
            }
            request = request.body(Body::bytes(body));
        }
        if self.chunked {
            request = request.in_chunks();
        }
        match self.declared {
            Some(length) => request.declared(length),
            None => request,
        }
    }

    /// What is wrong with an answer.
    fn judge(&self, answer: &Answer) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.expect.contains(&answer.status) {
            wrong.push(format!("answered {} {:.300}, not {:?}", answer.status, answer.body, self.expect));
        }
        if answer.header("access-control-allow-origin").is_some() {
            wrong.push("other origins may read the answer".to_owned());
        }
        if answer.status < 400 || self.bare {
            return wrong;
        }
        if answer.body.len() > 16_384 {
            wrong.push(format!("the answer has {} bytes", answer.body.len()));
        }
        let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let kind = problem["type"].as_str().unwrap_or_default();
        let named = kind.starts_with("/errors/") && problem["title"].is_string() && problem["trace_id"].is_string();
        if !named
            || answer.header("content-type") != Some("application/problem+json")
            || problem["status"] != answer.status
        {
            wrong.push(format!("is no problem: {answer:.500?}"));
        }
        if let Some(expected) = &self.kind
            && kind != format!("/errors/{expected}")
        {
            wrong.push(format!("is {kind}, not {expected}: {problem}"));
        }
        if let Some(place) = &self.at
            && !problem["errors"].as_array().is_some_and(|all| all.iter().any(|error| error["pointer"] == json!(place)))
        {
            wrong.push(format!("does not name {place}: {problem:.500}"));
        }
        wrong
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_refused_and_leave_nothing_behind() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("corpus.yml")).expect("the corpus is read");
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own");
    let house = House::new(Plan {
        agents: &[("writer", "name: writer\nmodel: scripted/writer\n")],
        dialogues: &[("writer", "turns:\n  - text: Done.\n")],
        ..Plan::default()
    })
    .await;
    let mut task = String::new();
    for _ in 0..3 {
        task = house.run("writer", "a task").await["id"].as_str().expect("an id").to_owned();
    }
    let (_, page) = house.get("agent-orchestrator", "/tasks?limit=1").await;
    let cursor = page["next_cursor"].as_str().expect("a cursor").to_owned();
    let world = World { task, cursor };
    let before = house.stored().await;
    let values = house.get("state-manager", "/states/notes").await;
    house.reset_peak();
    let settled = house.memory("VmRSS");

    let mut wrong = Vec::new();
    for case in &cases {
        let begun = Instant::now();
        let answer = case.request(&world).send(&house.url(case.service.name(), "")).await;
        // A second is promised; this machine may do other things meanwhile.
        if begun.elapsed() > Duration::from_secs(5) {
            wrong.push(format!("{}: took {:?}", case.name, begun.elapsed()));
        }
        wrong.extend(case.judge(&answer).into_iter().map(|what| format!("{}: {what}", case.name)));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let grown = house.memory("VmHWM").saturating_sub(settled);
    assert!(grown <= 64 << 20, "memory grew by {grown}");
    assert_eq!(house.stored().await, before, "nothing was recorded");
    assert_eq!(house.get("state-manager", "/states/notes").await, values);
    assert_eq!(house.run("writer", "still there?").await["status"], "succeeded");
    house.stop().await;
}
