//! What a well-behaved client sees.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::service::{PATIENCE, Service};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn problem(response: reqwest::Response) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["status"], status);
    assert!(body["trace_id"].is_string(), "{body}");
    body
}

#[tokio::test]
async fn a_live_service_says_exactly_that() {
    let service = Service::start().await;
    let response = service.get("/health/live").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.text().await.unwrap(), r#"{"status":"alive"}"#);
}

#[tokio::test]
async fn an_unknown_path_is_a_problem_with_the_trace_of_the_request() {
    let service = Service::start().await;
    let request = service.client.get(service.url("/nowhere")).header("traceparent", TRACEPARENT);
    let body = problem(request.send().await.unwrap()).await;
    assert_eq!(
        body,
        json!({"type": "/errors/not-found", "title": "There is nothing at this path", "status": 404, "trace_id": TRACE_ID})
    );
}

#[tokio::test]
async fn a_problem_s_type_can_be_opened() {
    let service = Service::start().await;
    let page = service.get("/errors/not-found").await.text().await.unwrap();
    assert!(page.starts_with("# There is nothing at this path"), "{page}");
    assert_eq!(problem(service.get("/errors/nonsense").await).await["type"], "/errors/not-found");
}

#[tokio::test]
async fn a_wrong_method_is_a_problem_that_names_the_right_ones() {
    let service = Service::start().await;
    let response = service.get("/orders").await;
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(problem(response).await["type"], "/errors/method-not-allowed");
}

#[tokio::test]
async fn a_panic_is_a_problem_without_its_words_and_the_service_goes_on() {
    let service = Service::start().await;
    let body = problem(service.get("/panic").await).await;
    assert_eq!(body["type"], "/errors/internal");
    assert!(!body.to_string().contains("own words"), "{body}");
    assert_eq!(service.get("/health/live").await.status(), 200);
}

#[tokio::test]
async fn a_handler_that_hangs_is_given_up() {
    let service = Service::with(|options| options.request_timeout = Duration::from_millis(50)).await;
    assert_eq!(problem(service.get("/hang").await).await["type"], "/errors/timeout");
}

#[tokio::test]
async fn a_busy_service_says_when_to_come_back() {
    let service = Service::start().await;
    let response = service.get("/busy").await;
    assert_eq!(response.headers()["retry-after"], "2");
    assert_eq!(problem(response).await["status"], 429);
}

#[tokio::test]
async fn a_path_parameter_that_cannot_be_read_is_named() {
    let service = Service::start().await;
    assert_eq!(service.get("/orders/7").await.text().await.unwrap(), "7");
    let body = problem(service.get("/orders/x").await).await;
    assert_eq!(body["errors"][0], json!({"pointer": "path.id", "reason": "must be u32"}));
}

#[tokio::test]
async fn a_query_is_clamped_or_refused_with_a_hint() {
    let service = Service::start().await;
    assert_eq!(service.get("/list?limit=1000000000").await.text().await.unwrap(), "1000");
    let body = problem(service.get("/list?limt=1").await).await;
    assert_eq!(body["errors"][0]["pointer"], "query.limt");
    assert_eq!(body["errors"][0]["hint"], "did you mean `limit`?");
    let body = problem(service.get("/list?limit=x").await).await;
    assert_eq!(body["errors"][0]["pointer"], "query.limit");
}

#[tokio::test]
async fn a_trace_is_continued_and_a_broken_one_begun_anew() {
    let service = Service::start().await;
    let ask = |value: &'static str| service.client.get(service.url("/trace")).header("traceparent", value).send();
    let continued = ask(TRACEPARENT).await.unwrap().text().await.unwrap();
    assert!(continued.starts_with(&format!("00-{TRACE_ID}-")) && continued != TRACEPARENT, "{continued}");
    let begun = ask("00-zz").await.unwrap().text().await.unwrap();
    assert!(begun.len() == TRACEPARENT.len() && !begun.contains(TRACE_ID), "{begun}");
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_tells_browsers_to_be_careful() {
    let service = Service::start().await;
    for path in ["/health/live", "/nowhere", "/orders/1"] {
        let response = service.client.get(service.url(path)).header("x-request-id", "abc-1").send().await.unwrap();
        let headers = response.headers();
        assert_eq!(headers["x-request-id"], "abc-1");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(headers["cache-control"], "no-store");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
    let response = service.client.get(service.url("/trace")).header("x-request-id", "a b<c>").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"].len(), 32, "a harmful one is replaced");
}

#[tokio::test]
async fn metrics_name_routes_and_never_paths() {
    let service = Service::with(|options| options.name = "metrics-test").await;
    service.get("/orders/1").await;
    service.get("/orders/2").await;
    service.get("/some/made/up/path").await;
    let request = service.client.request("BREW".parse().unwrap(), service.url("/orders/3"));
    request.send().await.unwrap();
    let text = service.get("/metrics").await.text().await.unwrap();
    let requests: Vec<&str> =
        text.lines().filter(|line| line.starts_with("http_requests_total{service=\"metrics-test\"")).collect();
    assert!(
        requests.iter().any(|line| line.contains(r#"route="/orders/{id}",method="GET",status="200"} 2"#)),
        "{requests:#?}"
    );
    assert!(requests.iter().any(|line| line.contains(r#"route="unmatched",method="GET",status="404"} 1"#)));
    assert!(requests.iter().any(|line| line.contains(r#"method="other",status="405"} 1"#)));
    assert!(!text.contains("/orders/1") && !text.contains("made"), "no paths");
    assert!(text.contains("http_request_seconds_bucket{") && text.contains("process_resident_memory_bytes"));
}

#[tokio::test]
async fn the_description_has_every_error_and_a_page() {
    let service = Service::start().await;
    let api: Value = serde_json::from_str(&service.get("/openapi.json").await.text().await.unwrap()).unwrap();
    let responses = &api["paths"]["/orders"]["post"]["responses"];
    let not_found = responses["404"]["description"].as_str().unwrap();
    assert!(not_found.contains("/errors/unknown-task") && not_found.contains("/errors/unknown-agent"), "{not_found}");
    assert_eq!(responses["429"]["content"]["application/problem+json"]["example"]["type"], "/errors/overloaded");
    assert!(responses["default"].is_object());
    assert_eq!(api["components"]["schemas"]["Problem"]["properties"]["type"]["type"], "string");
    assert!(api["components"]["schemas"]["Fault"].is_object());

    let page = service.get("/docs/").await;
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    assert!(page.text().await.unwrap().contains("swagger-ui"));
}

#[tokio::test]
async fn two_services_of_one_process_do_not_share_a_port() {
    let first = Service::start().await;
    let options = common::http::ServerOptions::new("second", first.address);
    let api = common::http::Api::default();
    let refused = common::http::serve(options, api, common::health::Health::new(), first.lifecycle.clone()).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("second cannot listen on 127.0.0.1:") && text.contains("port 0"), "{text}");
}

#[tokio::test]
async fn a_stop_ends_event_streams_and_lets_requests_finish() {
    let service = Service::start().await;
    let mut events = service.get("/events").await.bytes_stream();
    assert_eq!(events.next().await.unwrap().unwrap(), "data: first\n\n");
    let idle = tokio::net::TcpStream::connect(service.address).await.unwrap();

    let response = service.get("/stop").await;
    assert_eq!(response.text().await.unwrap(), "finished");
    let ended = tokio::time::timeout(PATIENCE, events.next()).await.expect("the stream ends");
    assert!(ended.is_none(), "it ends in order: {ended:?}");

    let address = service.address;
    let exit = service.stop().await;
    assert_eq!(exit.code(), 0, "{exit:?}");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
    drop(idle);
}

#[tokio::test]
async fn a_hard_stop_cuts_what_does_not_end() {
    let service = Service::start().await;
    let (client, url) = (service.client.clone(), service.url("/hang"));
    let hanging = tokio::spawn(async move { client.get(url).send().await });
    // The request is under way when the server has counted it as a connection: ask something behind it.
    service.get("/health/live").await;
    service.lifecycle.shutdown();
    let exit = service.lifecycle.wait(Duration::from_millis(50)).await;
    assert_eq!(exit.code(), 0, "the server itself stopped in order: {exit:?}");
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn http_2_is_understood_without_negotiation() {
    let service = Service::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().timeout(PATIENCE).build().unwrap();
    let response = client.get(service.url("/orders/5")).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.text().await.unwrap(), "5");
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let service = Service::start().await;
    let mut stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
    let request = b"GET /orders/1 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(&[&request[..], &request[..]].concat()).await.unwrap();
    let mut answers = String::new();
    while answers.matches("200 OK").count() < 2 {
        let mut chunk = [0; 4096];
        let length = tokio::time::timeout(PATIENCE, stream.read(&mut chunk)).await.unwrap().unwrap();
        assert!(length > 0, "closed after {answers}");
        answers.push_str(&String::from_utf8_lossy(&chunk[..length]));
    }
}
