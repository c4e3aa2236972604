//! A server, an adapter that speaks with it, and short requests.

use std::sync::Mutex;
use std::time::Duration;

use domain::Message;
use llm::{ChatAnswer, ChatModel, ChatRequest, LlmError};
use llm_bedrock::{ApiKey, AwsKeys, Bedrock, BedrockConfig};
use testkit::fake_bedrock::{self, KEY_ID, MODEL, REGION, SECRET};
use testkit::fake_http::{FakeHttp, Reply};

pub(crate) fn keys() -> AwsKeys {
    AwsKeys { access_key_id: KEY_ID.to_owned(), secret_access_key: ApiKey::new(SECRET), session_token: None }
}

pub(crate) fn config(endpoint: String) -> BedrockConfig {
    BedrockConfig {
        region: Some(REGION.to_owned()),
        endpoint: Some(endpoint),
        keys: Some(keys()),
        max_retries: 2,
        first_pause: Duration::from_millis(1),
        ..BedrockConfig::new("fake")
    }
}

pub(crate) async fn adapter(config: BedrockConfig) -> Bedrock {
    Bedrock::new(config).await.expect("a good configuration")
}

pub(crate) async fn start() -> (FakeHttp, Bedrock) {
    let server = fake_bedrock::start().await;
    let model = adapter(config(server.base_url())).await;
    (server, model)
}

pub(crate) fn request() -> ChatRequest {
    ChatRequest {
        model: MODEL.to_owned(),
        messages: vec![Message::user("What is the weather in the town of Zug today?")],
        tools: Vec::new(),
        output_schema: None,
        temperature: None,
        max_output_tokens: None,
        effort: None,
        timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(10),
    }
}

/// Asks once; gives what was streamed, and the answer.
pub(crate) async fn hear(model: &Bedrock, request: &ChatRequest) -> (String, Result<ChatAnswer, LlmError>) {
    let heard = Mutex::new(String::new());
    let answer = model.chat(request, &|text| heard.lock().expect("no panic").push_str(text)).await;
    (heard.into_inner().expect("no panic"), answer)
}

/// The answer when the server replies like this, however often it is asked.
pub(crate) async fn answer_to(reply: Reply) -> Result<ChatAnswer, LlmError> {
    let (server, model) = start().await;
    server.otherwise(move |_| reply.clone());
    hear(&model, &request()).await.1
}

/// Why the reply is not accepted.
pub(crate) async fn invalid(reply: Reply) -> String {
    match answer_to(reply).await {
        Err(LlmError::Invalid { reason, .. }) => reason,
        other => panic!("not refused as invalid: {other:?}"),
    }
}
