//! What is said arrives, in both directions.

use domain::agent::Effort;
use domain::{FinishReason, Image, Message, Reasoning};
use serde_json::json;

use super::{Connected, Told, Wired, ask, request};
use crate::{ChatAnswer, ChatRequest, LlmError};

/// A picture of one point.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const PICTURE_URL: &str = "https://pictures.example/canary-cat.png";

/// Reasoning is kept and given back, pictures and effort reach the server, names of tools are said back, tokens from the
/// cache are counted.
///
/// # Panics
///
/// When the provider breaks a promise; the message says which.
pub async fn meaning(subject: &dyn Wired) {
    thoughts_are_no_words_of_the_answer(subject).await;
    sealed_thoughts_are_given_back(subject).await;
    pictures_reach_the_server_or_are_refused(subject).await;
    a_tool_with_a_dot_is_called_and_remembered(subject).await;
    cached_tokens_are_counted(subject).await;
    effort_reaches_the_server(subject).await;
}

async fn thoughts_are_no_words_of_the_answer(subject: &dyn Wired) {
    let told = Told { thought: Some("Hm, let me see.".to_owned()), ..Told::text("It is sunny.") };
    let Some(recording) = subject.record(&told) else { return };
    let connected = subject.connect().await;
    connected.server.push(recording.reply());
    let (deltas, answer) = ask(&connected, &request(&connected)).await;
    let answer = accepted(answer);
    assert_eq!((answer.text.as_str(), deltas.concat().as_str()), ("It is sunny.", "It is sunny."));
    let thought: String = answer.reasoning.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(thought, "Hm, let me see.", "what it thought is kept");
}

async fn sealed_thoughts_are_given_back(subject: &dyn Wired) {
    let told = Told {
        thought: Some("I look it up.".to_owned()),
        seal: Some("c2VhbGVkLTQ3MTE=".to_owned()),
        ..Told::call("call_1", "lookup", &json!({ "city": "Bern" }))
    };
    let Some(recording) = subject.record(&told) else { return };
    let connected = subject.connect().await;
    connected.server.push(recording.reply());
    let (deltas, answer) = ask(&connected, &request(&connected)).await;
    let mut answer = accepted(answer);
    assert!(deltas.is_empty(), "thoughts are not streamed as words");
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    assert!(answer.reasoning.iter().any(|piece| piece.opaque.is_some()), "what the provider wants back is kept");
    // What the journal does to it.
    let kept = serde_json::to_string(&answer.reasoning).expect("reasoning is written as JSON");
    answer.reasoning = serde_json::from_str(&kept).expect("reasoning is read again");
    let foreign = json!({ "dialect": "nobody", "item": "foreign-4711" });
    answer.reasoning.push(Reasoning { text: String::new(), opaque: Some(foreign) });

    let asked = go_on(subject, &connected, answer).await;
    assert!(asked.contains("c2VhbGVkLTQ3MTE="), "the next request gives the provider's own back: {asked}");
    assert!(!asked.contains("foreign-4711"), "and nothing of another provider");
}

async fn pictures_reach_the_server_or_are_refused(subject: &dyn Wired) {
    let Some(recording) = subject.record(&Told::text("A point.")) else { return };
    let connected = subject.connect().await;
    connected.server.otherwise(recording.reply());
    let data = format!("data:image/png;base64,{PICTURE}");
    for (url, mark) in [(data.as_str(), PICTURE), (PICTURE_URL, PICTURE_URL)] {
        let before = connected.server.seen().len();
        match ask(&connected, &with_picture(&connected, url)).await.1 {
            Ok(_) => assert!(last_asked(&connected).contains(mark), "the picture reaches the server"),
            Err(LlmError::Refused { .. }) => {
                assert_eq!(
                    connected.server.seen().len(),
                    before,
                    "what a provider cannot see is refused before it is asked"
                );
            }
            Err(error) => panic!("a picture gave {error:?}"),
        }
    }
    let before = connected.server.seen().len();
    for url in ["artifact:a.png", "file:///etc/passwd", "data:image/png;base64,!"] {
        let (_, answer) = ask(&connected, &with_picture(&connected, url)).await;
        assert!(matches!(answer, Err(LlmError::Refused { .. })), "{url} gave {answer:?}");
    }
    assert_eq!(connected.server.seen().len(), before, "what is no picture is not sent");
}

async fn a_tool_with_a_dot_is_called_and_remembered(subject: &dyn Wired) {
    let Some(recording) = subject.record(&Told::call("call_1", "files__read", &json!({ "city": "x" }))) else { return };
    let connected = subject.connect().await;
    connected.server.push(recording.reply());
    let answer = accepted(ask(&connected, &request(&connected)).await.1);
    assert_eq!(answer.tool_calls.len(), 1);
    assert_eq!(answer.tool_calls[0].name, "files.read", "we hear our own name");
    assert!(last_asked(&connected).contains("\"files__read\""), "the server hears one that it allows");
    let asked = go_on(subject, &connected, answer).await;
    assert!(!asked.contains("files.read"), "and no other, in what was said before either: {asked}");
}

async fn cached_tokens_are_counted(subject: &dyn Wired) {
    let told = Told { cached_tokens: Some(7), ..Told::text("Hello again.") };
    let Some(recording) = subject.record(&told) else { return };
    let connected = subject.connect().await;
    connected.server.push(recording.reply());
    let usage = accepted(ask(&connected, &request(&connected)).await.1).usage;
    assert_eq!((usage.input_tokens, usage.cached_input_tokens), (12, 7), "{usage:?}");
    assert!(!usage.estimated, "{usage:?}");
}

async fn effort_reaches_the_server(subject: &dyn Wired) {
    let Some(recording) = subject.record(&Told::text("Hm.")) else { return };
    if !subject.knows_effort() {
        return;
    }
    let connected = subject.connect().await;
    connected.server.otherwise(recording.reply());
    let mut asked = Vec::new();
    for effort in [None, Some(Effort::Low), Some(Effort::High)] {
        let request = ChatRequest { effort, ..request(&connected) };
        accepted(ask(&connected, &request).await.1);
        asked.push(last_asked(&connected));
    }
    assert!(asked[0] != asked[1] && asked[1] != asked[2], "each effort is another request");
}

/// Answers the call, and gives the request that follows as the server saw it.
async fn go_on(subject: &dyn Wired, connected: &Connected, answer: ChatAnswer) -> String {
    let recording = subject.record(&Told::text("Sunny.")).expect("every protocol says words");
    let mut next = request(connected);
    let call_id = answer.tool_calls[0].id.clone();
    let ChatAnswer { text, tool_calls, reasoning, .. } = answer;
    next.messages.push(Message::Assistant { text, tool_calls, reasoning });
    next.messages.push(Message::Tool { call_id, text: "{\"sun\":true}".to_owned() });
    connected.server.push(recording.reply());
    assert_eq!(accepted(ask(connected, &next).await.1).text, "Sunny.");
    last_asked(connected)
}

fn with_picture(connected: &Connected, url: &str) -> ChatRequest {
    let mut request = request(connected);
    let image = Image { url: url.to_owned(), media_type: Some("image/png".to_owned()) };
    request.messages = vec![Message::User { text: "What is this?".to_owned(), images: vec![image] }];
    request
}

fn last_asked(connected: &Connected) -> String {
    connected.server.seen().last().expect("the server was asked").body.to_string()
}

fn accepted(answer: Result<ChatAnswer, LlmError>) -> ChatAnswer {
    answer.unwrap_or_else(|error| panic!("a good answer gave {error:?}"))
}
