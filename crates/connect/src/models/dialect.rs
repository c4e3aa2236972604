//! From a provider's settings to the adapter that speaks with it.

use std::sync::Arc;

use llm::ChatModel;
use llm_anthropic::{ANTHROPIC_BASE_URL, Anthropic, AnthropicConfig};
use llm_http::ApiKey;
use llm_ollama::{Ollama, OllamaConfig};
use llm_openai::{OpenAi, OpenAiConfig, Responses};

use super::file::{HeaderSpec, Kind, ProviderSpec};
use super::{OLLAMA_URL, OPENAI_URL};

/// Looks a variable of the environment up.
pub(super) type Variable<'a> = dyn Fn(&str) -> Option<String> + Send + Sync + 'a;

/// Makes the adapter; the error says what to do, and nothing of any secret. Adapters repeat nothing themselves: who
/// chooses among nodes also decides what is tried again.
pub(super) async fn open(
    name: &str,
    spec: &ProviderSpec,
    variable: &Variable<'_>,
) -> Result<Arc<dyn ChatModel>, String> {
    let key = spec.api_key.as_ref().map(|source| source.read(variable)).transpose()?;
    let headers = headers(spec, variable)?;
    let http = llm_http::http_client().map_err(|error| error.to_string())?;
    let url = |usual: &str| spec.base_url.clone().unwrap_or_else(|| usual.to_owned());
    match spec.kind {
        Kind::Openai | Kind::OpenaiCompatible => {
            let config = openai(name, &url(OPENAI_URL), key, headers);
            Ok(Arc::new(OpenAi::new(config, http).map_err(|error| error.to_string())?))
        }
        Kind::Anthropic => {
            let mut config = AnthropicConfig::new(name, url(ANTHROPIC_BASE_URL));
            (config.api_key, config.headers, config.max_retries) = (key, headers, 0);
            Ok(Arc::new(Anthropic::new(config, http).map_err(|error| error.to_string())?))
        }
        Kind::OpenaiResponses => {
            let config = openai(name, &url(OPENAI_URL), key, headers);
            Ok(Arc::new(Responses::new(config, http).map_err(|error| error.to_string())?))
        }
        Kind::Ollama => {
            let mut config = OllamaConfig::new(name, url(OLLAMA_URL));
            (config.api_key, config.headers, config.max_retries) = (key, headers, 0);
            Ok(Arc::new(Ollama::new(config, http).map_err(|error| error.to_string())?))
        }
        Kind::Bedrock => bedrock(name, spec).await,
    }
}

pub(super) fn openai(name: &str, base_url: &str, key: Option<ApiKey>, headers: Vec<(String, ApiKey)>) -> OpenAiConfig {
    let mut config = OpenAiConfig::new(name, base_url);
    (config.api_key, config.headers, config.max_retries) = (key, headers, 0);
    config
}

#[cfg(feature = "bedrock")]
async fn bedrock(name: &str, spec: &ProviderSpec) -> Result<Arc<dyn ChatModel>, String> {
    use llm_bedrock::{Bedrock, BedrockConfig};

    let mut config = BedrockConfig::new(name);
    (config.region, config.profile, config.max_retries) = (spec.region.clone(), spec.profile.clone(), 0);
    config.endpoint.clone_from(&spec.base_url);
    Ok(Arc::new(Bedrock::new(config).await.map_err(|error| error.to_string())?))
}

#[cfg(not(feature = "bedrock"))]
#[expect(clippy::unused_async, reason = "has the shape of the one that looks for credentials")]
async fn bedrock(_: &str, _: &ProviderSpec) -> Result<Arc<dyn ChatModel>, String> {
    Err("this build does not speak with Bedrock; build with the feature bedrock".to_owned())
}

/// Ollama as it is when nobody has set it up.
pub(super) fn ollama(name: &str, base_url: &str) -> Option<Ollama> {
    let mut config = OllamaConfig::new(name, base_url);
    config.max_retries = 0;
    Ollama::new(config, llm_http::http_client().ok()?).ok()
}

fn headers(spec: &ProviderSpec, variable: &Variable<'_>) -> Result<Vec<(String, ApiKey)>, String> {
    let value = |header: &HeaderSpec| match header {
        HeaderSpec::Plain(text) => Ok(ApiKey::new(text)),
        HeaderSpec::Secret(source) => source.read(variable),
    };
    spec.headers.iter().map(|(name, header)| Ok((name.clone(), value(header)?))).collect()
}

/// Where a provider is, for people.
pub(super) fn address(spec: &ProviderSpec) -> String {
    match (&spec.base_url, spec.kind) {
        (Some(url), _) => url.clone(),
        (None, Kind::Openai | Kind::OpenaiResponses | Kind::OpenaiCompatible) => OPENAI_URL.to_owned(),
        (None, Kind::Anthropic) => ANTHROPIC_BASE_URL.to_owned(),
        (None, Kind::Ollama) => OLLAMA_URL.to_owned(),
        (None, Kind::Bedrock) => {
            spec.region.as_ref().map_or_else(|| "AWS Bedrock".to_owned(), |region| format!("AWS Bedrock in {region}"))
        }
    }
}
