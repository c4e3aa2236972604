//! Neither the key nor the conversation appears in an error, whatever the server says.

use std::sync::{Arc, Mutex};

use domain::Message;
use llm::ChatModel;
use llm_openai::ApiKey;
use testkit::fake_openai::Reply;

use crate::support::{KEY, adapter, config, hear, request, start};

#[tokio::test]
async fn no_error_tells_the_key_or_the_prompt() {
    let (server, _) = start().await;
    let mut secretive = config(server.base_url());
    secretive.headers.push(("x-token".to_owned(), ApiKey::new("token-canary-77")));
    secretive.max_retries = 0;
    let model = adapter(secretive);
    let mut private = request();
    private.messages = vec![Message::user("The diagnosis of my aunt is confidential.".to_owned())];
    let tell_tales = [
        format!("Incorrect API key provided: {KEY}."),
        format!("Incorrect API key provided: {}****", &KEY[..14]),
        format!("{}{KEY}", "x".repeat(150)),
        "unknown token token-canary-77".to_owned(),
        "cannot read: diagnosis of my aunt is confidential".to_owned(),
    ];
    let mut told = Vec::new();
    for text in &tell_tales {
        for status in [400, 401, 403, 404, 422, 429, 500, 503, 200] {
            server.push(Reply::error(status, "code", text));
            told.push(hear(&model, &private).await.1.unwrap_err());
        }
        server.push(Reply::events(format!("data: {{\"error\": {{\"message\": \"{text}\"}}}}\n\n")));
        told.push(hear(&model, &private).await.1.unwrap_err());
        server.push(Reply::events(format!("data: {text}\n\n")));
        told.push(hear(&model, &private).await.1.unwrap_err());
        server.push(Reply::raw(502, "text/html", text.as_str()));
        told.push(hear(&model, &private).await.1.unwrap_err());
    }
    for error in told {
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("canary") && !printed.contains("diagnosis"), "{printed}");
    }
    assert!(!format!("{model:?}").contains("canary"));
}

#[tokio::test]
async fn what_harmlessly_helps_is_passed_on() {
    let (server, model) = start().await;
    server.push(Reply::error(404, "model_not_found", "The model `fake-large` does not exist."));
    let error = model.chat(&request(), &|_| {}).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "fake/fake-large refused the request: HTTP 404: The model `fake-large` does not exist."
    );
}

#[tokio::test]
async fn no_log_line_tells_the_key_the_prompt_or_the_answer() {
    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || to.clone())
        .finish();
    // The test, the adapter and the server share one thread.
    let _guard = tracing::subscriber::set_default(subscriber);
    let (server, model) = start().await;
    let mut private = request();
    private.messages = vec![Message::user("The prompt-canary of my aunt is confidential.".to_owned())];
    server.push(Reply::error(503, "overloaded", &format!("busy with {KEY}")));
    server.push(Reply::tool_calls(&[("call_1", "pay", "{\"to\": \"argument-canary\"}")]));
    hear(&model, &private).await.1.unwrap();
    server.push(Reply::text("This is an answer-canary."));
    hear(&model, &private).await.1.unwrap();
    server.push(Reply::events("data: garbage-canary\n\n"));
    hear(&model, &private).await.1.unwrap_err();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("model call is repeated"), "the log is heard: {log}");
    assert!(!log.contains("canary"), "{log}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
