//! The adapter keeps the port's contract.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use llm::ChatModel;
use llm::contract::{Scene, Subject};
use serde_json::{Value, json};
use testkit::fake_anthropic as fake;
use testkit::fake_http::{FakeHttp, Reply};

use crate::support::{adapter, config};

#[derive(Default)]
struct AnthropicSubject {
    /// A server lives as long as the suite.
    servers: Mutex<Vec<FakeHttp>>,
}

#[async_trait]
impl Subject for AnthropicSubject {
    async fn prepare(&self, scene: &Scene) -> Option<(Arc<dyn ChatModel>, String)> {
        let server = fake::start().await;
        let model = adapter(config(server.base_url()));
        let reply = reply(scene);
        server.otherwise(move |_| reply.clone());
        self.servers.lock().expect("no panic").push(server);
        Some((Arc::new(model), "claude-fake-1".to_owned()))
    }
}

fn answer(text: &str, stop_reason: &str, begun: &Value, ended: &Value) -> Reply {
    let begin = vec![fake::message_start(begun)];
    fake::stream(&[begin, fake::text_block(0, text), fake::message_end(stop_reason, ended)].concat())
}

fn reply(scene: &Scene) -> Reply {
    match scene {
        Scene::Speaks { text, usage } => {
            let begun = json!({ "input_tokens": usage.input_tokens, "output_tokens": 1 });
            let ended = json!({ "output_tokens": usage.output_tokens });
            answer(text, "end_turn", &begun, &ended).in_pieces(11, Duration::ZERO)
        }
        Scene::SpeaksWithoutUsage { text } => answer(text, "end_turn", &Value::Null, &Value::Null),
        Scene::CallsTools { calls } => {
            let calls: Vec<(String, &str, String)> = calls
                .iter()
                .enumerate()
                .map(|(index, (name, input))| (format!("toolu_{index}"), name.as_str(), input.to_string()))
                .collect();
            let calls: Vec<(&str, &str, &str)> =
                calls.iter().map(|(id, name, input)| (id.as_str(), *name, input.as_str())).collect();
            fake::tool_calls(&calls).in_pieces(5, Duration::ZERO)
        }
        Scene::ReachesItsLimit { text } => answer(text, "max_tokens", &Value::Null, &Value::Null),
        Scene::RateLimits { retry_after } => fake::rate_limited(&retry_after.as_secs().to_string()),
        Scene::IsDown => fake::error(529, "overloaded_error", "Overloaded"),
        Scene::Refuses => fake::error(401, "authentication_error", "invalid x-api-key"),
        Scene::FindsItTooLong => {
            fake::error(400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum")
        }
        Scene::Hangs => Reply::silence(),
        Scene::FallsSilent { text } => {
            let begun = [vec![fake::message_start(&Value::Null)], fake::text_block(0, text)].concat();
            let said = fake::stream(&begun);
            let end = said.body().len();
            said.silent_at(end)
        }
        Scene::IsCutOff { text } => {
            let call = fake::tool_block(1, "toolu_1", "lookup", "{\"city\":\"Bern\"}");
            let begin = vec![fake::message_start(&Value::Null)];
            fake::stream(&[begin, fake::text_block(0, text), call].concat())
        }
    }
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    llm::contract::check(&AnthropicSubject::default()).await;
}
