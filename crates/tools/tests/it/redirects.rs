//! Redirects: every hop passes the same check, and carries no more than it may.

use serde_json::json;

use crate::support::{Caller, Server, ok, opened, redirect, response};

#[tokio::test]
async fn a_redirect_to_a_forbidden_destination_is_not_followed() {
    let target = Server::answering(|_| ok("secret")).await;
    let port = target.address.port();
    for location in [
        format!("http://127.0.0.1:{port}/"),
        format!("//127.0.0.1:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://good@127.0.0.1:{port}/"),
        format!("/\\127.0.0.1:{port}/"),
        format!("http:127.0.0.1:{port}"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://metadata.google.internal/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1/".to_owned(),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let to = location.clone();
            let first = Server::answering(move |_| redirect(status, &to)).await;
            let caller = Caller::http(&json!({}), opened(&[first.address]));
            let error = caller.refused(json!({ "method": "POST", "url": first.url("/"), "body": "x" })).await;
            assert_eq!(error.code, "blocked_destination", "{status} {location}");
            assert_eq!(first.connections(), 1);
        }
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_chain_is_checked_at_its_last_hop_too() {
    let target = Server::answering(|_| ok("secret")).await;
    let bad = target.url("/");
    let first = Server::answering(move |seen| match seen.path() {
        "/1" => redirect(302, "/2"),
        "/2" => redirect(307, "3?x"),
        _ => redirect(308, &bad),
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[first.address]));
    let error = caller.refused(json!({ "method": "GET", "url": first.url("/1") })).await;
    assert_eq!(error.code, "blocked_destination");
    assert_eq!(first.requests().iter().map(|seen| seen.path().to_owned()).collect::<Vec<_>>(), ["/1", "/2", "/3?x"]);
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_redirect_outside_the_agents_list_is_not_followed() {
    let target = Server::answering(|_| ok("other")).await;
    let to = target.url("/");
    let first = Server::answering(move |_| redirect(302, &to)).await;
    let settings = json!({ "allow": [first.address.to_string()] });
    let caller = Caller::http(&settings, opened(&[first.address, target.address]));
    let error = caller.refused(json!({ "method": "GET", "url": first.url("/") })).await;
    assert_eq!(error.code, "blocked_destination");
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn five_redirects_are_followed_and_six_are_not() {
    let server = Server::answering(|seen| match seen.path().trim_start_matches('/').parse::<u32>() {
        Ok(0) | Err(_) => ok("arrived"),
        Ok(left) => redirect(302, &format!("/{}", left - 1)),
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    let answer = caller.fetch(json!({ "method": "GET", "url": server.url("/5") })).await;
    assert_eq!((&answer["body"], &answer["url"]), (&json!("arrived"), &json!(server.url("/0"))));
    let error = caller.refused(json!({ "method": "GET", "url": server.url("/6") })).await;
    assert_eq!(error.code, "too_many_redirects");
    assert_eq!(server.connections(), 12);
}

#[tokio::test]
async fn another_server_is_not_told_what_the_first_one_was() {
    let second = Server::answering(|_| ok("second")).await;
    let to = second.url("/");
    let first = Server::answering(move |seen| match seen.path() {
        "/here" => redirect(307, "/there"),
        _ => redirect(307, &to),
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[first.address, second.address]));
    let headers = json!({
        "Authorization": "Bearer secret", "Cookie": "a=secret", "X-Api-Key": "secret", "Accept": "text/plain"
    });
    let request = json!({ "method": "POST", "url": first.url("/here"), "headers": headers, "body": { "a": 1 } });
    assert_eq!(caller.fetch(request).await["body"], "second");

    let [here, there] = &first.requests()[..] else { panic!("two requests") };
    for seen in [here, there] {
        assert_eq!(seen.header("authorization"), Some("Bearer secret"));
        assert_eq!(seen.header("cookie"), Some("a=secret"));
    }
    let [moved] = &second.requests()[..] else { panic!("one request") };
    assert!(moved.headers.values().all(|value| !value.contains("secret")), "{moved:?}");
    assert_eq!(moved.header("accept"), Some("text/plain"));
    assert_eq!(moved.header("content-type"), Some("application/json"));
    assert_eq!(moved.header("idempotency-key"), Some("key-1"));
    assert_eq!(moved.header("referer"), None);
    assert_eq!(moved.body, br#"{"a":1}"#);
}

#[tokio::test]
async fn a_redirect_that_asks_for_a_look_drops_the_body() {
    for (status, method, expected) in [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (302, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "DELETE", "DELETE"),
    ] {
        let server = Server::answering(move |seen| match seen.path() {
            "/a" => redirect(status, "/b"),
            _ => ok(""),
        })
        .await;
        let caller = Caller::http(&json!({}), opened(&[server.address]));
        caller.fetch(json!({ "method": method, "url": server.url("/a"), "body": "text" })).await;
        let second = &server.requests()[1];
        assert!(second.line.starts_with(&format!("{expected} ")), "{status} {method}: {}", second.line);
        let dropped = expected == "GET";
        assert_eq!(second.body.is_empty(), dropped, "{status} {method}");
        assert_eq!(second.header("content-type").is_none(), dropped, "{status} {method}");
        assert_eq!(second.header("idempotency-key").is_none(), dropped || method == "HEAD", "{status} {method}");
    }
}

#[tokio::test]
async fn a_redirect_without_a_location_is_an_answer() {
    let server = Server::answering(|_| response("302 Found", "", "nowhere")).await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    let answer = caller.fetch(json!({ "method": "GET", "url": server.url("/") })).await;
    assert_eq!((&answer["status"], &answer["body"]), (&json!(302), &json!("nowhere")));
}
