//! What is repeated, how often, and what is not; and what an error tells.

use std::time::Duration;

use domain::Message;
use llm::LlmError;
use llm_bedrock::{ApiKey, Bedrock, BedrockConfig, BedrockConfigError};
use testkit::fake_bedrock::{self as fake, MODEL};
use testkit::fake_http::Reply;

use crate::support::{adapter, config, hear, request, start};

#[tokio::test]
async fn a_service_that_recovers_gives_its_answer() {
    for trouble in [
        fake::error(429, "ThrottlingException", "Too many requests"),
        fake::error(429, "ModelNotReadyException", "loading"),
        fake::error(408, "ModelTimeoutException", "too slow"),
        fake::error(424, "ModelErrorException", "the model failed"),
        fake::error(500, "InternalServerException", "oops"),
        fake::error(503, "ServiceUnavailableException", "busy"),
        fake::stream(&[fake::exception("serviceUnavailableException", "busy")]),
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
async fn a_service_that_does_not_recover_is_asked_three_times_and_no_more() {
    let (server, model) = start().await;
    server.otherwise(|_| fake::error(503, "ServiceUnavailableException", "busy"));
    let (_, answer) = hear(&model, &request()).await;
    let Err(LlmError::Unavailable { reason, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(reason, "HTTP 503: busy");
    assert_eq!(server.requests().len(), 3, "nothing repeats but the one place that may");
}

#[tokio::test]
async fn nothing_is_repeated_once_something_was_said() {
    let (server, model) = start().await;
    let begun = [vec![fake::message_start()], fake::text_block(0, "Hi")].concat();
    server.push(fake::stream(&[begun, vec![fake::exception("modelStreamErrorException", "oops")]].concat()));
    let (heard, answer) = hear(&model, &request()).await;
    assert_eq!(heard, "Hi");
    assert!(matches!(answer, Err(LlmError::Unavailable { .. })), "{answer:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_repeated() {
    for (status, code, told) in [
        (400, "ValidationException", "HTTP 400: bad words"),
        (400, "ServiceQuotaExceededException", "HTTP 400: bad words"),
        (403, "AccessDeniedException", "HTTP 403: bad words"),
        (404, "ResourceNotFoundException", "HTTP 404: bad words"),
    ] {
        let (server, model) = start().await;
        server.push(fake::error(status, code, "bad\u{1b}words\r\n"));
        let (_, answer) = hear(&model, &request()).await;
        let Err(LlmError::Refused { reason, .. }) = answer else { panic!("{status}: {answer:?}") };
        assert_eq!(reason, told);
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_told_apart() {
    for message in [
        "Input is too long for requested model.",
        "The model returned the following errors: prompt is too long: 200001 tokens > 200000 maximum",
        "Too many input tokens. Max input tokens: 8192, request input token count: 9000",
    ] {
        let (server, model) = start().await;
        server.push(fake::error(400, "ValidationException", message));
        let (_, answer) = hear(&model, &request()).await;
        assert!(matches!(answer, Err(LlmError::ContextTooLong { .. })), "{answer:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_left_to_the_task() {
    let (server, model) = start().await;
    server.push(fake::error(429, "ThrottlingException", "Too many requests").header("retry-after", "1000000000"));
    let (_, answer) = hear(&model, &request()).await;
    let Err(LlmError::RateLimited { retry_after, model }) = answer else { panic!("{answer:?}") };
    assert_eq!((retry_after, model), (Some(Duration::from_hours(1)), format!("fake/{MODEL}")));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_silent_service_costs_no_more_than_the_time_of_the_call() {
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
async fn no_error_tells_a_key_or_the_prompt() {
    let (server, _) = start().await;
    let mut secretive = config(server.base_url());
    secretive.max_retries = 0;
    let keys = secretive.keys.as_mut().expect("set before");
    keys.session_token = Some(ApiKey::new(fake::TOKEN));
    let model = adapter(secretive.clone()).await;
    let mut private = request();
    private.messages = vec![Message::user("The diagnosis of my aunt is confidential.")];
    let mut told = Vec::new();
    for text in [fake::SECRET, fake::TOKEN, "cannot read: diagnosis of my aunt is confidential"] {
        for status in [400, 403, 404, 424, 429, 500, 200] {
            server.push(fake::error(status, "ValidationException", text));
            told.push(hear(&model, &private).await.1.unwrap_err());
        }
        server.push(fake::stream(&[fake::exception("internalServerException", text)]));
        told.push(hear(&model, &private).await.1.unwrap_err());
    }
    let keys = secretive.keys.as_mut().expect("set before");
    keys.secret_access_key = ApiKey::new("canary-wrong-key");
    let wrong = adapter(secretive.clone()).await;
    let error = hear(&wrong, &private).await.1.unwrap_err();
    assert!(error.to_string().contains("the signature is not accepted"), "{error}");
    told.push(error);
    for error in told {
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("canary") && !printed.contains("diagnosis"), "{printed}");
    }
    assert!(!format!("{model:?} {secretive:?}").contains("canary"));
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let model = adapter(config(format!("http://{free}"))).await;
    let (_, answer) = hear(&model, &request()).await;
    assert!(matches!(answer, Err(LlmError::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_configuration_that_is_of_no_use_is_refused() {
    let with = |change: fn(&mut BedrockConfig)| {
        let mut config = config("http://127.0.0.1:1".to_owned());
        change(&mut config);
        config
    };
    let region = Bedrock::new(with(|config| config.region = Some("eu central/1".to_owned()))).await;
    assert!(matches!(region, Err(BedrockConfigError::Region { .. })), "{region:?}");
    let endpoint = Bedrock::new(with(|config| config.endpoint = Some("ftp://x".to_owned()))).await;
    assert!(matches!(endpoint, Err(BedrockConfigError::Server(_))), "{endpoint:?}");
}
