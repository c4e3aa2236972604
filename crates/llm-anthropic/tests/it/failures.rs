//! What is repeated, how often, and what is not; and what an error tells.

use std::time::Duration;

use domain::Message;
use llm::{ChatModel, LlmError};
use llm_anthropic::ApiKey;
use testkit::fake_anthropic::{self as fake, KEY};
use testkit::fake_http::Reply;

use crate::support::{adapter, config, hear, request, start};

#[tokio::test]
async fn a_server_that_recovers_gives_its_answer() {
    for trouble in [
        fake::rate_limited("0"),
        fake::rate_limited("-1"),
        fake::rate_limited("nonsense"),
        fake::rate_limited("1e9"),
        fake::error(500, "api_error", ""),
        fake::error(504, "timeout_error", ""),
        fake::error(529, "overloaded_error", "Overloaded"),
        Reply::raw(502, "text/html", "<html>bad gateway</html>"),
        Reply::closed(),
    ] {
        let (server, model) = start().await;
        server.push(trouble.clone());
        server.push(trouble);
        server.push(fake::text("here I am"));
        let (heard, answer) = hear(&model, &request()).await;
        assert_eq!((heard.as_str(), answer.unwrap().text.as_str()), ("here I am", "here I am"));
        assert_eq!(server.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_server_that_does_not_recover_is_asked_three_times_and_no_more() {
    let (server, model) = start().await;
    server.otherwise(|_| fake::error(529, "overloaded_error", "Overloaded"));
    let (_, answer) = hear(&model, &request()).await;
    let Err(LlmError::Unavailable { reason, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(reason, "HTTP 529: Overloaded");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn nothing_is_repeated_once_something_was_said() {
    let (server, model) = start().await;
    let begun = [vec![fake::message_start(&serde_json::Value::Null)], fake::text_block(0, "Hi")].concat();
    server.push(fake::stream(&[begun, vec![fake::error_event("overloaded_error", "Overloaded")]].concat()));
    let (heard, answer) = hear(&model, &request()).await;
    assert_eq!(heard, "Hi");
    assert!(matches!(answer, Err(LlmError::Unavailable { .. })), "{answer:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_repeated() {
    for (status, kind, told) in [
        (400, "invalid_request_error", "HTTP 400: bad words"),
        (401, "authentication_error", "HTTP 401: the API key is missing or not accepted"),
        (402, "billing_error", "HTTP 402: bad words"),
        (403, "permission_error", "HTTP 403: bad words"),
        (404, "not_found_error", "HTTP 404: bad words"),
    ] {
        let (server, model) = start().await;
        server.push(fake::error(status, kind, "bad\u{1b}words\r\n"));
        let (_, answer) = hear(&model, &request()).await;
        let Err(LlmError::Refused { reason, .. }) = answer else { panic!("{status}: {answer:?}") };
        assert_eq!(reason, told);
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_told_apart() {
    for reply in [
        fake::error(400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"),
        fake::error(
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        ),
        fake::error(413, "request_too_large", "Request exceeds the maximum size"),
    ] {
        let (server, model) = start().await;
        server.push(reply);
        let (_, answer) = hear(&model, &request()).await;
        assert!(matches!(answer, Err(LlmError::ContextTooLong { .. })), "{answer:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_left_to_the_task() {
    for (asked, told) in [("61", 61), ("1000000000", 3_600)] {
        let (server, model) = start().await;
        server.push(fake::rate_limited(asked));
        let (_, answer) = hear(&model, &request()).await;
        let Err(LlmError::RateLimited { retry_after, model }) = answer else { panic!("{answer:?}") };
        assert_eq!((retry_after, model.as_str()), (Some(Duration::from_secs(told)), "fake/claude-fake-1"));
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_time_of_the_call() {
    for reply in [Reply::silence(), fake::text("Hi").silent_at(0), fake::text("Hi").after(Duration::from_mins(1))] {
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
async fn no_error_tells_the_key_or_the_prompt() {
    let (server, _) = start().await;
    let mut secretive = config(server.base_url());
    secretive.headers.push(("x-token".to_owned(), ApiKey::new("token-canary-77")));
    secretive.max_retries = 0;
    let model = adapter(secretive);
    let mut private = request();
    private.messages = vec![Message::user("The diagnosis of my aunt is confidential.")];
    let mut told = Vec::new();
    for text in [
        format!("Incorrect API key provided: {KEY}."),
        "unknown token token-canary-77".to_owned(),
        "cannot read: diagnosis of my aunt is confidential".to_owned(),
    ] {
        for status in [400, 401, 403, 404, 429, 500, 529, 200] {
            server.push(fake::error(status, "api_error", &text));
            told.push(hear(&model, &private).await.1.unwrap_err());
        }
        server.push(fake::stream(&[fake::error_event("api_error", &text)]));
        told.push(hear(&model, &private).await.1.unwrap_err());
    }
    for error in told {
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("canary") && !printed.contains("diagnosis"), "{printed}");
    }
    assert!(!format!("{model:?} {:?}", config(server.base_url())).contains("canary"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let model = adapter(config(format!("http://{free}")));
    let (_, answer) = hear(&model, &request()).await;
    assert!(matches!(answer, Err(LlmError::Unavailable { .. })), "{answer:?}");
    assert!(model.list().await.is_err());
}
