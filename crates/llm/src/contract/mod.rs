//! What every provider must do, as one suite that all of them run.
//!
//! There are two halves, and an adapter's tests run those that apply, each function as a test of its own:
//!
//! - **Scenes** (`Subject`, `check`): what a model does, for every provider. A scene that a provider cannot meet (a model
//!   in process has no rate limit) is left out by returning `None`.
//! - **The wire** (`wire::Wired`): what a server does to the last byte, for every provider behind HTTP. A dialect brings a
//!   fake server that replies what it is told and a way to render an answer as the frames of its stream
//!   (`wire::Told` to `wire::Recording`); the suite cuts, repeats and garbles the frames, and reads what the server was
//!   asked. Then:
//!
//! ```text
//! wire::meaning(&subject).await      // reasoning given back, pictures, names of tools, cached tokens, effort
//! wire::cuts(&subject).await         // a tool call's stream cut at every byte, closed cleanly and by a reset
//! wire::garbage(&subject).await      // random bytes, repeated frames, two ends, strange usage, empty answers, web pages
//! wire::excess(&subject).await       // ten megabytes at once, endless words, silence between words
//! wire::statuses(&subject).await     // 429 with any Retry-After, 5xx, redirects, no secret in any error
//! wire::vectors(&subject).await      // embeddings: whole, in order, finite
//! ```

pub mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{FinishReason, Message, ToolCall, ToolSpec, Usage};
use serde_json::{Value, json};

use crate::{ChatAnswer, ChatModel, ChatRequest, LlmError};

/// What the model is about to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Scene {
    /// Says a text and reports this usage.
    Speaks {
        /// The text, in several pieces.
        text: String,
        /// The usage.
        usage: Usage,
    },
    /// Says a text and reports no usage.
    SpeaksWithoutUsage {
        /// The text.
        text: String,
    },
    /// Asks for tools, by name and arguments.
    CallsTools {
        /// The calls.
        calls: Vec<(String, Value)>,
    },
    /// Reaches its output limit in the middle of a text.
    ReachesItsLimit {
        /// The text.
        text: String,
    },
    /// Asks us to come back after this time, which is longer than an adapter waits by itself.
    RateLimits {
        /// The time.
        retry_after: Duration,
    },
    /// Fails, however often it is asked.
    IsDown,
    /// Refuses the credentials.
    Refuses,
    /// Says that the conversation is too long.
    FindsItTooLong,
    /// Never begins to answer.
    Hangs,
    /// Says this and then nothing more.
    FallsSilent {
        /// The text.
        text: String,
    },
    /// Is cut off in the middle of a tool call, after it said this.
    IsCutOff {
        /// The text.
        text: String,
    },
}

/// A provider under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Prepares a model for one call of this scene: the model, and its name within its provider. `None` when this
    /// provider cannot meet the scene.
    async fn prepare(&self, scene: &Scene) -> Option<(Arc<dyn ChatModel>, String)>;
}

/// No scene may take longer; the times asked for in requests are far shorter.
const AT_MOST: Duration = Duration::from_secs(30);
const TEXT: &str = "Grüße, world: {\"not\": \"a call\"} ✓ and\n\na second paragraph.";

/// Runs the whole suite.
///
/// # Panics
///
/// When the provider breaks a promise; the message says which.
pub async fn check(subject: &dyn Subject) {
    text_is_streamed_and_whole(subject).await;
    missing_usage_is_estimated(subject).await;
    tool_calls_arrive_whole_and_with_ids_of_their_own(subject).await;
    a_text_that_reached_the_limit_says_so(subject).await;
    a_long_rate_limit_is_told_at_once(subject).await;
    errors_have_their_kind_and_name_the_model(subject).await;
    silence_ends_by_itself(subject).await;
    a_cut_off_answer_is_no_answer(subject).await;
}

async fn text_is_streamed_and_whole(subject: &dyn Subject) {
    let usage = Usage::tokens(12, 5);
    let scene = Scene::Speaks { text: TEXT.to_owned(), usage };
    let Some((deltas, answer)) = play(subject, &scene).await else { return };
    let answer = accepted(&scene, answer);
    assert_eq!(answer.text, TEXT, "the text is whole");
    assert_eq!(deltas.concat(), TEXT, "the deltas together are the text");
    assert!(deltas.iter().all(|delta| !delta.is_empty()), "no delta is empty");
    assert!(deltas.len() > 1, "the text is streamed, not given at the end");
    assert_eq!(answer.finish, FinishReason::Stop);
    assert_eq!(answer.tool_calls, [], "text that looks like a call is none");
    assert_eq!(answer.usage, usage, "usage is what the provider reports");
}

async fn missing_usage_is_estimated(subject: &dyn Subject) {
    let scene = Scene::SpeaksWithoutUsage { text: TEXT.to_owned() };
    let Some((_, answer)) = play(subject, &scene).await else { return };
    let usage = accepted(&scene, answer).usage;
    assert!(usage.estimated, "an estimate is marked as one");
    assert!(usage.output_tokens >= crate::tokens_of(TEXT.len()), "the estimate is not too low: {usage:?}");
    assert!(usage.input_tokens > 0, "what was asked counts too: {usage:?}");
}

async fn tool_calls_arrive_whole_and_with_ids_of_their_own(subject: &dyn Subject) {
    let calls = vec![
        (
            "lookup".to_owned(),
            json!({ "city": "Zürich \"quoted\" \\ {", "days": 3, "deep": { "list": [1, null, "x"] } }),
        ),
        ("lookup".to_owned(), json!({ "city": "Bern" })),
    ];
    let scene = Scene::CallsTools { calls: calls.clone() };
    let Some((_, answer)) = play(subject, &scene).await else { return };
    let answer = accepted(&scene, answer);
    let given: Vec<_> = answer.tool_calls.iter().map(|call| (call.name.clone(), call.arguments.clone())).collect();
    assert_eq!(given, calls, "all calls, in their order, with their arguments");
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    let ids: std::collections::BTreeSet<&str> = answer.tool_calls.iter().map(|call| call.id.as_str()).collect();
    assert!(ids.len() == calls.len() && !ids.contains(""), "each call has an id of its own: {ids:?}");
}

async fn a_text_that_reached_the_limit_says_so(subject: &dyn Subject) {
    let scene = Scene::ReachesItsLimit { text: TEXT.to_owned() };
    let Some((_, answer)) = play(subject, &scene).await else { return };
    let answer = accepted(&scene, answer);
    assert_eq!((answer.text.as_str(), answer.finish), (TEXT, FinishReason::Length));
}

async fn a_long_rate_limit_is_told_at_once(subject: &dyn Subject) {
    let scene = Scene::RateLimits { retry_after: Duration::from_secs(90) };
    let Some((_, answer)) = play(subject, &scene).await else { return };
    match answer {
        Err(LlmError::RateLimited { retry_after, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(90)), "what the provider asked for is passed on");
        }
        other => panic!("{scene:?} gave {other:?}"),
    }
}

async fn errors_have_their_kind_and_name_the_model(subject: &dyn Subject) {
    for scene in [Scene::IsDown, Scene::Refuses, Scene::FindsItTooLong] {
        let Some((_, answer)) = play(subject, &scene).await else { continue };
        let Err(error) = answer else { panic!("{scene:?} gave an answer") };
        let right = match scene {
            Scene::IsDown => matches!(error, LlmError::Unavailable { .. }),
            Scene::Refuses => matches!(error, LlmError::Refused { .. }),
            _ => matches!(error, LlmError::ContextTooLong { .. }),
        };
        assert!(right, "{scene:?} gave {error:?}");
        assert!(error.to_string().contains('/'), "the error names provider and model: {error}");
    }
}

async fn silence_ends_by_itself(subject: &dyn Subject) {
    for scene in [Scene::Hangs, Scene::FallsSilent { text: "And then".to_owned() }] {
        let Some((_, answer)) = play(subject, &scene).await else { continue };
        assert!(matches!(answer, Err(LlmError::Timeout { .. })), "{scene:?} gave {answer:?}");
    }
}

async fn a_cut_off_answer_is_no_answer(subject: &dyn Subject) {
    let scene = Scene::IsCutOff { text: "I begin".to_owned() };
    let Some((_, answer)) = play(subject, &scene).await else { return };
    assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{scene:?} gave {answer:?}");
}

async fn play(subject: &dyn Subject, scene: &Scene) -> Option<(Vec<String>, Result<ChatAnswer, LlmError>)> {
    let (model, name) = subject.prepare(scene).await?;
    let deltas = Mutex::new(Vec::new());
    let on_delta = |text: &str| deltas.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    let request = request(name, scene);
    let answer = tokio::time::timeout(AT_MOST, model.chat(&request, &on_delta)).await;
    let Ok(answer) = answer else { panic!("{scene:?} did not end within {AT_MOST:?}") };
    Some((deltas.into_inner().unwrap_or_else(PoisonError::into_inner), answer))
}

fn accepted(scene: &Scene, answer: Result<ChatAnswer, LlmError>) -> ChatAnswer {
    answer.unwrap_or_else(|error| panic!("{scene:?} gave {error}"))
}

/// A conversation with every kind of message, and a tool.
fn request(model: String, scene: &Scene) -> ChatRequest {
    let silent = matches!(scene, Scene::Hangs | Scene::FallsSilent { .. });
    let earlier =
        ToolCall { id: "earlier-1".to_owned(), name: "lookup".to_owned(), arguments: json!({ "city": "Genf" }) };
    ChatRequest {
        model,
        messages: vec![
            Message::System { text: "You know the weather.".to_owned() },
            Message::user("And in Genf?".to_owned()),
            Message::Assistant { text: String::new(), tool_calls: vec![earlier], reasoning: Vec::new() },
            Message::Tool { call_id: "earlier-1".to_owned(), text: "{\"sun\":true}".to_owned() },
            Message::assistant("Sunny.".to_owned()),
            Message::user("What is the weather?".to_owned()),
        ],
        tools: vec![ToolSpec::new(
            "lookup",
            "Looks the weather up.",
            json!({ "type": "object", "properties": { "city": { "type": "string" } } }),
            Duration::from_secs(1),
        )],
        output_schema: None,
        temperature: Some(0.0),
        max_output_tokens: Some(500),
        effort: None,
        timeout: Duration::from_secs(if silent { 2 } else { 20 }),
        idle_timeout: Duration::from_secs(1),
    }
}
