//! The adapter keeps the port's contract.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use llm::ChatModel;
use llm::contract::{Scene, Subject};
use serde_json::{Value, json};
use testkit::fake_http::{FakeHttp, Reply};
use testkit::fake_ollama as fake;

use crate::support::{adapter, config};

#[derive(Default)]
struct OllamaSubject {
    /// A server lives as long as the suite.
    servers: Mutex<Vec<FakeHttp>>,
}

#[async_trait]
impl Subject for OllamaSubject {
    async fn prepare(&self, scene: &Scene) -> Option<(Arc<dyn ChatModel>, String)> {
        let reply = reply(scene);
        let server = fake::start().await;
        let model = adapter(config(server.base_url()));
        server.otherwise(move |_| reply.clone());
        self.servers.lock().expect("no panic").push(server);
        Some((Arc::new(model), "fake-small".to_owned()))
    }
}

fn spoken(text: &str, reason: &str, counts: &Value) -> Reply {
    fake::stream(&[fake::said(text), vec![fake::done(reason, counts)]].concat())
}

fn reply(scene: &Scene) -> Reply {
    match scene {
        Scene::Speaks { text, usage } => {
            let counts = fake::counts(usage.input_tokens as i64, usage.output_tokens as i64);
            spoken(text, "stop", &counts).in_pieces(11, Duration::ZERO)
        }
        Scene::SpeaksWithoutUsage { text } => spoken(text, "stop", &Value::Null),
        Scene::CallsTools { calls } => {
            let calls: Vec<(&str, Value)> = calls.iter().map(|(name, input)| (name.as_str(), input.clone())).collect();
            fake::tool_calls(&calls).in_pieces(5, Duration::ZERO)
        }
        Scene::ReachesItsLimit { text } => spoken(text, "length", &Value::Null),
        // Ollama limits no rates, but what stands before it may.
        Scene::RateLimits { retry_after } => {
            fake::error(429, "too many requests").header("retry-after", &retry_after.as_secs().to_string())
        }
        Scene::IsDown => fake::error(503, "server busy, please try again.  maximum pending requests exceeded"),
        Scene::Refuses => fake::error(404, "model 'fake-small' not found"),
        Scene::FindsItTooLong => fake::error(400, "the input length exceeds the context length"),
        Scene::Hangs => Reply::silence(),
        Scene::FallsSilent { text } => {
            let said = fake::stream(&fake::said(text));
            let end = said.body().len();
            said.silent_at(end)
        }
        Scene::IsCutOff { text } => {
            let call = fake::called(&[("lookup", json!({ "city": "Bern" }))]);
            fake::stream(&[fake::said(text), call].concat())
        }
    }
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    llm::contract::check(&OllamaSubject::default()).await;
}
