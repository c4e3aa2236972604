//! Versioned values.

use std::time::Duration;

use domain::Namespace;
use reqwest::Method;
use serde_json::{Value, json};
use state::PutCondition;

use crate::service::Service;

#[tokio::test]
async fn a_value_is_read_as_it_was_put() {
    let service = Service::start().await;
    let put = service.put("/states/notes/a", &[], r#"{"n":[1,2.5,"ü"],"deep":{"x":null}}"#).await;
    assert_eq!((put.status, put.etag()), (201, "\"1\""));
    assert_eq!(put.body, json!({"key": "a", "version": 1, "updated_at": "2026-05-09T12:00:00Z"}));
    let got = service.get("/states/notes/a").await;
    assert_eq!((got.status, got.etag()), (200, "\"1\""));
    assert_eq!(got.body, json!({"n": [1, 2.5, "ü"], "deep": {"x": null}}));
    assert_eq!(got.headers["last-modified"], "Sat, 09 May 2026 12:00:00 GMT");
    let again = service.put("/states/notes/a", &[], "7").await;
    assert_eq!((again.status, again.etag()), (200, "\"2\""));
    service.get("/states/other/a").await.is_problem(404, "unknown-value");
    service.stop().await;
}

#[tokio::test]
async fn a_write_with_a_condition_never_overwrites_what_it_has_not_seen() {
    let service = Service::start().await;
    let path = "/states/notes/a";
    service.put(path, &[("if-match", "\"1\"")], "0").await.is_problem(412, "version-mismatch");
    service.put(path, &[("if-match", "*")], "0").await.is_problem(412, "version-mismatch");
    assert_eq!(service.put(path, &[("if-none-match", "*")], "1").await.status, 201);
    service.put(path, &[("if-none-match", "*")], "2").await.is_problem(412, "version-mismatch");
    assert_eq!(service.put(path, &[("if-match", "\"1\"")], "2").await.etag(), "\"2\"");
    let late = service.put(path, &[("if-match", "\"1\"")], "3").await;
    late.is_problem(412, "version-mismatch");
    assert_eq!(late.body["detail"], "the value has version 2");
    assert_eq!(service.put(path, &[("if-match", "*")], "4").await.etag(), "\"3\"");
    assert_eq!(service.get(path).await.body, 4);
    service.put(path, &[("if-match", "3")], "5").await.is_problem(400, "invalid-request");
    service.stop().await;
}

#[tokio::test]
async fn one_of_many_writers_of_a_version_wins() {
    let service = Service::start().await;
    service.put("/states/notes/a", &[], "0").await;
    let writes = (1..=20).map(|n| {
        let (service, body) = (&service, n.to_string());
        async move { service.put("/states/notes/a", &[("if-match", "\"1\"")], &body).await.status }
    });
    let mut statuses = futures::future::join_all(writes).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert!(statuses[1..].iter().all(|status| *status == 412), "{statuses:?}");

    // Whoever only wants it to exist gets through beside others.
    let writes = (0..5).map(|n| {
        let (service, body) = (&service, n.to_string());
        async move { service.put("/states/notes/a", &[("if-match", "*")], &body).await.status }
    });
    assert_eq!(futures::future::join_all(writes).await, [200; 5]);
    assert_eq!(service.get("/states/notes/a").await.etag(), "\"7\"");
    service.stop().await;
}

#[tokio::test]
async fn a_reader_that_knows_the_version_is_not_sent_it_again() {
    let service = Service::start().await;
    service.put("/states/notes/a", &[], "0").await;
    let known = service.ask(Method::GET, "/states/notes/a", &[("if-none-match", "\"1\"")], "").await;
    assert_eq!((known.status, known.etag(), &known.body), (304, "\"1\"", &json!("")));
    let old = service.ask(Method::GET, "/states/notes/a", &[("if-none-match", "\"9\"")], "").await;
    assert_eq!(old.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn a_value_with_a_time_to_live_disappears() {
    let service = Service::start().await;
    let put = service.put("/states/notes/a?ttl=30s", &[], "1").await;
    assert_eq!(put.body["expires_at"], "2026-05-09T12:00:30Z");
    assert_eq!(service.get("/states/notes/a").await.headers["expires"], "Sat, 09 May 2026 12:00:30 GMT");
    service.clock.advance(Duration::from_secs(29));
    assert_eq!(service.get("/states/notes/a").await.status, 200);
    service.clock.advance(Duration::from_secs(1));
    service.get("/states/notes/a").await.is_problem(404, "unknown-value");
    assert_eq!(service.put("/states/notes/a", &[("if-none-match", "*")], "2").await.etag(), "\"1\"", "it starts anew");
    for ttl in ["0s", "-5s", "soon", "5000d", "P1000000Y", ""] {
        let refused = service.put(&format!("/states/notes/b?ttl={ttl}"), &[], "1").await;
        refused.is_problem(400, "invalid-request");
        assert_eq!(refused.body["errors"][0]["pointer"], "query.ttl", "{ttl}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_value_is_deleted_as_it_was_seen_or_not_at_all() {
    let service = Service::start().await;
    let path = "/states/notes/a";
    service.delete(path, &[]).await.is_problem(404, "unknown-value");
    service.put(path, &[], "1").await;
    service.put(path, &[], "2").await;
    service.delete(path, &[("if-match", "\"1\"")]).await.is_problem(412, "version-mismatch");
    assert_eq!(service.get(path).await.body, 2);
    assert_eq!(service.delete(path, &[("if-match", "\"2\"")]).await.status, 204);
    service.get(path).await.is_problem(404, "unknown-value");
    assert_eq!(service.get("/states/notes").await.body["items"], json!([]));
    service.delete(path, &[("if-match", "*")]).await.is_problem(412, "version-mismatch");

    assert_eq!(service.put(path, &[("if-none-match", "*")], "3").await.etag(), "\"1\"");
    assert_eq!(service.delete(path, &[("if-match", "*")]).await.status, 204);
    service.put(path, &[], "4").await;
    assert_eq!(service.delete(path, &[]).await.status, 204);
    service.delete(path, &[("if-none-match", "*")]).await.is_problem(400, "invalid-request");
    service.stop().await;
}

#[tokio::test]
async fn the_platform_s_own_scopes_can_be_read_and_not_written() {
    let service = Service::start().await;
    let (namespace, now) = (Namespace::default(), "2026-05-09T12:00:00Z".parse().unwrap());
    let put =
        service.state.put_value(&namespace, "agents", "writer@1", json!({"n": 1}), None, PutCondition::Always, now);
    put.await.unwrap();
    assert_eq!(service.get("/states/agents/writer@1").await.body, json!({"n": 1}));
    service.put("/states/agents/writer@1", &[], "0").await.is_problem(403, "reserved-scope");
    service.delete("/states/agents/writer@1", &[]).await.is_problem(403, "reserved-scope");
    service.delete("/states/agents/writer@1", &[("if-match", "*")]).await.is_problem(403, "reserved-scope");
    assert_eq!(service.get("/states/agents/writer@1").await.body, json!({"n": 1}));
    service.stop().await;
}

#[tokio::test]
async fn names_outside_their_pattern_are_refused() {
    let service = Service::start().await;
    for (path, pointer) in [
        ("/states/Notes/a", "path.scope"),
        ("/states/-notes/a", "path.scope"),
        ("/states/notes/a%2fb", "path.key"),
        ("/states/notes/%2e%2e%2fetc", "path.key"),
        ("/states/notes/a%00", "path"),
        ("/states/notes/%F0%9F%A6%80", "path.key"),
        ("/states/notes/a%20b", "path.key"),
        ("/states/notes/%ff", "path.key"),
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let body = if method == Method::PUT { "1" } else { "" };
            let refused = service.ask(method, path, &[], body).await;
            refused.is_problem(400, "invalid-request");
            assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{path}");
        }
    }
    let long = format!("/states/notes/{}", "k".repeat(10_000));
    service.get(&long).await.is_problem(400, "invalid-request");
    service.stop().await;
}

#[tokio::test]
async fn a_value_of_a_mebibyte_fits_and_a_larger_one_does_not() {
    let service = Service::start().await;
    let fits = json!("x".repeat((1 << 20) - 2)).to_string();
    assert_eq!(service.put("/states/notes/a", &[], &fits).await.status, 201);
    assert_eq!(service.get("/states/notes/a").await.body.to_string(), fits);
    let large = json!("x".repeat((1 << 20) - 1)).to_string();
    service.put("/states/notes/a", &[], &large).await.is_problem(413, "body-too-large");
    service.put("/states/notes/b", &[], r#"{"a":1,"a":2}"#).await.is_problem(400, "invalid-request");
    service.put("/states/notes/b", &[], "18446744073709551616").await.is_problem(400, "invalid-request");
    service.put("/states/notes/b", &[], r#""\u0000""#).await.is_problem(400, "invalid-request");
    service.stop().await;
}

#[tokio::test]
async fn a_scope_is_listed_by_key_in_pages() {
    let service = Service::start().await;
    for key in ["c", "a", "e", "b", "d"] {
        service.put(&format!("/states/notes/{key}"), &[], &json!({"of": key}).to_string()).await;
    }
    service.put("/states/other/z", &[], "0").await;
    let mut keys = Vec::new();
    let mut path = "/states/notes?limit=2".to_owned();
    loop {
        let page = service.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        for item in page.body["items"].as_array().unwrap() {
            assert_eq!(item["value"], json!({"of": item["key"]}));
            assert_eq!(item["version"], 1);
            keys.push(item["key"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        service.get(&format!("/states/other?cursor={cursor}")).await.is_problem(400, "invalid-cursor");
        path = format!("/states/notes?limit=2&cursor={cursor}");
    }
    assert_eq!(keys, ["a", "b", "c", "d", "e"]);
    service.get("/states/notes?cursor=x").await.is_problem(400, "invalid-cursor");
    service.get("/states/notes?sort=key").await.is_problem(400, "invalid-request");
    assert_eq!(service.get("/states/empty").await.body, json!({"items": []}));
    service.stop().await;
}

#[tokio::test]
async fn a_page_of_large_values_ends_early_and_none_is_left_out() {
    let service = Service::start().await;
    let large = json!("x".repeat(1_000_000)).to_string();
    for n in 0..12 {
        service.put(&format!("/states/notes/{n:02}"), &[], &large).await;
    }
    let first = service.get("/states/notes").await.body;
    let keys =
        |page: &Value| page["items"].as_array().unwrap().iter().map(|item| item["key"].clone()).collect::<Vec<_>>();
    assert_eq!(keys(&first).len(), 9);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = service.get(&format!("/states/notes?cursor={cursor}")).await.body;
    assert_eq!(keys(&second), ["09", "10", "11"].map(|key| json!(key)));
    assert!(second.get("next_cursor").is_none());
    service.stop().await;
}
