//! What is repeated, how often, and what is not.

use std::time::Duration;

use llm::LlmError;
use testkit::fake_openai::Reply;

use crate::support::{adapter, config, hear, request, start};

#[tokio::test]
async fn a_server_that_recovers_gives_its_answer() {
    for trouble in [
        Reply::rate_limited("0"),
        Reply::rate_limited("-1"),
        Reply::rate_limited("nonsense"),
        Reply::rate_limited("1e9"),
        Reply::rate_limited("Wed, 21 Oct 2026 07:28:00 GMT").header("date", "Wed, 21 Oct 2026 07:28:00 GMT"),
        Reply::error(500, "server_error", ""),
        Reply::raw(502, "text/html", "<html>bad gateway</html>"),
        Reply::error(503, "overloaded", "busy"),
        Reply::raw(504, "text/plain", ""),
        Reply::error(529, "overloaded_error", "busy"),
        Reply::closed(),
    ] {
        let (server, model) = start().await;
        server.push(trouble.clone());
        server.push(trouble);
        server.push(Reply::text("here I am"));
        let (heard, answer) = hear(&model, &request()).await;
        assert_eq!(answer.unwrap().text, "here I am");
        assert_eq!(heard, "here I am");
        assert_eq!(server.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_server_that_does_not_recover_is_asked_three_times_and_no_more() {
    let (server, model) = start().await;
    server.otherwise(|_| Reply::error(503, "overloaded", "too many of you").header("retry-after", "0"));
    let (_, answer) = hear(&model, &request()).await;
    let Err(LlmError::Unavailable { reason, retry_after, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((reason.as_str(), retry_after), ("HTTP 503: too many of you", Some(Duration::ZERO)));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_pause_that_the_server_asks_for_is_kept() {
    let (server, model) = start().await;
    server.push(Reply::rate_limited("1"));
    let began = tokio::time::Instant::now();
    hear(&model, &request()).await.1.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_left_to_the_task() {
    for (asked, told) in [("61", 61), ("1000000000", 3_600)] {
        let (server, model) = start().await;
        server.push(Reply::rate_limited(asked));
        let (_, answer) = hear(&model, &request()).await;
        let Err(LlmError::RateLimited { retry_after, model }) = answer else { panic!("{answer:?}") };
        assert_eq!((retry_after, model.as_str()), (Some(Duration::from_secs(told)), "fake/fake-large"));
        assert_eq!(server.requests().len(), 1);
    }
    let (server, model) = start().await;
    server.push(Reply::rate_limited("30"));
    let (_, answer) = hear(&model, &request()).await;
    assert!(matches!(answer, Err(LlmError::RateLimited { .. })), "the call itself has only 20 seconds: {answer:?}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_repeated() {
    for (status, code, told) in [
        (400, "invalid_request", "HTTP 400: bad words"),
        (401, "invalid_api_key", "HTTP 401: the API key is missing or not accepted"),
        (403, "forbidden", "HTTP 403: bad words"),
        (404, "model_not_found", "HTTP 404: bad words"),
        (429, "insufficient_quota", "HTTP 429: bad words"),
    ] {
        let (server, model) = start().await;
        server.push(Reply::error(status, code, "bad\u{1b}words\r\n"));
        let (_, answer) = hear(&model, &request()).await;
        let Err(LlmError::Refused { reason, .. }) = answer else { panic!("{status}: {answer:?}") };
        assert_eq!(reason, told);
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_told_apart() {
    for reply in [
        Reply::error(400, "context_length_exceeded", "too long"),
        Reply::error(400, "BadRequestError", "This model's maximum context length is 8192 tokens."),
        Reply::error(400, "exceed_context_size_error", "the request exceeds the available context size"),
        Reply::raw(413, "text/html", "<html>too large</html>"),
    ] {
        let (server, model) = start().await;
        server.push(reply);
        let (_, answer) = hear(&model, &request()).await;
        assert!(matches!(answer, Err(LlmError::ContextTooLong { .. })), "{answer:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (server, model) = start().await;
    let elsewhere = format!("{}/elsewhere", server.base_url());
    server.push(Reply::raw(307, "text/plain", "").header("location", &elsewhere));
    let (_, answer) = hear(&model, &request()).await;
    assert!(matches!(answer, Err(LlmError::Refused { .. })), "{answer:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "https"] {
        let model = adapter(config(format!("{scheme}://{free}/v1")));
        let (_, answer) = hear(&model, &request()).await;
        let Err(LlmError::Unavailable { reason, .. }) = answer else { panic!("{answer:?}") };
        assert!(reason.starts_with("it cannot be reached"), "{reason}");
    }
    let (server, _) = start().await;
    let not_tls = adapter(config(server.base_url().replace("http:", "https:")));
    let (_, answer) = hear(&not_tls, &request()).await;
    assert!(matches!(answer, Err(LlmError::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_time_of_the_call() {
    for reply in [Reply::silence(), Reply::text("Hi").silent_at(0), Reply::text("Hi").after(Duration::from_mins(1))] {
        let (server, model) = start().await;
        server.push(reply);
        let mut hasty = request();
        hasty.timeout = Duration::from_millis(200);
        let (_, answer) = hear(&model, &hasty).await;
        assert!(matches!(answer, Err(LlmError::Timeout { millis: 200, .. })), "{answer:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn features_that_a_server_does_not_know_are_left_out() {
    let (server, model) = start().await;
    server.push(Reply::error(400, "unknown", "Unrecognized request argument supplied: stream_options"));
    server.push(Reply::error(400, "unknown", "'response_format' of type 'json_schema' is not supported"));
    server.push(Reply::error(400, "unknown", "'max_tokens' is not supported. Use 'max_completion_tokens' instead."));
    let mut rich = request();
    rich.output_schema = Some(serde_json::json!({ "type": "object" }));
    rich.max_output_tokens = Some(77);
    hear(&model, &rich).await.1.unwrap();
    let bodies: Vec<_> = server.requests().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies.len(), 4);
    assert_eq!(bodies[0]["stream_options"]["include_usage"], true);
    assert!(bodies[1].get("stream_options").is_none() && bodies[1].get("response_format").is_some());
    assert!(bodies[2].get("response_format").is_none());
    assert_eq!((bodies[2]["max_tokens"].as_u64(), bodies[2].get("max_completion_tokens")), (Some(77), None));
    assert_eq!((bodies[3].get("max_tokens"), bodies[3]["max_completion_tokens"].as_u64()), (None, Some(77)));

    server.otherwise(|_| Reply::error(400, "unknown", "stream_options, response_format, max_completion_tokens"));
    let before = server.requests().len();
    let (_, answer) = hear(&model, &rich).await;
    assert!(matches!(answer, Err(LlmError::Refused { .. })), "{answer:?}");
    assert_eq!(server.requests().len() - before, 4, "each is left out once");
}
