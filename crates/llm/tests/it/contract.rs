//! The scripted model keeps the port's contract like any other.

use std::sync::Arc;

use async_trait::async_trait;
use llm::ChatModel;
use llm::contract::{Scene, Subject};
use llm::scripted::{Dialogue, Scripted};
use serde_json::{Value, json};

struct ScriptedSubject;

#[async_trait]
impl Subject for ScriptedSubject {
    async fn prepare(&self, scene: &Scene) -> Option<(Arc<dyn ChatModel>, String)> {
        let turn = match scene {
            Scene::Speaks { text, usage } => json!({
                "text": text,
                "usage": { "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens },
            }),
            Scene::SpeaksWithoutUsage { text } => json!({ "text": text }),
            Scene::CallsTools { calls } => {
                let calls: Vec<Value> =
                    calls.iter().map(|(name, arguments)| json!({ "name": name, "arguments": arguments })).collect();
                json!({ "tool_calls": calls })
            }
            Scene::ReachesItsLimit { text } => json!({ "text": text, "finish": "length" }),
            Scene::RateLimits { retry_after } => {
                json!({ "fail": "rate_limited", "retry_after": format!("{}s", retry_after.as_secs()) })
            }
            Scene::IsDown => json!({ "fail": "unavailable" }),
            Scene::Refuses => json!({ "fail": "refused" }),
            Scene::FindsItTooLong => json!({ "fail": "context_too_long" }),
            Scene::Hangs => json!({ "hang": true }),
            Scene::FallsSilent { text } => json!({ "hang": true, "text": text }),
            Scene::IsCutOff { text } => json!({ "fail": "cut", "text": text }),
        };
        let yaml = json!({ "turns": [turn] }).to_string();
        let scripted = Scripted::new();
        scripted.add("contract", Dialogue::parse(&yaml).expect("JSON is YAML"));
        Some((Arc::new(scripted), "contract".to_owned()))
    }
}

#[tokio::test]
async fn a_scripted_model_keeps_the_contract() {
    llm::contract::check(&ScriptedSubject).await;
}
