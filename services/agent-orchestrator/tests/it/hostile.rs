//! Hostile input: refused with a problem, never a failure of the server, and nothing is recorded.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::platform::{PATIENCE, Platform, answer, request};

/// Sends a body as it is to `POST /tasks`.
async fn submit(platform: &Platform, body: impl Into<reqwest::Body>) -> (u16, Value) {
    refused(platform.post("/tasks").header("content-type", "application/json").body(body)).await
}

async fn refused(request: RequestBuilder) -> (u16, Value) {
    let (status, problem) = answer(request).await;
    assert!(status.is_client_error(), "{status}: {problem}");
    assert!(problem["trace_id"].is_string() && problem["type"].is_string(), "{problem}");
    (status.as_u16(), problem)
}

fn with(fields: &str) -> String {
    format!(r#"{{"agent":"writer","prompt":"hello",{fields}}}"#)
}

#[tokio::test]
async fn bodies_that_are_not_what_they_seem_are_refused() {
    let platform = Platform::start().await;
    let deep = "[".repeat(100_000);
    let many: Vec<_> = (0..100_000).map(|n| format!(r#""k{n}":"v""#)).collect();
    let cases: Vec<(String, &str)> = vec![
        (with(&format!(r#""data":{deep}"#)), "H04 nesting"),
        (with(&format!(r#""data":{deep}{}"#, "]".repeat(100_000))), "H04 closed nesting"),
        (with(&format!(r#""metadata":{{{}}}"#, many.join(","))), "H04 labels"),
        (with(r#""priority":1,"priority":2"#), "H05 twice"),
        (with(r#""agent":"reader""#), "H05 twice, of another agent"),
        (with(r#""data":{"a":{"b":1,"b":2}}"#), "H05 twice within data"),
        (with(r#""data":1e400"#), "H06 no such number"),
        (with(r#""data":NaN"#), "H06 not a number"),
        (with(r#""priority":1.0"#), "H06 not an integer"),
        (with(r#""priority":-1"#), "H06 negative"),
        (with(r#""priority":18446744073709551616"#), "H06 beyond 64 bits"),
        (with(r#""priority":"5""#), "H06 a text"),
        (with(&format!(r#""data":0.{}"#, "1".repeat(400))), "H06 rounded"),
        (r#"{"agent":"writer","prompt":"a\u0000b"}"#.to_owned(), "H07 NUL"),
        (r#"{"agent":"writer","prompt":"\ud800"}"#.to_owned(), "H07 lone surrogate"),
        (with(r#""data":{"a\u0000":1}"#), "H07 NUL in a key"),
        ("\u{feff}{\"agent\":\"writer\",\"prompt\":\"x\"}".to_owned(), "H07 byte order mark"),
        (with(r#""tenant_id":"other""#), "H18 tenant"),
        (with(r#""status":"succeeded""#), "H18 status"),
        (with(r#""epoch":7"#), "H18 epoch"),
        (with(r#""attempt":0"#), "H18 attempt"),
        (with(r#""namespace":"other""#), "H18 namespace"),
        (with(r#""parent":{"task":"0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10","call_id":"x"}"#), "H18 parent"),
        (with(r#""id":"0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10""#), "H18 id"),
        (with(r#""input":{"prompt":"x","role":"system"}"#), "H18 within input"),
        (String::new(), "nothing"),
        ("null".to_owned(), "null"),
        ("[]".to_owned(), "an array"),
        (r#"{"agent":"writer"}"#.to_owned(), "no prompt"),
        (r#"{"agent":"writer","prompt":" \n"}"#.to_owned(), "an empty prompt"),
        (r#"{"agent":"writer","prompt":"x"} {}"#.to_owned(), "two bodies"),
    ];
    for (body, case) in cases {
        let (status, problem) = submit(&platform, body).await;
        assert_eq!((status, &problem["type"]), (400, &json!("/errors/invalid-request")), "{case}: {problem}");
        assert!(!problem["errors"].as_array().unwrap().is_empty(), "{case} has no reason");
    }
    for bytes in [b"{\"agent\":\"writer\",\"prompt\":\"\xff\"}".to_vec(), b"{\"agent\":\"\xc0\xaf\"}".to_vec()] {
        assert_eq!(submit(&platform, bytes).await.0, 400, "H07 not UTF-8");
    }
    assert_eq!(platform.count().await, 0);
}

#[tokio::test]
async fn numbers_are_kept_exactly_or_refused() {
    let platform = Platform::start().await;
    for number in ["-0", "0.1", "9007199254740993", "18446744073709551615", "-9223372036854775808", "1e3", "1.5e-7"] {
        let body = with(&format!(r#""data":{{"n":{number}}}"#));
        let response =
            platform.post("/tasks").header("content-type", "application/json").body(body).send().await.unwrap();
        if !response.status().is_success() {
            assert_eq!(response.status(), 400, "{number}");
            continue;
        }
        let task: wire::TaskView = response.json().await.unwrap();
        let journal = platform.get(&task.links.journal).send().await.unwrap().text().await.unwrap();
        let kept: Value = serde_json::from_str(&journal).unwrap();
        let (kept, sent) = (&kept["items"][0]["data"]["n"], serde_json::from_str::<Value>(number).unwrap());
        assert_eq!(kept.as_f64(), sent.as_f64(), "{number}");
        assert_eq!((kept.as_u64(), kept.as_i64()), (sent.as_u64(), sent.as_i64()), "{number}");
    }
}

#[tokio::test]
async fn another_content_type_is_refused() {
    let platform = Platform::start().await;
    let body = serde_json::to_string(&request()).unwrap();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/json; charset=utf-7",
        "application/json; charset=\"utf-16\"",
        "",
        "application/xml",
    ] {
        let (status, problem) = refused(platform.post("/tasks").header("content-type", kind).body(body.clone())).await;
        assert_eq!((status, &problem["type"]), (415, &json!("/errors/unsupported-media-type")), "{kind}");
    }
    assert_eq!(refused(platform.post("/tasks").body(body.clone())).await.0, 415, "without a type");
    let gzip = platform.post("/tasks").header("content-type", "application/json").header("content-encoding", "gzip");
    assert_eq!(refused(gzip.body(body.clone())).await.0, 415, "compressed");
    for path in ["/tasks/0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10/signal", "/queue/submit"] {
        assert_eq!(refused(platform.post(path).body(body.clone())).await.0, 415, "{path}");
    }
    assert_eq!(platform.count().await, 0);
}

#[tokio::test]
async fn names_that_are_no_names_are_refused_everywhere() {
    let platform = Platform::start().await;
    let long = "a".repeat(10_000);
    let names = [
        "../x",
        "..",
        "a/b",
        "C:\\\\x",
        "A",
        "ünïcode",
        "🦀",
        "\u{202e}gpj",
        "wr\u{456}ter",
        "",
        " ",
        "-a",
        ".a",
        "a b",
        "*",
        "'; DROP TABLE tasks; --",
        &long,
    ];
    for name in names {
        let body = json!({ "agent": name, "prompt": "x" }).to_string();
        let (status, problem) = submit(&platform, body).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/agent")), "{name:?}");
    }
    for name in ["%2e%2e%2fx", "%00", "%C3%BC", "A", "C:%5C", "%F0%9F%A6%80", "%ff"] {
        assert_eq!(refused(platform.get(&format!("/agents/{name}"))).await.0, 400, "{name}");
        assert_eq!(refused(platform.get(&format!("/tasks?agent={name}"))).await.0, 400, "{name}");
        for path in ["", "/journal", "/events"] {
            assert_eq!(refused(platform.get(&format!("/tasks/{name}{path}"))).await.0, 400, "{name}{path}");
        }
        assert_eq!(refused(platform.post(&format!("/tasks/{name}/cancel"))).await.0, 400, "{name}");
        assert_eq!(refused(platform.get(&format!("/threads/{name}/messages"))).await.0, 400, "{name}");
    }
    assert_eq!(refused(platform.get("/agents/never-heard-of")).await.0, 404);
    assert_eq!(platform.count().await, 0);
}

#[tokio::test]
async fn keys_that_are_no_keys_are_refused() {
    let platform = Platform::start().await;
    for key in ["", "naïve", "a\nb", "a\tb", "\u{7f}", &"k".repeat(256), &"k".repeat(10_000)] {
        let body = json!({ "agent": "writer", "prompt": "x", "idempotency_key": key }).to_string();
        let (status, problem) = submit(&platform, body).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/idempotency_key")), "{key:?}");
    }
    let post = || platform.post("/tasks").json(&request());
    for key in ["", "a\tb", &"k".repeat(256), &"k".repeat(4_000)] {
        let (status, problem) = refused(post().header("idempotency-key", key)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("header.Idempotency-Key")), "{key:?}");
    }
    let latin = reqwest::header::HeaderValue::from_bytes(b"na\xefve").unwrap();
    assert_eq!(refused(post().header("idempotency-key", latin)).await.0, 400);
    assert_eq!(refused(post().header("idempotency-key", "a").header("idempotency-key", "b")).await.0, 400);
    assert_eq!(platform.count().await, 0);
    let longest = "k".repeat(255);
    assert!(platform.client.submit_with_key(&request(), &longest).await.unwrap().created);
}

#[tokio::test]
async fn cursors_belong_to_their_list_and_limits_are_brought_inside() {
    let platform = Platform::start().await;
    for _ in 0..3 {
        platform.submit().await;
    }
    let (_, page) = answer(platform.get("/tasks?limit=1")).await;
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    let changed = format!("{}A", &cursor[..cursor.len() - 1]);
    let id = page["items"][0]["id"].as_str().unwrap();
    for path in [
        format!("/tasks?cursor={changed}x"),
        format!("/tasks?cursor={}", &cursor[..10]),
        format!("/tasks?cursor={cursor}&agent=writer"),
        format!("/tasks?cursor={cursor}&status=queued"),
        format!("/dead-letters?cursor={cursor}"),
        format!("/threads?cursor={cursor}"),
        format!("/tasks/{id}/journal?cursor={cursor}"),
        "/tasks?cursor=".to_owned(),
        "/tasks?cursor=%00".to_owned(),
    ] {
        let (status, problem) = refused(platform.get(&path)).await;
        let kind = problem["type"].as_str().unwrap();
        assert!(
            status == 400 && matches!(kind, "/errors/invalid-cursor" | "/errors/invalid-request"),
            "{path}: {problem}"
        );
    }
    for limit in ["-1", "0", "1", "1000000000", "1e9"] {
        let (status, page) = answer(platform.get(&format!("/tasks?limit={limit}"))).await;
        let count = page["items"].as_array().unwrap().len();
        assert!(status.is_success() && (1..=3).contains(&count), "{limit}");
    }
    for query in
        ["limit=many", "limit=NaN", "sort=id", "status=done", "status=", "thread_id=1", "wait=1s", "limit=1&limit=2"]
    {
        let (status, problem) = refused(platform.get(&format!("/tasks?{query}"))).await;
        assert_eq!((status, &problem["type"]), (400, &json!("/errors/invalid-request")), "{query}");
    }
    for query in ["from=-1", "from=4294967296", "from=1.5", "from=x"] {
        assert_eq!(refused(platform.get(&format!("/tasks/{id}/journal?{query}"))).await.0, 400, "{query}");
    }
    for wait in ["-1s", "1", "P1D", "1e3s", "99999999999999999999s", "%00"] {
        assert_eq!(refused(platform.get(&format!("/tasks/{id}?wait={wait}"))).await.0, 400, "{wait}");
    }
}

#[tokio::test]
async fn times_out_of_range_are_refused() {
    let platform = Platform::start().await;
    let moments = [
        "0000-00-00",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2026-06-30T23:59:60Z",
        "2026-01-01T00:00:00+99:99",
        "+1000000-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01",
        "tomorrow",
        "",
        "1",
    ];
    for field in ["run_at", "deadline"] {
        for moment in moments {
            let (status, problem) = submit(&platform, with(&format!(r#""{field}":"{moment}""#))).await;
            let pointer = &problem["errors"][0]["pointer"];
            assert_eq!((status, pointer), (400, &json!(format!("/{field}"))), "{field} {moment}: {problem}");
        }
    }
    for field in ["delay", "ttl"] {
        for length in ["P1000000Y", "-PT1S", "-1s", "1", "1y", "99999999999999999999d", "4000d", "1e3s", ""] {
            let (status, problem) = submit(&platform, with(&format!(r#""{field}":"{length}""#))).await;
            let pointer = &problem["errors"][0]["pointer"];
            assert_eq!((status, pointer), (400, &json!(format!("/{field}"))), "{field} {length}: {problem}");
        }
    }
    let (status, _) = submit(&platform, with(r#""deadline":"2020-01-01T00:00:00Z""#)).await;
    assert_eq!(status, 400, "a deadline that has passed");
    assert_eq!(platform.count().await, 0);
}

#[tokio::test]
async fn labels_and_signals_are_bounded() {
    let platform = Platform::start().await;
    let labels = |count: usize| -> String {
        let entries: Vec<_> = (0..count).map(|n| format!(r#""k{n}":"v""#)).collect();
        with(&format!(r#""metadata":{{{}}}"#, entries.join(",")))
    };
    assert_eq!(submit(&platform, labels(33)).await.0, 400);
    let long = "v".repeat(257);
    for fields in [
        format!(r#""metadata":{{"k":"{long}"}}"#),
        format!(r#""metadata":{{"{long}":"v"}}"#),
        r#""metadata":{"":"v"}"#.to_owned(),
        r#""metadata":{"k":1}"#.to_owned(),
        r#""metadata":{"k":"a\nb"}"#.to_owned(),
        format!(r#""user":"{long}""#),
        r#""user":"""#.to_owned(),
        r#""priority":10"#.to_owned(),
    ] {
        assert_eq!(submit(&platform, with(&fields)).await.0, 400, "{fields}");
    }
    assert_eq!(platform.count().await, 0);

    let id = platform.submit().await;
    let path = format!("/tasks/{id}/signal");
    for (body, status) in [
        (json!({}), 400),
        (json!({ "name": "" }), 400),
        (json!({ "name": "n".repeat(256) }), 400),
        (json!({ "name": "a\nb" }), 400),
        (json!({ "name": "a", "from": long }), 400),
        (json!({ "name": "a", "task": "other" }), 400),
        (json!({ "name": "a", "value": "v".repeat(1024 * 1024) }), 413),
        (json!({ "name": "a", "value": "v".repeat(3 * 1024 * 1024) }), 413),
    ] {
        assert_eq!(refused(platform.post(&path).json(&body)).await.0, status, "{:.80}", body.to_string());
    }
    let retry = format!("/tasks/{id}/retry");
    assert_eq!(refused(platform.post(&retry).json(&json!({ "keep": true }))).await.0, 400);
    assert_eq!(refused(platform.post(&retry).body("x")).await.0, 415);
    assert_eq!(platform.client.whole_journal(id).await.unwrap().len(), 1, "nothing was recorded");
}

#[tokio::test]
async fn endless_bodies_are_cut_off() {
    let platform = Platform::start().await;
    let address = platform.url.trim_start_matches("http://").to_owned();
    let answers = tokio::task::spawn_blocking(move || {
        let head = format!("POST /tasks HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
        let huge = talk(&address, &format!("{head}Content-Length: 100000000000\r\n\r\n{{"), &[]);
        let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
        let endless = talk(&address, &format!("{head}Transfer-Encoding: chunked\r\n\r\n"), &chunk);
        [huge, endless]
    });
    for answer in answers.await.unwrap() {
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    assert_eq!(platform.count().await, 0);
}

/// Sends a head, then the same piece again and again until somebody answers; returns everything until the connection ends.
fn talk(address: &str, head: &str, piece: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    if !piece.is_empty() {
        // At most 64 MiB: far more than the limit.
        for _ in 0..1024 {
            if stream.write_all(piece).is_err() {
                break;
            }
        }
    }
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}
