//! What an operator sees of a model call, and what never shows.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::{FinishReason, Message, Usage};
use llm::{ChatAnswer, ChatRequest, LlmError, observed};
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing_subscriber::fmt::format::FmtSpan;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn request() -> ChatRequest {
    ChatRequest {
        model: "large".to_owned(),
        messages: vec![Message::user("canary prompt".to_owned())],
        tools: Vec::new(),
        output_schema: None,
        temperature: None,
        max_output_tokens: None,
        effort: None,
        timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
    }
}

#[test]
fn a_call_shows_as_a_span_and_numbers_without_any_words() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().json().with_span_events(FmtSpan::CLOSE).with_writer(move || writer.clone()).finish();
    let recorder = PrometheusBuilder::new().build_recorder();
    let usage = Usage::tokens(7, 3);
    let answer = ChatAnswer {
        text: "canary answer".to_owned(),
        tool_calls: Vec::new(),
        reasoning: Vec::new(),
        finish: FinishReason::Stop,
        usage,
    };
    let calls = async {
        let given = observed("acme", &request(), async { Ok(answer) }).await;
        assert!(given.is_ok());
        let error = LlmError::Timeout { model: "acme/large".to_owned(), millis: 5 };
        let given = observed("acme", &request(), async { Err(error) }).await;
        assert!(given.is_err());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || runtime.block_on(calls));
    });

    let log = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    let spans: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .map(|line: serde_json::Value| line["span"].clone())
        .collect();
    assert_eq!(spans.len(), 2);
    for (field, value) in [
        ("name", "chat"),
        ("gen_ai.system", "acme"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "large"),
        ("gen_ai.response.finish_reason", "stop"),
    ] {
        assert_eq!(spans[0][field], value, "{field}");
    }
    assert_eq!(
        (&spans[0]["gen_ai.usage.input_tokens"], &spans[0]["gen_ai.usage.output_tokens"]),
        (&7.into(), &3.into())
    );
    assert_eq!(spans[1]["error.type"], "model_timeout");
    assert!(!log.contains("canary"), "{log}");

    let numbers = recorder.handle().render();
    for line in [
        r#"llm_requests_total{provider="acme",outcome="ok"} 1"#,
        r#"llm_requests_total{provider="acme",outcome="model_timeout"} 1"#,
        r#"llm_request_seconds_count{provider="acme"} 2"#,
        r#"llm_tokens_total{provider="acme",direction="input"} 7"#,
        r#"llm_tokens_total{provider="acme",direction="output"} 3"#,
    ] {
        assert!(numbers.contains(line), "{line} is missing in\n{numbers}");
    }
}
