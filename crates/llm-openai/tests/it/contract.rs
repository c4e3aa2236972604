//! The adapter keeps the port's contract.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use llm::ChatModel;
use llm::contract::{Scene, Subject};
use testkit::fake_openai::{FakeOpenAi, Reply};

use crate::support::{adapter, config};

#[derive(Default)]
struct OpenAiSubject {
    /// A server lives as long as the suite.
    servers: Mutex<Vec<FakeOpenAi>>,
}

#[async_trait]
impl Subject for OpenAiSubject {
    async fn prepare(&self, scene: &Scene) -> Option<(Arc<dyn ChatModel>, String)> {
        let server = FakeOpenAi::start().await;
        let model = adapter(config(server.base_url()));
        let scene = scene.clone();
        server.otherwise(move |_| reply(&scene));
        self.servers.lock().expect("no panic").push(server);
        Some((Arc::new(model), "fake-large".to_owned()))
    }
}

fn reply(scene: &Scene) -> Reply {
    let spoken = |text: &str, finish: &str| [Reply::text_chunks(text), vec![Reply::finish(finish)]].concat();
    match scene {
        Scene::Speaks { text, usage } => {
            let usage = Reply::usage(usage.input_tokens as i64, usage.output_tokens as i64);
            Reply::stream(&[spoken(text, "stop"), vec![usage]].concat()).in_pieces(11, Duration::ZERO)
        }
        Scene::SpeaksWithoutUsage { text } => Reply::stream(&spoken(text, "stop")),
        Scene::CallsTools { calls } => {
            let calls: Vec<(String, String, String)> = calls
                .iter()
                .enumerate()
                .map(|(index, (name, arguments))| (format!("call_{index}"), name.clone(), arguments.to_string()))
                .collect();
            let calls: Vec<(&str, &str, &str)> =
                calls.iter().map(|(id, name, text)| (id.as_str(), name.as_str(), text.as_str())).collect();
            Reply::tool_calls(&calls).in_pieces(5, Duration::ZERO)
        }
        Scene::ReachesItsLimit { text } => Reply::stream(&spoken(text, "length")),
        Scene::RateLimits { retry_after } => Reply::rate_limited(&retry_after.as_secs().to_string()),
        Scene::IsDown => Reply::error(503, "overloaded", "try later"),
        Scene::Refuses => Reply::error(401, "invalid_api_key", "Incorrect API key provided"),
        Scene::FindsItTooLong => Reply::error(400, "context_length_exceeded", "maximum context length is 8192 tokens"),
        Scene::Hangs => Reply::silence(),
        Scene::FallsSilent { text } => {
            let said = Reply::stream(&Reply::text_chunks(text));
            let end = said.body().len() - "data: [DONE]\n\n".len();
            said.silent_at(end)
        }
        Scene::IsCutOff { text } => {
            let call = Reply::call_chunks(&[("call_1", "lookup", "{\"city\":\"Bern\"}")]);
            Reply::stream(&[Reply::text_chunks(text), call].concat())
        }
    }
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    llm::contract::check(&OpenAiSubject::default()).await;
}
