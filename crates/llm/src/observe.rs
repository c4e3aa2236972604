//! What an operator sees of model calls: one span and a few numbers a call, the same for all providers.
//!
//! Fields follow OpenTelemetry's conventions for generative AI. Neither prompts nor answers appear.

use std::future::Future;

use domain::FinishReason;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

use crate::{ChatAnswer, ChatRequest, LlmError};

/// Runs a model call within its span, and counts it.
pub async fn observed<F>(provider: &str, request: &ChatRequest, call: F) -> Result<ChatAnswer, LlmError>
where
    F: Future<Output = Result<ChatAnswer, LlmError>> + Send,
{
    let span = tracing::info_span!(
        "chat",
        otel.kind = "client",
        gen_ai.operation.name = "chat",
        gen_ai.system = provider,
        gen_ai.request.model = request.model,
        gen_ai.request.temperature = request.temperature,
        gen_ai.request.max_tokens = request.max_output_tokens,
        gen_ai.response.finish_reason = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        error.type = Empty,
    );
    let started = Instant::now();
    let answer = call.instrument(span.clone()).await;
    let outcome = match &answer {
        Ok(answer) => {
            span.record("gen_ai.response.finish_reason", name(answer.finish));
            span.record("gen_ai.usage.input_tokens", answer.usage.input_tokens);
            span.record("gen_ai.usage.output_tokens", answer.usage.output_tokens);
            count_tokens(provider, answer);
            "ok"
        }
        Err(error) => {
            span.record("error.type", error.kind().as_str());
            error.kind().as_str()
        }
    };
    metrics::counter!("llm_requests_total", "provider" => provider.to_owned(), "outcome" => outcome).increment(1);
    metrics::histogram!("llm_request_seconds", "provider" => provider.to_owned())
        .record(started.elapsed().as_secs_f64());
    answer
}

fn name(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Length => "length",
        FinishReason::ContentFilter => "content_filter",
    }
}

fn count_tokens(provider: &str, answer: &ChatAnswer) {
    for (direction, tokens) in [("input", answer.usage.input_tokens), ("output", answer.usage.output_tokens)] {
        metrics::counter!("llm_tokens_total", "provider" => provider.to_owned(), "direction" => direction)
            .increment(tokens);
    }
}
