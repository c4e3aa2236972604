//! Measures a local model: `cargo run -p llm-local --example speed [MODEL]`.

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use domain::Message;
use llm::{ChatModel, ChatRequest};
use llm_local::pull::pull_default;
use llm_local::{Cache, DEFAULT_MODEL, Local, LocalOptions};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    let cache = Cache::from_env();
    if model == DEFAULT_MODEL {
        pull_default(&cache, &mut |_| {}).await?;
    }
    let local = Local::new(cache, LocalOptions::default());
    let long = "The sea is wide and the wind is strong. ".repeat(100);
    for (what, text) in [("first, with loading", ""), ("short prompt", ""), ("long prompt", long.as_str())] {
        let request = ChatRequest {
            model: model.clone(),
            messages: vec![Message::user(format!("{text}Explain why the sky is blue, in some detail."))],
            tools: vec![],
            output_schema: None,
            temperature: None,
            max_output_tokens: Some(100),
            effort: None,
            timeout: Duration::from_mins(10),
            idle_timeout: Duration::from_mins(10),
        };
        let (start, first) = (Instant::now(), OnceLock::new());
        let answer = local
            .chat(&request, &|_| {
                first.get_or_init(Instant::now);
            })
            .await?;
        let begun = first.get().map_or_else(|| start.elapsed(), |first| *first - start);
        let speaking = start.elapsed().saturating_sub(begun);
        println!(
            "{what}: {} tokens read, first word after {:.2} s; {} tokens written at {:.1} tokens/s",
            answer.usage.input_tokens,
            begun.as_secs_f64(),
            answer.usage.output_tokens,
            (answer.usage.output_tokens.saturating_sub(1)) as f64 / speaking.as_secs_f64(),
        );
    }
    Ok(())
}
