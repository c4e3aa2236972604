//! What an operator sees of a call, on both sides, and what never shows.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use metrics_exporter_prometheus::PrometheusBuilder;
use state::State;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::support::{Platform, model_step};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_call_is_counted_and_timed_on_both_sides_and_says_no_word_of_its_content() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .finish();
    let recorder = PrometheusBuilder::new().build_recorder();
    let calls = async {
        let platform = Platform::start().await;
        let remote = platform.client();
        let lease = platform.running().await;
        remote.append(lease, vec![model_step(1, platform.now(), "canary")]).await.unwrap();
        platform.store.release(lease).await.unwrap();
        remote.append(lease, vec![model_step(2, platform.now(), "canary")]).await.unwrap_err();
        let malformed = bytes::Bytes::from_static(b"1 {}\n{\"canary\":1}");
        platform.requests.request("state.task", malformed, crate::support::PATIENCE).await.unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || runtime.block_on(calls));
    });

    let text = recorder.handle().render();
    for line in [
        "state_requests_total{side=\"client\",method=\"append\",outcome=\"ok\"} 1",
        "state_requests_total{side=\"client\",method=\"append\",outcome=\"lease_lost\"} 1",
        "state_requests_total{side=\"server\",method=\"append\",outcome=\"ok\"} 1",
        "state_requests_total{side=\"server\",method=\"task\",outcome=\"malformed\"} 1",
        "state_request_seconds_count{side=\"server\",method=\"append\"} 2",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("\"state.call\"") && log.contains("\"state.answer\""), "{log}");
    assert!(log.contains("\"state.method\":\"append\""));
    assert!(!log.contains("canary"), "{log}");
}
