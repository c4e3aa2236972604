//! Which models there are, and which one `default` stands for.
//!
//! The choice: what was named, then a key in the environment, then a server at its usual port on this machine, then the
//! model that runs in this process. Every step is told as a `Finding`, so that `agentrunner doctor` can say which and why.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::config::{Secret, Validate};
use llm::scripted::Scripted;
use llm::{Models, Provider};
use llm_openai::{ApiKey, OpenAi, OpenAiConfig};
use serde::{Deserialize, Serialize};

/// How long a server at its usual port has to list its models.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
/// The model that is asked of the OpenAI provider when none is named.
const OPENAI_MODEL: &str = "gpt-5-mini";
const OPENAI_URL: &str = "https://api.openai.com/v1";

/// Servers of models on this machine: provider, usual address.
const USUAL: [(&str, &str); 4] = [
    ("ollama", "http://127.0.0.1:11434/v1"),
    ("llamacpp", "http://127.0.0.1:8080/v1"),
    ("lmstudio", "http://127.0.0.1:1234/v1"),
    ("vllm", "http://127.0.0.1:8000/v1"),
];

/// The settings of the models.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// What `default` stands for, as `provider/name`; empty: the first one that is found.
    pub agentrunner_model: String,
    /// Whether the usual ports of this machine are looked at.
    pub agentrunner_probe: bool,
    /// The folder of scripted dialogues.
    pub agentrunner_scripts: PathBuf,
    /// The file of a local model outside the cache folder; empty: none.
    pub agentrunner_local_model: String,
    /// The key of the OpenAI provider.
    pub openai_api_key: Secret,
    /// The address of the OpenAI provider, or of any server that speaks the same; empty: OpenAI itself.
    pub openai_base_url: String,
    /// The OpenAI provider's default model.
    pub openai_model: String,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            agentrunner_model: String::new(),
            agentrunner_probe: true,
            agentrunner_scripts: PathBuf::from("config/scripts"),
            agentrunner_local_model: String::new(),
            openai_api_key: Secret::default(),
            openai_base_url: String::new(),
            openai_model: OPENAI_MODEL.to_owned(),
        }
    }
}

impl Validate for ModelSettings {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.agentrunner_model.is_empty() && !self.agentrunner_model.contains('/') {
            problems.push("AGENTRUNNER_MODEL must be `provider/name`, such as openai/gpt-5-mini".to_owned());
        }
        if self.openai_model.is_empty() {
            problems.push("OPENAI_MODEL must name a model".to_owned());
        }
        problems
    }
}

/// What was found.
pub struct Discovery {
    /// The models; those of a provider that was not found are missing.
    pub models: Models,
    /// How the choice was made, in its order.
    pub findings: Vec<Finding>,
    /// The local model was chosen and its file is not here yet: fetch it before the first task.
    pub fetch_local: bool,
}

/// One step of the choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked for.
    pub what: String,
    /// Whether it is there.
    pub found: bool,
    /// Whether `default` stands for it.
    pub chosen: bool,
    /// Why, or what to do to have it.
    pub why: String,
}

/// Looks for models. Asks nobody when `agentrunner_probe` is off.
pub async fn discover(settings: &ModelSettings) -> Discovery {
    let mut search = Search {
        models: Models::default(),
        findings: Vec::new(),
        chosen: (!settings.agentrunner_model.is_empty()).then(|| settings.agentrunner_model.clone()),
        fetch_local: false,
    };
    search.scripted(settings);
    search.named(settings);
    search.openai(settings);
    search.servers(settings).await;
    search.local(settings);
    if let Some(chosen) = &search.chosen {
        search.models.set_default(chosen.clone());
    }
    Discovery { models: search.models, findings: search.findings, fetch_local: search.fetch_local }
}

struct Search {
    models: Models,
    findings: Vec<Finding>,
    chosen: Option<String>,
    fetch_local: bool,
}

impl Search {
    fn tell(&mut self, what: impl Into<String>, found: bool, chosen: bool, why: impl Into<String>) {
        self.findings.push(Finding { what: what.into(), found, chosen, why: why.into() });
    }

    /// Chooses `model` unless something before it was chosen.
    fn offer(&mut self, model: String) -> bool {
        if self.chosen.is_none() {
            self.chosen = Some(model);
            return true;
        }
        false
    }

    fn scripted(&mut self, settings: &ModelSettings) {
        let scripted = Scripted::from_dir(&settings.agentrunner_scripts);
        let models = scripted.names();
        let note = format!("dialogues of {}", settings.agentrunner_scripts.display());
        self.models.add("scripted", Provider { chat: Arc::new(scripted), models, note });
    }

    fn named(&mut self, settings: &ModelSettings) {
        if settings.agentrunner_model.is_empty() {
            self.tell("AGENTRUNNER_MODEL", false, false, "not set; the first model that is found is the default");
        } else {
            let name = settings.agentrunner_model.clone();
            self.tell("AGENTRUNNER_MODEL", true, true, format!("names {name}"));
        }
    }

    fn openai(&mut self, settings: &ModelSettings) {
        let (key, url) = (&settings.openai_api_key, &settings.openai_base_url);
        if key.is_empty() && url.is_empty() {
            self.tell("OPENAI_API_KEY", false, false, "not set; set it, or OPENAI_BASE_URL, to use a server's models");
            return;
        }
        let base_url = if url.is_empty() { OPENAI_URL } else { url.as_str() };
        let mut config = OpenAiConfig::new("openai", base_url);
        if !key.is_empty() {
            config = config.with_api_key(ApiKey::new(key.expose()));
        }
        let what = if key.is_empty() { "OPENAI_BASE_URL" } else { "OPENAI_API_KEY" };
        match open(config) {
            Ok(chat) => {
                let model = format!("openai/{}", settings.openai_model);
                let chosen = self.offer(model.clone());
                let note = format!("{base_url}, because {what} is set");
                let models = vec![settings.openai_model.clone()];
                self.models.add("openai", Provider { chat: Arc::new(chat), models, note: note.clone() });
                self.tell(what, true, chosen, format!("{model} at {note}"));
            }
            Err(error) => self.tell(what, false, false, error),
        }
    }

    async fn servers(&mut self, settings: &ModelSettings) {
        if !settings.agentrunner_probe {
            self.tell("servers on this machine", false, false, "not looked for: AGENTRUNNER_PROBE is false");
            return;
        }
        let answers = futures::future::join_all(USUAL.map(|(name, url)| probe(name, url))).await;
        for ((name, url), answer) in USUAL.into_iter().zip(answers) {
            let Some((chat, models)) = answer else {
                self.tell(name, false, false, format!("nothing lists models at {url}"));
                continue;
            };
            let chats = models.iter().find(|model| chats(model));
            let chosen = chats.is_some_and(|model| self.offer(format!("{name}/{model}")));
            let why = match chats {
                Some(model) => format!("{} models at {url}, the first that chats is {model}", models.len()),
                None => format!("a server without chat models at {url}"),
            };
            self.models.add(name, Provider { chat: Arc::new(chat), models, note: format!("found at {url}") });
            self.tell(name, true, chosen, why);
        }
    }

    #[cfg(feature = "local-models")]
    fn local(&mut self, settings: &ModelSettings) {
        use llm_local::{Cache, DEFAULT_MODEL, Local, LocalOptions};

        let mut cache = Cache::from_env();
        if !settings.agentrunner_local_model.is_empty() {
            cache = cache.with_file(&settings.agentrunner_local_model);
        }
        let named = cache.named().map(|(name, _)| name);
        let mut models: Vec<String> = cache.list().into_iter().map(|model| model.name).collect();
        let wanted = named.unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        let here = cache.find(&wanted).is_some();
        let chosen = self.offer(format!("local/{wanted}"));
        if !models.contains(&wanted) {
            models.push(wanted.clone());
        }
        let dir = cache.dir().display().to_string();
        self.fetch_local =
            !here && wanted == DEFAULT_MODEL && self.chosen.as_deref() == Some(&format!("local/{DEFAULT_MODEL}"));
        let why = match (here, wanted == DEFAULT_MODEL) {
            (true, _) => format!("{wanted} runs in this process, from {dir}"),
            (false, true) => format!("{wanted} is fetched (99 MB) into {dir} before it is first used"),
            (false, false) => format!("AGENTRUNNER_LOCAL_MODEL names {wanted}, and there is no such file"),
        };
        let note = "runs in this process on the CPU; small, answers plainly, calls no tools".to_owned();
        let local = Local::new(cache, LocalOptions::default());
        self.models.add("local", Provider { chat: Arc::new(local), models, note });
        self.tell("local model", here, chosen, why);
    }

    #[cfg(not(feature = "local-models"))]
    fn local(&mut self, _: &ModelSettings) {
        self.tell("local model", false, false, "this build has none; build with the feature local-models");
    }
}

/// Tells by its name whether a model chats: servers list those that make vectors in the same list.
fn chats(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    !["embed", "rerank", "minilm", "bge-", "whisper"].iter().any(|other| name.contains(other))
}

fn open(config: OpenAiConfig) -> Result<OpenAi, String> {
    let http = llm_openai::http_client().map_err(|error| error.to_string())?;
    OpenAi::new(config, http).map_err(|error| error.to_string())
}

async fn probe(name: &str, url: &str) -> Option<(OpenAi, Vec<String>)> {
    let mut config = OpenAiConfig::new(name, url);
    config.max_retries = 0;
    let looked = open(config).ok()?;
    let models = tokio::time::timeout(PROBE_TIMEOUT, looked.list_models()).await.ok()?.ok()?;
    // Patience again for the calls themselves.
    let chat = open(OpenAiConfig::new(name, url)).ok()?;
    Some((chat, models))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ModelSettings {
        ModelSettings { agentrunner_probe: false, ..ModelSettings::default() }
    }

    fn chosen(discovery: &Discovery) -> Vec<&str> {
        discovery.findings.iter().filter(|finding| finding.chosen).map(|finding| finding.what.as_str()).collect()
    }

    #[tokio::test]
    async fn a_key_is_chosen_before_the_local_model_and_is_never_told() {
        let found = discover(&ModelSettings { openai_api_key: Secret::new("canary-4711"), ..settings() }).await;
        assert_eq!(found.models.default_name().as_deref(), Some("openai/gpt-5-mini"));
        assert_eq!(chosen(&found), ["OPENAI_API_KEY"]);
        assert!(!format!("{:?}", found.findings).contains("canary-4711"));
        assert!(!found.fetch_local, "what is not used is not fetched");
    }

    #[tokio::test]
    async fn what_is_named_is_chosen_before_everything() {
        let named = "scripted/demo".to_owned();
        let found = discover(&ModelSettings {
            agentrunner_model: named.clone(),
            openai_api_key: Secret::new("key"),
            ..settings()
        })
        .await;
        assert_eq!(found.models.default_name().as_deref(), Some(named.as_str()));
        assert_eq!(chosen(&found), ["AGENTRUNNER_MODEL"]);
    }

    #[tokio::test]
    async fn a_server_without_a_key_is_enough() {
        let found = discover(&ModelSettings {
            openai_base_url: "http://127.0.0.1:9/v1".to_owned(),
            openai_model: "tiny".to_owned(),
            ..settings()
        })
        .await;
        assert_eq!(found.models.default_name().as_deref(), Some("openai/tiny"));
    }

    #[cfg(feature = "local-models")]
    #[tokio::test]
    async fn with_nothing_configured_the_local_model_is_the_default() {
        let found = discover(&settings()).await;
        assert!(found.models.default_name().is_some_and(|name| name.starts_with("local/")));
        assert_eq!(chosen(&found), ["local model"]);
    }

    #[tokio::test]
    async fn a_wrong_address_is_told_and_passed_over() {
        let found = discover(&ModelSettings { openai_base_url: "not a url".to_owned(), ..settings() }).await;
        assert_ne!(found.models.default_name().as_deref(), Some("openai/gpt-5-mini"));
        assert!(found.findings.iter().any(|finding| !finding.found && finding.why.contains("URL")));
    }

    #[test]
    fn a_model_that_makes_vectors_is_not_taken_for_one_that_chats() {
        assert!(chats("llama3.2:3b") && chats("Qwen2.5-7B-Instruct"));
        assert!(!chats("nomic-embed-text:latest") && !chats("bge-m3") && !chats("all-minilm"));
    }

    /// A server that answers its first request with these bytes, or never.
    async fn server(answer: Option<&'static str>) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            match answer {
                Some(body) => {
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
                    let text = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                    socket.write_all(text.as_bytes()).await.unwrap();
                }
                None => std::future::pending().await,
            }
        });
        url
    }

    #[tokio::test]
    async fn a_server_at_its_port_lists_its_models() {
        let list = r#"{"object":"list","data":[{"id":"llama3.2:3b","object":"model"},{"id":"b","object":"model"}]}"#;
        let found = probe("ollama", &server(Some(list)).await).await;
        assert_eq!(found.map(|(_, models)| models), Some(vec!["b".to_owned(), "llama3.2:3b".to_owned()]));
    }

    #[tokio::test]
    async fn what_is_no_model_server_or_does_not_answer_is_passed_over() {
        for answer in [Some("<html>hello</html>"), Some("{}"), None] {
            assert!(probe("vllm", &server(answer).await).await.is_none());
        }
        assert!(probe("vllm", "http://127.0.0.1:1/v1").await.is_none());
    }

    #[cfg(feature = "local-models")]
    #[tokio::test]
    async fn a_local_file_that_is_named_is_the_default_and_nothing_is_fetched() {
        let found =
            discover(&ModelSettings { agentrunner_local_model: "/models/mine.gguf".to_owned(), ..settings() }).await;
        assert_eq!(found.models.default_name().as_deref(), Some("local/mine"));
        assert!(!found.fetch_local);
    }
}
