//! What is repeated, how often, and what is not; and what an error tells.

use std::time::Duration;

use domain::Message;
use llm::LlmError;
use llm_ollama::ApiKey;
use testkit::fake_http::Reply;
use testkit::fake_ollama as fake;

use crate::support::{adapter, config, hear, request, start};

#[tokio::test]
async fn a_server_that_recovers_gives_its_answer() {
    for trouble in [
        fake::error(429, "slow down"),
        fake::error(500, "llama runner process has terminated"),
        fake::error(503, "server busy"),
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
async fn what_is_refused_for_good_is_not_repeated() {
    for (status, told) in [(400, "HTTP 400: bad words"), (403, "HTTP 403: bad words"), (404, "HTTP 404: bad words")] {
        let (server, model) = start().await;
        server.push(fake::error(status, "bad\u{1b}words\r\n"));
        let (_, answer) = hear(&model, &request()).await;
        let Err(LlmError::Refused { reason, .. }) = answer else { panic!("{status}: {answer:?}") };
        assert_eq!(reason, told);
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
async fn a_key_is_sent_and_never_told() {
    let (server, _) = start().await;
    let mut secretive = config(server.base_url()).with_api_key(ApiKey::new("key-canary-77"));
    secretive.max_retries = 0;
    let model = adapter(secretive.clone());
    let mut private = request();
    private.messages = vec![Message::user("The diagnosis of my aunt is confidential.")];
    for text in ["bad key key-canary-77", "cannot read: diagnosis of my aunt is confidential"] {
        for status in [400, 401, 404, 500, 200] {
            server.push(fake::error(status, text));
            let error = hear(&model, &private).await.1.unwrap_err();
            let printed = format!("{error} {error:?}");
            assert!(!printed.contains("canary") && !printed.contains("diagnosis"), "{printed}");
        }
    }
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer key-canary-77"));
    assert!(!format!("{model:?} {secretive:?}").contains("canary"));
}
