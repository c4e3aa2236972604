//! Large inputs: what is allowed works, what is not is refused before it costs anything.

use serde_json::{Value, json};
use testkit::fake_openai::{FakeOpenAi, Reply};

use crate::house::{House, Plan};
use crate::raw::{Body, Request};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_of_a_mebibyte_works_from_end_to_end() {
    let model = FakeOpenAi::start().await;
    model.otherwise(|seen| Reply::text(&format!("{} bytes", seen.last_message().len())));
    let house = House::new(Plan {
        agents: &[
            ("echo", "name: echo\nmodel: scripted/echo\n"),
            ("reader", "name: reader\nmodel: openai/fake-large\n"),
        ],
        dialogues: &[("echo", "turns:\n  - text: \"{{prompt}}\"\n    chunks: 1\n")],
        openai: Some(model.base_url()),
        ..Plan::default()
    })
    .await;
    // Letters of several bytes, and characters that JSON escapes.
    let prompts = ["a".repeat(MIB), "é".repeat(MIB / 2), "\n\"\\\t".repeat(MIB / 4), "🦀".repeat(MIB / 4)];
    for prompt in &prompts {
        let task = house.run("echo", prompt).await;
        assert!(task["output"].as_str() == Some(prompt), "{} {}", task["status"], task["failure"]);
        let journal = house.journal(task["id"].as_str().expect("an id")).await;
        assert!(journal[0]["prompt"].as_str() == Some(prompt), "the journal keeps what was asked");
        let task = house.run("reader", prompt).await;
        assert_eq!(task["output"], json!(format!("{MIB} bytes")), "{}", task["failure"]);
    }
    let seen = model.requests();
    assert_eq!(seen.len(), prompts.len());
    assert!(seen.iter().zip(&prompts).all(|(seen, prompt)| seen.last_message() == prompt.as_str()));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_above_the_limit_is_refused_with_the_name_of_the_field() {
    let house = House::new(quick()).await;
    let before = house.stored().await;
    let long = "a".repeat(MIB + 1);
    let escaped = format!("x{}", "\n".repeat(MIB));
    for (field, body) in [
        ("/prompt", json!({ "agent": "quick", "prompt": long })),
        ("/prompt", json!({ "agent": "quick", "prompt": escaped })),
        ("/data", json!({ "agent": "quick", "prompt": "x", "data": "a".repeat(MIB - 1) })),
        ("/input/prompt", json!({ "agent": "quick", "input": { "prompt": long } })),
    ] {
        let (status, problem) = house.post("/tasks", &body).await;
        assert!([413, 422].contains(&status), "{field}: {status} {problem}");
        assert_eq!((&problem["type"], &problem["errors"][0]["pointer"]), (&json!("/errors/too-large"), &json!(field)));
        assert!(problem["errors"][0]["reason"].as_str().is_some_and(|reason| reason.contains("1048576")), "{problem}");
    }
    assert_eq!(house.stored().await, before, "nothing was recorded");
    let task = house.run("quick", &long[1..]).await;
    assert_eq!(task["status"], "succeeded");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_are_refused_before_anything_is_stored() {
    const HUNDRED: usize = 100_000_000;
    let house = House::new(quick()).await;
    for _ in 0..8 {
        // What a working platform takes is not to be counted as growth.
        house.run("quick", &"a".repeat(MIB)).await;
    }
    let before = house.stored().await;
    house.reset_peak();
    let settled = house.memory("VmRSS");

    let head = || Request::post("/tasks").header("content-type", "application/json");
    let body = || Body::repeat("{\"agent\":\"quick\",\"prompt\":\"", "a", HUNDRED, "\"}");
    let attacks = [
        ("declared", head().body(body())),
        ("as curl does", head().header("expect", "100-continue").body(body())),
        ("in chunks", head().body(body()).in_chunks()),
        ("declared 100 GB", head().body(Body::text("{")).declared(100_000_000_000)),
    ];
    for (name, attack) in attacks {
        for service in ["agent-orchestrator", "state-manager", "config-service"] {
            let (path, kind, method) = match service {
                "agent-orchestrator" => ("/tasks", "application/json", "POST"),
                "state-manager" => ("/states/notes/large", "application/json", "PUT"),
                _ => ("/configs/validate", "application/yaml", "POST"),
            };
            let request = attack.clone().to(method, path).header("content-type", kind);
            let answer = request.send(&house.url(service, "")).await;
            assert_eq!(answer.status, 413, "{name} to {service}: {}", answer.body);
            let problem: Value = serde_json::from_str(&answer.body).expect("a problem");
            assert_eq!(problem["type"], "/errors/body-too-large", "{name} to {service}");
        }
    }
    let peak = house.memory("VmHWM");
    assert!(peak.saturating_sub(settled) <= 64 << 20, "memory grew from {settled} to {peak}");
    assert_eq!(house.stored().await, before, "nothing was recorded");
    assert_eq!(house.run("quick", "still there?").await["status"], "succeeded");
    house.stop().await;
}

fn quick() -> Plan<'static> {
    Plan {
        agents: &[("quick", "name: quick\nmodel: scripted/quick\n")],
        dialogues: &[("quick", "turns:\n  - text: Done.\n")],
        ..Plan::default()
    }
}
