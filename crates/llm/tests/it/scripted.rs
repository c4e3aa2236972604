//! Which turn is played, what it says, and what a wrong dialogue is told.

use std::sync::Mutex;
use std::time::Duration;

use domain::{Message, ToolCall};
use llm::scripted::{Dialogue, DialogueError, Scripted};
use llm::{ChatAnswer, ChatModel, ChatRequest, LlmError, REPAIR_NOTE};
use serde_json::json;

fn user(text: &str) -> Message {
    Message::user(text.to_owned())
}

fn said(answer: &ChatAnswer) -> Message {
    Message::Assistant { text: answer.text.clone(), tool_calls: answer.tool_calls.clone(), reasoning: Vec::new() }
}

fn result(call: &ToolCall, text: &str) -> Message {
    Message::Tool { call_id: call.id.clone(), text: text.to_owned() }
}

fn request(messages: &[Message]) -> ChatRequest {
    ChatRequest {
        model: "play".to_owned(),
        messages: messages.to_vec(),
        tools: Vec::new(),
        output_schema: None,
        temperature: None,
        max_output_tokens: None,
        effort: None,
        timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(5),
    }
}

async fn ask(model: &Scripted, messages: &[Message]) -> Result<ChatAnswer, LlmError> {
    model.chat(&request(messages), &|_| {}).await
}

fn play(yaml: &str) -> Scripted {
    let scripted = Scripted::new();
    scripted.add("play", Dialogue::parse(yaml).expect(yaml));
    scripted
}

const LOOKUP: &str = "
turns:
  - text: Let me look for {{prompt}}.
    tool_calls:
      - { name: http_request, arguments: { url: 'https://example.org/{{prompt}}', tries: 2 } }
      - { name: wait }
  - text: 'Turn {{turn}}: {{last_tool_result}}'
  - text: The third answer.
";

#[tokio::test]
async fn a_dialogue_is_played_turn_by_turn() {
    let model = play(LOOKUP);
    let mut talk = vec![Message::System { text: "Be kind.".to_owned() }, user("tea")];
    let first = ask(&model, &talk).await.unwrap();
    assert_eq!(first.text, "Let me look for tea.");
    let ids: Vec<&str> = first.tool_calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["call-0-0", "call-0-1"]);
    assert_eq!(first.tool_calls[0].arguments, json!({ "url": "https://example.org/tea", "tries": 2 }));
    assert_eq!(first.tool_calls[1].arguments, json!({}));

    talk.push(said(&first));
    talk.push(result(&first.tool_calls[0], "green"));
    talk.push(result(&first.tool_calls[1], "the time has come"));
    assert_eq!(ask(&model, &talk).await.unwrap().text, "Turn 1: the time has come");
}

#[tokio::test]
async fn another_process_gives_the_same_answer_to_the_same_conversation() {
    let mut talk = vec![user("tea")];
    for _ in 0..3 {
        let before = ask(&play(LOOKUP), &talk).await.unwrap();
        let after = ask(&play(LOOKUP), &talk).await.unwrap();
        assert_eq!(before, after);
        talk.push(said(&before));
        talk.extend(before.tool_calls.iter().map(|call| result(call, "green")));
    }
}

#[tokio::test]
async fn each_message_of_a_thread_begins_the_dialogue_anew() {
    let model = play(LOOKUP);
    let earlier = Message::assistant("Coffee is black.".to_owned());
    let talk = [user("coffee"), earlier.clone(), user("cocoa"), earlier, user("tea")];
    assert_eq!(ask(&model, &talk).await.unwrap().text, "Let me look for tea.");
}

#[tokio::test]
async fn an_answer_that_was_sent_back_is_followed_by_the_next_one() {
    let model = play("turns: [{text: 'no json'}, {text: '{\"for\": \"{{prompt}}\"}'}]");
    let first = ask(&model, &[user("tea")]).await.unwrap();
    let talk = [user("tea"), said(&first), user(&format!("{REPAIR_NOTE}\n- not JSON"))];
    assert_eq!(ask(&model, &talk).await.unwrap().text, r#"{"for": "tea"}"#);
}

#[tokio::test]
async fn the_last_turn_repeats_for_ever_when_it_says_so_and_else_the_dialogue_ends() {
    for yaml in [
        "turns: [{text: a}, {tool_calls: [{name: echo}], repeat: true}]",
        "turns: [{text: a}, {tool_calls: [{name: echo}]}, {repeat: true}]",
    ] {
        let model = play(yaml);
        let mut talk = vec![user("go")];
        for turn in 0..20 {
            let answer = ask(&model, &talk).await.unwrap();
            if turn > 0 {
                assert_eq!(answer.tool_calls[0].id, format!("call-{turn}-0"));
            }
            talk.push(said(&answer));
        }
    }
    let model = play("turns: [{text: a}]");
    let answer = ask(&model, &[user("go")]).await.unwrap();
    let error = ask(&model, &[user("go"), said(&answer)]).await.unwrap_err();
    assert!(matches!(&error, LlmError::Refused { .. }));
    assert!(error.to_string().contains("repeat: true"), "{error}");
}

#[tokio::test]
async fn failures_come_as_often_as_they_say_for_each_prompt() {
    let model = play(
        "
turns:
  - { fail: rate_limited, times: 2, retry_after: 3s }
  - { fail: unavailable, times: 1 }
  - text: at last
  - fail: invalid
",
    );
    for prompt in ["one", "two"] {
        for _ in 0..2 {
            let error = ask(&model, &[user(prompt)]).await.unwrap_err();
            assert!(matches!(error, LlmError::RateLimited { retry_after: Some(_), .. }), "{error:?}");
        }
        assert!(matches!(ask(&model, &[user(prompt)]).await, Err(LlmError::Unavailable { .. })));
        let answer = ask(&model, &[user(prompt)]).await.unwrap();
        assert_eq!(answer.text, "at last");
        for _ in 0..3 {
            let next = ask(&model, &[user(prompt), said(&answer)]).await;
            assert!(matches!(next, Err(LlmError::Invalid { .. })));
        }
    }
}

#[tokio::test]
async fn pieces_come_at_the_pace_of_the_dialogue() {
    let model = play("turns: [{text: one two three, delay: 40ms, chunk_delay: 20ms}]");
    let times = Mutex::new(Vec::new());
    let began = tokio::time::Instant::now();
    let on_delta = |text: &str| times.lock().unwrap().push((began.elapsed(), text.to_owned()));
    model.chat(&request(&[user("go")]), &on_delta).await.unwrap();
    let times = times.into_inner().unwrap();
    assert_eq!(times.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["one ", "two ", "three"]);
    for ((at, text), earliest) in times.iter().zip([40, 60, 80]) {
        assert!(*at >= Duration::from_millis(earliest), "{text} came after {at:?}");
    }
}

#[tokio::test]
async fn a_slow_dialogue_is_cut_short_by_the_limits_of_the_request() {
    let mut request = request(&[user("go")]);
    request.idle_timeout = Duration::from_millis(20);
    let error = play("turns: [{text: one two, chunk_delay: 1h}]").chat(&request, &|_| {}).await.unwrap_err();
    assert!(matches!(error, LlmError::Timeout { millis: 20, .. }), "{error:?}");

    request.timeout = Duration::from_millis(50);
    let slow_steps = "turns: [{text: one two three four five six, chunk_delay: 15ms}]";
    for yaml in
        [slow_steps, "turns: [{text: one, delay: 1h}]", "turns: [{hang: true}]", "turns: [{hang: true, text: I}]"]
    {
        let error = play(yaml).chat(&request, &|_| {}).await.unwrap_err();
        assert!(matches!(error, LlmError::Timeout { .. }), "{yaml}: {error:?}");
    }
}

#[tokio::test]
async fn a_dialogue_of_a_folder_is_read_anew_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let model = Scripted::from_dir(folder.path());
    let file = folder.path().join("play.yml");

    let missing = ask(&model, &[user("go")]).await.unwrap_err();
    assert!(matches!(&missing, LlmError::Unknown { .. }), "{missing:?}");

    std::fs::write(&file, "turns: [{text: before}]").unwrap();
    assert_eq!(ask(&model, &[user("go")]).await.unwrap().text, "before");
    std::fs::write(&file, "turns: [{text: and after}]").unwrap();
    assert_eq!(ask(&model, &[user("go")]).await.unwrap().text, "and after");
    assert_eq!(model.names(), ["play"]);

    std::fs::write(&file, "turns: [{txt: typo in here}]").unwrap();
    let error = ask(&model, &[user("go")]).await.unwrap_err().to_string();
    assert!(error.contains("txt") && error.contains("play.yml"), "{error}");

    std::fs::write(&file, format!("# {}\nturns: [{{text: a}}]", "x".repeat(2 * 1024 * 1024))).unwrap();
    let error = ask(&model, &[user("go")]).await.unwrap_err().to_string();
    assert!(error.contains("at most"), "{error}");
}

#[tokio::test]
async fn the_name_of_a_dialogue_stays_within_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    std::fs::write(folder.path().join("secret.yml"), "turns: [{text: a}]").unwrap();
    let model = Scripted::from_dir(folder.path().join("inner"));
    for name in ["../secret", "..", "", ".hidden", "a/b", "a\\b", "a\0b"] {
        let mut request = request(&[user("go")]);
        request.model = name.to_owned();
        assert!(matches!(model.chat(&request, &|_| {}).await, Err(LlmError::Unknown { .. })), "{name}");
    }
}

#[test]
fn a_dialogue_that_makes_no_sense_is_refused_with_the_turn_and_the_reason() {
    for (yaml, told) in [
        ("turns: []", "at least one turn"),
        ("turns: [{}]", "turn 1: needs"),
        ("turns: [{text: a}, {text: b, fail: cut, hang: true}]", "turn 2: `fail` and `hang`"),
        ("turns: [{text: a, repeat: true}, {text: b}]", "turn 2: nothing can follow"),
        ("turns: [{repeat: true}]", "turn 1: `repeat: true` alone"),
        ("turns: [{fail: cut, repeat: true}]", "turn 1: a turn that fails"),
        ("turns: [{text: a, times: 2}]", "turn 1: `times`"),
        ("turns: [{hang: true, retry_after: 1s}]", "turn 1: `retry_after`"),
        ("turns: [{tool_calls: [{name: a, arguments: [1]}]}]", "turn 1: the arguments of a must be a map"),
        ("turns: [{tool_calls: [{name: a, arguments: {b: ['{{nope}}']}}]}]", "turn 1: {{nope}} is unknown"),
        ("turns: [{tool_calls: [{name: a}], finish: length}]", "turn 1: an answer that was cut off"),
        ("turns: [{text: a, finish: tool_calls}]", "turn 1: `finish: tool_calls`"),
        ("turns: [{fail: sometimes}]", "sometimes"),
        ("turns: [{text: a, chunk_delay: 20}]", "duration"),
        ("turn: [{text: a}]", "turn"),
        ("&a [*a, *a]", ""),
    ] {
        let error = Dialogue::parse(yaml).unwrap_err();
        assert!(error.to_string().contains(told), "{yaml}: {error}");
    }
    assert_eq!(Dialogue::parse(&" ".repeat(2_000_000)), Err(DialogueError::TooBig));
}

#[tokio::test]
async fn a_benchmark_dialogue_has_the_steps_and_bytes_that_were_asked_for() {
    for (asked, expected) in [(1, 1), (2, 3), (3, 3), (4, 4), (5, 5), (8, 8), (9, 9)] {
        let model = Scripted::new();
        model.add("play", Dialogue::steps(asked, 1_024));
        let mut talk = vec![user("go")];
        let mut steps = 0;
        loop {
            let answer = ask(&model, &talk).await.unwrap();
            steps += 1 + answer.tool_calls.len();
            talk.push(said(&answer));
            if answer.tool_calls.is_empty() {
                assert_eq!(answer.text.len(), 1_024);
                break;
            }
            for call in &answer.tool_calls {
                assert_eq!(call.name, "echo");
                assert_eq!(call.arguments["text"].as_str().unwrap().len(), 1_024);
                talk.push(result(call, "echoed"));
            }
        }
        assert_eq!(steps, expected, "{asked}");
    }
}
