//! The adapter keeps the port's contract.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use llm::ChatModel;
use llm::contract::{Scene, Subject};
use serde_json::json;
use testkit::fake_bedrock::{self as fake, MODEL};
use testkit::fake_http::{FakeHttp, Reply};

use crate::support::{adapter, config};

#[derive(Default)]
struct BedrockSubject {
    /// A server lives as long as the suite.
    servers: Mutex<Vec<FakeHttp>>,
}

#[async_trait]
impl Subject for BedrockSubject {
    async fn prepare(&self, scene: &Scene) -> Option<(Arc<dyn ChatModel>, String)> {
        let reply = reply(scene);
        let server = fake::start().await;
        let model = adapter(config(server.base_url())).await;
        server.otherwise(move |_| reply.clone());
        self.servers.lock().expect("no panic").push(server);
        Some((Arc::new(model), MODEL.to_owned()))
    }
}

fn spoken(text: &str, stop_reason: &str, rest: Vec<Vec<u8>>) -> Reply {
    let begin = vec![fake::message_start()];
    fake::stream(&[begin, fake::text_block(0, text), vec![fake::message_stop(stop_reason)], rest].concat())
}

fn reply(scene: &Scene) -> Reply {
    match scene {
        Scene::Speaks { text, usage } => {
            let usage = json!({ "inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens });
            spoken(text, "end_turn", vec![fake::metadata(&usage)]).in_pieces(11, Duration::ZERO)
        }
        Scene::SpeaksWithoutUsage { text } => spoken(text, "end_turn", Vec::new()),
        Scene::CallsTools { calls } => {
            let calls: Vec<(String, &str, String)> = calls
                .iter()
                .enumerate()
                .map(|(index, (name, input))| (format!("tooluse_{index}"), name.as_str(), input.to_string()))
                .collect();
            let calls: Vec<(&str, &str, &str)> =
                calls.iter().map(|(id, name, input)| (id.as_str(), *name, input.as_str())).collect();
            fake::tool_calls(&calls).in_pieces(5, Duration::ZERO)
        }
        Scene::ReachesItsLimit { text } => spoken(text, "max_tokens", Vec::new()),
        Scene::RateLimits { retry_after } => fake::error(429, "ThrottlingException", "Too many requests")
            .header("retry-after", &retry_after.as_secs().to_string()),
        Scene::IsDown => fake::error(503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
        Scene::Refuses => fake::error(403, "AccessDeniedException", "You don't have access to the model."),
        Scene::FindsItTooLong => fake::error(400, "ValidationException", "Input is too long for requested model."),
        Scene::Hangs => Reply::silence(),
        Scene::FallsSilent { text } => {
            let said = fake::stream(&[vec![fake::message_start()], fake::text_block(0, text)].concat());
            let end = said.body().len();
            said.silent_at(end)
        }
        Scene::IsCutOff { text } => {
            let call = fake::tool_block(1, "tooluse_1", "lookup", "{\"city\":\"Bern\"}");
            fake::stream(&[vec![fake::message_start()], fake::text_block(0, text), call].concat())
        }
    }
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    llm::contract::check(&BedrockSubject::default()).await;
}
