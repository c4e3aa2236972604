//! The REST API.

use serde_json::Value;

use super::house::{House, agent};

#[tokio::test]
async fn agents_are_listed_by_name_as_a_plain_array() {
    let house = House::with(&[
        ("b.yaml", &agent("beta", "second")),
        ("a.yml", "name: alpha\nmodel: openai/x\ntools: [now]\n"),
        ("notes.txt", "not an agent"),
        (".hidden.yml", "name: hidden\n"),
        ("a.yml~", "name: backup\n"),
    ])
    .await;
    let (status, body) = house.get("/configs").await;
    assert_eq!(status, 200);
    let names: Vec<&str> = body.as_array().expect("an array").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["alpha", "beta"]);
    let first = &body[0];
    assert_eq!(first["version"], 1);
    assert_eq!(first["status"], "ok");
    assert_eq!(first["file"], "a.yml");
    assert_eq!(first["execution_mode"], "autonomous");
    assert_eq!(first["model"], "openai/x");
    assert_eq!(first["tools"], serde_json::json!(["now"]));
    house.stop().await;
}

#[tokio::test]
async fn an_agent_is_shown_with_its_defaults() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    let (status, body) = house.get("/configs/alpha").await;
    assert_eq!(status, 200);
    assert_eq!(body["spec"]["limits"]["max_steps"], 32);
    assert_eq!(body["spec"]["model"]["name"], "default");
    assert!(body["digest"].as_str().is_some_and(|digest| digest.len() == 64));
    assert!(body.get("errors").is_none());
    let (status, body) = house.get("/configs/nobody").await;
    assert_eq!((status, &body["type"]), (404, &Value::from("/errors/unknown-agent")));
    let (status, _) = house.get("/configs/Not%20A%20Name").await;
    assert_eq!(status, 400);
    house.stop().await;
}

#[tokio::test]
async fn versions_are_numbered_and_never_change() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    for (number, description) in [(2, "second"), (3, "third")] {
        house.write("a.yml", agent("alpha", description));
        assert_eq!(house.until_says("alpha", description).await["version"], number);
    }
    // A comment changes the file but not what it says.
    house.write("a.yml", format!("# a comment\n{}", agent("alpha", "third")));
    house.write("b.yml", agent("beta", "other"));
    house.until_says("beta", "other").await;

    let (_, versions) = house.get("/configs/alpha/versions").await;
    let shown: Vec<(u64, bool)> = versions
        .as_array()
        .expect("an array")
        .iter()
        .map(|one| (one["version"].as_u64().expect("a number"), one["active"] == true))
        .collect();
    assert_eq!(shown, [(3, true), (2, false), (1, false)]);
    let (_, older) = house.get("/configs/alpha/versions?before=3&limit=1").await;
    assert_eq!((older.as_array().map(Vec::len), &older[0]["version"]), (Some(1), &Value::from(2)));
    let (_, one) = house.get("/configs/alpha/versions?version=1").await;
    assert_eq!((one.as_array().map(Vec::len), &one[0]["version"]), (Some(1), &Value::from(1)));
    let (status, first) = house.get("/configs/alpha/versions/1").await;
    assert_eq!((status, &first["spec"]["description"]), (200, &Value::from("first")));
    let (status, body) = house.get("/configs/alpha/versions/9").await;
    assert_eq!((status, &body["type"]), (404, &Value::from("/errors/unknown-version")));
    let (status, _) = house.get("/configs/alpha/versions?versoin=1").await;
    assert_eq!(status, 400);
    house.stop().await;
}

#[tokio::test]
async fn a_text_is_checked_without_being_published() {
    let house = House::with(&[]).await;
    for media in ["application/yaml", "text/plain; charset=utf-8", "text/yaml"] {
        let (status, body) = house.post("/configs/validate", media, agent("alpha", "x")).await;
        assert_eq!((status, &body["valid"], &body["spec"]["name"]), (200, &Value::Bool(true), &Value::from("alpha")));
    }
    let wrong = "name: a\nlimits:\n    max_stepz: 5\n";
    let (status, body) = house.post("/configs/validate?file=a.yml", "application/yaml", wrong).await;
    assert_eq!(status, 422);
    assert_eq!(body["type"], "/errors/invalid-agent");
    assert_eq!(body["detail"], "a.yml:3:5: limits.max_stepz: unknown field; did you mean max_steps?");
    let error = &body["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&Value::from(3), &Value::from(5)));
    assert_eq!(error["path"], "limits.max_stepz");
    assert_eq!(error["pointer"], "/limits/max_stepz");
    assert_eq!(error["reason"], "unknown field");
    assert_eq!(error["hint"], "did you mean max_steps?");
    assert!(body["trace_id"].as_str().is_some_and(|id| id.len() == 32));

    let text = "name: a\ntools: [delegate]\ndelegates: [writer]\n";
    let (status, body) = house.post("/configs/validate", "application/yaml", text).await;
    assert_eq!((status, &body["warnings"][0]["path"]), (200, &Value::from("delegates[0]")));
    assert_eq!(body["warnings"][0]["line"], 3);

    let (status, _) = house.post("/configs/validate", "application/x-www-form-urlencoded", "name: a").await;
    assert_eq!(status, 415);
    let (status, _) = house.post("/configs/validate", "application/yaml", vec![b'#'; 1024 * 1024 + 1]).await;
    assert_eq!(status, 413);
    assert_eq!(house.get("/configs").await.1, serde_json::json!([]));
    house.stop().await;
}

#[tokio::test]
async fn the_schema_health_and_documentation_are_served() {
    let house = House::with(&[("a.yml", &agent("alpha", "x"))]).await;
    let answer = reqwest::get(house.url("/schema/agent.json")).await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/schema+json");
    assert_eq!(answer.json::<Value>().await.expect("JSON"), domain::agent::json_schema());
    assert_eq!(house.get("/health/live").await, (200, serde_json::json!({ "status": "alive" })));
    let (status, ready) = house.get("/health/ready").await;
    assert_eq!(status, 200, "{ready}");
    assert!(ready.to_string().contains("agents") && ready.to_string().contains("state"), "{ready}");
    let (_, api) = house.get("/openapi.json").await;
    for path in ["/configs", "/configs/{name}", "/configs/{name}/versions", "/configs/{name}/versions/{version}"] {
        assert!(api["paths"].get(path).is_some(), "{path}");
    }
    for path in ["/configs/validate", "/configs/errors", "/schema/agent.json"] {
        assert!(api["paths"].get(path).is_some(), "{path}");
    }
    house.stop().await;
}
