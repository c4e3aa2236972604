//! The examples that come with the platform work: each is published, and each demonstration plays to its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::agent::{BUILT_IN_TOOLS, compile_output_schema};
use domain::{AgentSpec, FinishReason, Message};
use llm::scripted::Scripted;
use llm::{ChatModel, ChatRequest};

use super::house::House;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn examples() -> Vec<AgentSpec> {
    let entries = std::fs::read_dir(root().join("agents")).expect("the examples");
    let specs = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        domain::agent::parse(&path.to_string_lossy(), &std::fs::read(&path).expect("a file")).expect("a sound example")
    });
    specs.collect()
}

#[tokio::test]
async fn all_examples_are_published_together() {
    let house = House::with(&[]).await;
    for entry in std::fs::read_dir(root().join("agents")).expect("the examples") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        house.write(name, std::fs::read(&path).expect("a file"));
    }
    let count = examples().len();
    house.until("/configs", |_, body| body.as_array().is_some_and(|list| list.len() == count)).await;
    house.until_all_well().await;
    house.stop().await;
}

#[tokio::test]
async fn demonstrations_play_to_their_end_with_calls_that_the_tools_accept() {
    let models = Scripted::from_dir(root().join("scripts"));
    let toolkit = tools::builtin(tools::BuiltinOptions::default());
    let demonstrations: Vec<AgentSpec> =
        examples().into_iter().filter(|spec| spec.model.name.starts_with("scripted/")).collect();
    assert!(demonstrations.len() >= 5, "{demonstrations:?}");
    for spec in demonstrations {
        let toolbox = toolkit.for_agent(&spec);
        let mut request = ChatRequest {
            model: spec.model.name.trim_start_matches("scripted/").to_owned(),
            messages: vec![Message::user("a small thing".to_owned())],
            tools: toolbox.specs(),
            output_schema: spec.output_schema.clone(),
            temperature: None,
            max_output_tokens: None,
            effort: None,
            timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
        };
        let last = loop {
            let answer = models.chat(&request, &|_| {}).await.expect("a turn");
            for call in &answer.tool_calls {
                let checked = toolbox.check(&call.name, &call.arguments);
                assert!(checked.is_ok(), "{}: {}", spec.name, checked.err().expect("a refusal"));
            }
            let refused = !fits(&spec, &answer.text);
            let done = answer.finish == FinishReason::Stop && !refused;
            let (text, tool_calls) = (answer.text, answer.tool_calls);
            request.messages.push(Message::Assistant {
                text: text.clone(),
                tool_calls: tool_calls.clone(),
                reasoning: Vec::new(),
            });
            for call in tool_calls {
                request.messages.push(Message::Tool { call_id: call.id, text: "done".to_owned() });
            }
            if done || request.messages.len() > 20 {
                break text;
            }
        };
        assert!(fits(&spec, &last), "{}: {last}", spec.name);
        assert!(request.messages.len() <= 20, "{} does not end", spec.name);
    }
}

fn fits(spec: &AgentSpec, text: &str) -> bool {
    let Some(schema) = &spec.output_schema else { return true };
    let validator = compile_output_schema(schema).expect("a sound schema");
    serde_json::from_str(text).is_ok_and(|value| validator.is_valid(&value))
}

#[test]
fn files_may_name_the_tools_that_there_are() {
    let toolkit = tools::builtin(tools::BuiltinOptions::default());
    assert_eq!(toolkit.names(), BUILT_IN_TOOLS);
}
