//! What the operations guide says works as it is written there.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::house::{House, Plan};
use crate::raw::{Body, Request};

async fn house() -> House {
    House::new(Plan {
        agents: &[
            ("my-agent", "name: my-agent\ndescription: Mine.\nmodel: scripted/quick\n"),
            ("asker", "name: asker\nmodel: scripted/asker\ntools: [ask]\n"),
        ],
        dialogues: &[
            ("quick", "turns:\n  - text: Done.\n"),
            ("asker", "turns:\n  - tool_calls: [{name: ask, arguments: {question: \"Well?\"}}]\n  - text: Well.\n"),
        ],
        ..Plan::default()
    })
    .await
}

/// The services and their addresses.
fn services(house: &House) -> Vec<(String, String)> {
    house.services().map(|(name, url)| (name.to_owned(), url.to_owned())).collect()
}

async fn text(house: &House, url: String) -> (u16, String, String) {
    let answer = house.http.get(url).send().await.expect("an answer");
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    (answer.status().as_u16(), kind, answer.text().await.expect("a body"))
}

/// What `jq` makes of a text; `None` where it is not installed.
fn jq(filter: &str, input: &str) -> Option<Value> {
    let mut command = Command::new("jq");
    command.args(["-c", filter]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take()?.write_all(input.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    assert!(output.status.success(), "jq {filter} fails on {input}");
    Some(
        serde_json::Deserializer::from_slice(&output.stdout)
            .into_iter::<Value>()
            .map(|value| value.expect("JSON"))
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_loop_over_the_services_says_alive() {
    let house = house().await;
    assert_eq!(house.services().count(), 4, "state-manager, config-service, agent-orchestrator, agent-pool");
    for (name, url) in services(&house) {
        let (status, kind, body) = text(&house, format!("{url}/health/live")).await;
        assert_eq!(
            (status, kind.as_str(), body.as_str()),
            (200, "application/json", r#"{"status":"alive"}"#),
            "{name}"
        );
        let (status, checks) = house.get(&name, "/health/ready").await;
        assert_eq!(status, 200, "{name}: {checks}");
        let checks = checks.as_object().expect("a map");
        assert!(checks.values().all(|check| check["status"] == "up"), "{name}: {checks:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_guide_work_as_written_there() {
    let house = house().await;
    let waiting = house.ask("asker", "ask").await;
    house.until_status(&waiting, "waiting").await;

    let (status, _, agents) = text(&house, house.tasks_url("/agents")).await;
    assert_eq!(status, 200);
    let list: Vec<Value> = serde_json::from_str(&agents).expect("an array");
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for agent in &list {
        assert!(agent["execution_mode"].is_string(), "{agent}");
        groups
            .entry(agent["status"].as_str().expect("a status"))
            .or_default()
            .push(agent["name"].as_str().expect("a name"));
    }
    assert_eq!(groups, BTreeMap::from([("idle", vec!["my-agent"]), ("waiting", vec!["asker"])]));
    if let Some(grouped) = jq("group_by(.status) | map(map(.name))", &agents) {
        assert_eq!(grouped, json!([[["my-agent"], ["asker"]]]));
    }

    let (_, _, configs) = text(&house, house.url("config-service", "/configs")).await;
    let names: Vec<Value> = serde_json::from_str::<Vec<Value>>(&configs).expect("an array");
    assert_eq!(names.iter().map(|config| &config["name"]).collect::<Vec<_>>(), ["asker", "my-agent"]);
    if let Some(names) = jq(".[] | .name", &configs) {
        assert_eq!(names, json!(["asker", "my-agent"]));
    }
    let (status, mine) = house.get("config-service", "/configs/my-agent").await;
    assert_eq!(
        (status, &mine["name"], &mine["description"], &mine["version"]),
        (200, &json!("my-agent"), &json!("Mine."), &json!(1))
    );
    let (status, problem) = house.get("config-service", "/configs/nobody").await;
    assert_eq!((status, &problem["type"]), (404, &json!("/errors/unknown-agent")));
    let (status, errors) = house.get("config-service", "/configs/errors").await;
    assert_eq!((status, &errors), (200, &json!([])));
    let (status, schema) = house.get("config-service", "/schema/agent.json").await;
    assert!(status == 200 && schema["properties"]["name"].is_object(), "{schema}");
    let (status, stats) = house.get("agent-orchestrator", "/metrics/pool-stats").await;
    assert_eq!(
        (status, &stats["tasks"]["waiting"], &stats["pools"][0]["execution_mode"]),
        (200, &json!(1), &json!("autonomous"))
    );
    house.stop().await;
}

/// Reads the Prometheus text format strictly: samples by name.
fn samples(text: &str) -> BTreeMap<String, usize> {
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':'))
    };
    let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            assert!(matches!(kind, "HELP" | "TYPE") && is_name(name), "{line}");
            if kind == "TYPE" {
                let word = words.next().unwrap_or_default();
                assert!(matches!(word, "counter" | "gauge" | "histogram" | "summary" | "untyped"), "{line}");
                assert!(types.insert(name.to_owned(), word.to_owned()).is_none(), "{name} has two types");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        assert!(value.parse::<f64>().is_ok() || matches!(value, "+Inf" | "-Inf" | "NaN"), "{line}");
        let (name, labels) = series.split_once('{').map_or((series, ""), |(name, labels)| (name, labels));
        assert!(is_name(name), "{line}");
        assert!(labels.is_empty() || labels.ends_with("\"}") && labels.matches('"').count() % 2 == 0, "{line}");
        *samples.entry(name.to_owned()).or_default() += 1;
    }
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_of_every_service_are_prometheus_text() {
    let house = house().await;
    assert_eq!(house.run("my-agent", "work").await["status"], "succeeded");
    for (name, url) in services(&house) {
        let (status, kind, body) = text(&house, format!("{url}/metrics")).await;
        assert!(status == 200 && kind.starts_with("text/plain; version=0.0.4"), "{name}: {status} {kind}");
        let samples = samples(&body);
        assert!(samples.keys().any(|sample| sample.starts_with("http_")), "{name}: {samples:?}");
        assert!(samples.contains_key("agent_model_calls_total"), "{name}: {samples:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_operation_exists_and_none_fails() {
    let house = house().await;
    let mut tried = 0;
    for (name, url) in services(&house) {
        let (status, kind, page) = text(&house, format!("{url}/docs/")).await;
        assert!(status == 200 && kind.starts_with("text/html") && page.contains("swagger"), "{name}: {status} {kind}");
        let (status, _, document) = text(&house, format!("{url}/openapi.json")).await;
        assert_eq!(status, 200, "{name}");
        let document: Value = serde_json::from_str(&document).expect("JSON");
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{name}");
        for (path, item) in document["paths"].as_object().expect("paths") {
            let place = path
                .replace("{task_id}", "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10")
                .replace("{thread_id}", "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c11")
                .replace("{scope}", "notes")
                .replace("{version}", "1")
                .replace("{call_id}", "call-0-0")
                .replace("{server}", "files")
                .replace("{*name}", "report.md")
                .replace("{name}", "my-agent")
                .replace("{agent}", "my-agent")
                .replace("{key}", "k");
            assert!(!place.contains('{'), "{name}: {path} has a parameter that this test does not know");
            for method in item.as_object().expect("operations").keys().filter(|key| *key != "parameters") {
                let method = method.to_uppercase();
                let mut request = Request::new(&method, &place);
                if matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
                    request = request.header("content-type", "application/json").body(Body::text("{}"));
                }
                let answer = request.send(&url).await;
                assert!((200..500).contains(&answer.status), "{name}: {method} {place}: {answer:?}");
                assert_ne!(answer.status, 405, "{name}: {method} {place}");
                assert!(!answer.body.contains("/errors/not-found\""), "{name}: {method} {place}: {answer:?}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 25, "{tried} operations are documented");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_problem_has_a_page() {
    let house = house().await;
    let (_, problem) = house.get("agent-orchestrator", "/tasks/nonsense").await;
    let kind = problem["type"].as_str().expect("a type").to_owned();
    for (name, url) in services(&house) {
        let (status, kind, page) = text(&house, format!("{url}{kind}")).await;
        assert!(status == 200 && kind.starts_with("text/markdown") && page.contains("What to do"), "{name}: {page}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_hosts_and_origins_are_refused_by_every_service() {
    let house = house().await;
    let before = house.stored().await;
    for (name, url) in services(&house) {
        for host in ["evil.example", "localhost.evil.example:8003", ""] {
            let answer = Request::new("GET", "/health/live").header("host", host).send(&url).await;
            assert!([400, 421].contains(&answer.status), "{name}, {host:?}: {answer:?}");
        }
        for origin in ["http://evil.example", "null", "http://localhost:1"] {
            let (method, path) = match name.as_str() {
                "state-manager" => ("PUT", "/states/notes/k"),
                "config-service" => ("POST", "/configs/validate"),
                _ => ("POST", "/tasks"),
            };
            let body = Body::text(r#"{"agent":"my-agent","prompt":"x"}"#);
            let request =
                Request::new(method, path).header("origin", origin).header("content-type", "application/json");
            let answer = request.body(body).send(&url).await;
            assert_eq!(answer.status, 403, "{name}, {origin}: {answer:?}");
            assert!(answer.body.contains("/errors/foreign-origin"), "{answer:?}");
            let read = Request::new("GET", "/health/live").header("origin", origin).send(&url).await;
            assert_eq!(read.header("access-control-allow-origin"), None, "{name}: no page may read it");
        }
    }
    assert_eq!(house.stored().await, before);
    house.stop().await;
}
