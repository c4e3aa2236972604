//! One call: sign, send, repeat while that is harmless, listen, and end in time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use domain::{Clock, SystemClock};
use llm::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, LlmError};
use llm_http::{Asked, Failed, LONGEST_CALL, Listening, Server, Spoken, WireNames, content_type, http_client, in_time};
use reqwest::{Response, StatusCode, Url};
use tokio::time::Instant;

use crate::answer::{Assembly, Sign};
use crate::config::{AwsKeys, BedrockConfig, BedrockConfigError};
use crate::credentials::CredentialsCache;
use crate::failure::{WORDS, exception, no_credentials, refusal};
use crate::frames::{Frames, header};
use crate::request::{Features, body};
use crate::sign::signed_headers;

const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// Speaks the Converse protocol with the Bedrock of one region.
pub struct Bedrock {
    server: Server,
    region: String,
    credentials: CredentialsCache,
    clock: Arc<dyn Clock>,
    /// What models were found not to know, so that they are asked rightly at once the next time.
    known: Mutex<BTreeMap<String, Features>>,
}

impl Bedrock {
    /// Finds out the region and where credentials will come from; the credentials themselves are fetched by the first call.
    pub async fn new(config: BedrockConfig) -> Result<Self, BedrockConfigError> {
        Self::with_clock(config, Arc::new(SystemClock::default())).await
    }

    /// The same with another clock to sign by.
    pub async fn with_clock(config: BedrockConfig, clock: Arc<dyn Clock>) -> Result<Self, BedrockConfigError> {
        let http = http_client()?;
        let found = loader(&config).load().await;
        let region = config.region.clone().or_else(|| found.region().map(|region| region.as_ref().to_owned()));
        let region = region.ok_or_else(|| BedrockConfigError::NoRegion { provider: config.provider.clone() })?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || !region.bytes().all(plain) {
            return Err(BedrockConfigError::Region { provider: config.provider });
        }
        let provider = match &config.keys {
            Some(keys) => SharedCredentialsProvider::new(fixed(keys)),
            None => found.credentials_provider().expect("the loader was not told to go without credentials"),
        };
        Ok(Self {
            server: Server::new(config.to_server_config(&region), WORDS, http)?,
            region,
            credentials: CredentialsCache::new(provider),
            clock,
            known: Mutex::default(),
        })
    }

    /// Asks until there is an answer, or nothing more that can harmlessly be tried.
    async fn converse(
        &self,
        request: &ChatRequest,
        on_delta: &DeltaSink<'_>,
        deadline: Instant,
    ) -> Result<ChatAnswer, LlmError> {
        let asked = self.server.asked_to_chat(request);
        let spoken = Spoken::default();
        let on_delta = spoken.noting(on_delta);
        let mut retries = self.server.retries(deadline);
        let mut features = self.known().get(&request.model).copied().unwrap_or_else(|| Features::of(&request.model));
        loop {
            let failed = match self.attempt(&asked, request, features, &on_delta).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match features.without_what_is_named(failed.complaint(), request) {
                Some(fewer) => {
                    features = fewer;
                    self.known().insert(request.model.clone(), fewer.of_the_model());
                }
                None => retries.pause(failed, spoken.anything()).await?,
            }
        }
    }

    async fn attempt(
        &self,
        asked: &Asked<'_>,
        request: &ChatRequest,
        features: Features,
        on_delta: &DeltaSink<'_>,
    ) -> Result<ChatAnswer, Failed> {
        let names = WireNames::of(request);
        let body = body(request, &names, features).map_err(|error| asked.not_sendable(&error))?;
        let request_bytes = body.len();
        let url = self.server.url(&format!("model/{}/converse-stream", escaped(&request.model)));
        let response = self.send(asked, &url, &body).await?;
        asked.not_a_page(&response)?;
        if content_type(&response) != EVENT_STREAM {
            return Err(asked.invalid(&"a document came instead of a stream"));
        }
        let limits = self.server.limits();
        let frames = Frames::new(limits.line_bytes);
        let mut stream = Listening::new(asked, response, frames, limits, request.idle_timeout);
        let mut assembly = Assembly::new(limits.tool_calls);
        while let Some(frame) = stream.next().await? {
            if header(&frame, ":message-type") != Some("event") {
                return Err(exception(asked, &frame));
            }
            match assembly.take(&frame, on_delta).map_err(|flaw| asked.invalid(&flaw))? {
                Sign::Heard => stream.heard(),
                Sign::Ended => {
                    stream.heard();
                    stream.ended();
                }
                Sign::Last => {
                    stream.finish().await;
                    break;
                }
                Sign::Nothing => {}
            }
        }
        assembly.complete(&names, request_bytes).map_err(|flaw| asked.invalid(&flaw))
    }

    /// Sends a signed request; once more with other credentials when these have become stale.
    async fn send(&self, asked: &Asked<'_>, url: &Url, body: &[u8]) -> Result<Response, Failed> {
        let mut fresh = false;
        loop {
            let now = SystemTime::from(self.clock.now());
            let credentials = self.credentials.get(now).await.map_err(|error| no_credentials(asked, &error))?;
            let headers = signed_headers(url, body, &self.region, credentials, now)
                .map_err(|error| asked.not_sendable(&error))?;
            let response = asked.exchange(self.server.post(url, body.to_vec()).headers(headers)).await?;
            if response.status() == StatusCode::OK {
                return Ok(response);
            }
            let (failed, stale) = refusal(asked, response).await;
            if !stale || fresh {
                return Err(failed);
            }
            self.credentials.forget().await;
            fresh = true;
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Features>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ChatModel for Bedrock {
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        let limit = request.timeout.min(LONGEST_CALL);
        let call = self.converse(request, on_delta, Instant::now() + limit);
        let model = self.server.full_name(&request.model);
        llm::observed(self.server.provider(), request, in_time(&model, limit, call)).await
    }
}

impl fmt::Debug for Bedrock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bedrock").field("server", &self.server).field("region", &self.region).finish_non_exhaustive()
    }
}

fn loader(config: &BedrockConfig) -> ConfigLoader {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(path) = &config.profile_file {
        loader = loader.profile_files(EnvConfigFiles::builder().with_file(EnvConfigFileKind::Config, path).build());
    }
    loader
}

fn fixed(keys: &AwsKeys) -> Credentials {
    let token = keys.session_token.as_ref().map(|token| token.expose().to_owned());
    Credentials::new(keys.access_key_id.clone(), keys.secret_access_key.expose(), token, None, "settings")
}

/// A model's id as one segment of a path; ids have colons, and those that are ARNs have slashes.
fn escaped(model: &str) -> String {
    use std::fmt::Write;

    let mut path = String::with_capacity(model.len());
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}
