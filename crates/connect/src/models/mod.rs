//! Which models there are, and which one `default` stands for.
//!
//! The choice: what was named, then what `config/models.yml` says, then a key in the environment, then a provider of that
//! file whose key is there, then a server at its usual port on this machine, then the model that runs in this process.
//! Every step is told as a `Finding`, so that `agentrunner doctor` can say which and why.

mod dialect;
mod file;
mod secrets;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::config::{Secret, Validate};
use domain::file::FileProblem;
use llm::scripted::Scripted;
use llm::{Catalogue, ChatModel, ModelTerms, Models, NodeSettings, Price, Provider};
use llm_http::ApiKey;
use llm_openai::OpenAi;
use serde::{Deserialize, Serialize};

pub use file::{
    BreakerSpec, HeaderSpec, Kind, LimitsSpec, ModelSpec, ModelsFile, NodesSpec, PriceSpec, ProviderSpec, RouteSpec,
    TargetSpec,
};
pub use secrets::KeySource;
pub use watch::Watch;

/// How long a server at its usual port has to list its models.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
/// The model that is asked of the OpenAI provider when none is named.
const OPENAI_MODEL: &str = "gpt-5-mini";
const OPENAI_URL: &str = "https://api.openai.com/v1";
const OLLAMA_URL: &str = "http://127.0.0.1:11434";
/// The file of the models when no other is named; it need not be there.
const MODELS_FILE: &str = "config/models.yml";
/// The largest file of models that is read.
const LARGEST_FILE: u64 = domain::file::MAX_FILE_BYTES as u64;

/// Servers of models on this machine: provider, usual address.
const USUAL: [(&str, &str); 4] = [
    ("ollama", OLLAMA_URL),
    ("llamacpp", "http://127.0.0.1:8080/v1"),
    ("lmstudio", "http://127.0.0.1:1234/v1"),
    ("vllm", "http://127.0.0.1:8000/v1"),
];

/// What runs in this process or on this machine costs no money.
const FREE: ModelTerms =
    ModelTerms { price: Some(Price::FREE), context_window: None, max_output_tokens: None, embeddings: false };

/// The settings of the models.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// What `default` stands for, as `provider/name` or a route; empty: the first one that is found.
    pub agentrunner_model: String,
    /// The file of providers, prices and routes. The usual one need not be there.
    pub agentrunner_models: PathBuf,
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
            agentrunner_models: PathBuf::from(MODELS_FILE),
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
        if self
            .agentrunner_model
            .split_once('/')
            .is_some_and(|(provider, model)| provider.is_empty() || model.is_empty())
        {
            problems.push(
                "AGENTRUNNER_MODEL must be `provider/name`, such as openai/gpt-5-mini, or the name of a route"
                    .to_owned(),
            );
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
    /// What is wrong with the file of the models; without it, what could be found is there all the same.
    pub problems: Vec<FileProblem>,
    /// The local model was chosen and its file is not here yet: fetch it before the first task.
    pub fetch_local: bool,
    /// Keeps the models as their file says, once it is run.
    pub watch: Watch,
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
    discover_with(settings, Box::new(|name| std::env::var(name).ok())).await
}

/// Looks for models; `variable` looks up where the file says that keys are in the environment.
pub async fn discover_with(settings: &ModelSettings, variable: Box<Environment>) -> Discovery {
    let source = watch::Source::new(&settings.agentrunner_models, variable);
    let read = source.read().await;
    let (parsed, problems) = match &read {
        Ok(Some(text)) => match ModelsFile::parse(&source.name(), text) {
            Ok(parsed) => (parsed, Vec::new()),
            Err(problems) => (ModelsFile::default(), problems),
        },
        Ok(None) => (ModelsFile::default(), Vec::new()),
        Err(reason) => (ModelsFile::default(), vec![FileProblem::of_file(source.name(), reason.clone())]),
    };
    let mut search = Search { base: Base::default(), findings: Vec::new(), local_to_fetch: None };
    search.scripted(settings);
    search.named(settings);
    search.openai(settings, &parsed);
    search.servers(settings, &parsed).await;
    search.local(settings);
    let Search { base, mut findings, local_to_fetch } = search;
    let made = base.with(&parsed, source.variable()).await;
    findings.splice(1..1, made.findings);
    let chosen = made.catalogue.default_name().map(str::to_owned);
    if let Some(rank) = made.chosen {
        let steps = base.offers.iter().filter(|offer| offer.rank == rank && Some(&offer.model) == chosen.as_ref());
        for step in steps {
            findings.iter_mut().filter(|finding| finding.what == step.what).for_each(|finding| finding.chosen = true);
        }
    }
    let models = Models::new(made.catalogue);
    let fetch_local = local_to_fetch.is_some() && local_to_fetch == chosen;
    Discovery { models, findings, problems, fetch_local, watch: Watch::new(base, source, read) }
}

/// Looks a variable of the environment up.
pub type Environment = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What can make a model the default one: the lower, the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Named,
    File,
    Environment,
    FileProvider,
    Server,
    #[cfg_attr(not(feature = "local-models"), expect(dead_code, reason = "only a build with local models offers one"))]
    Local,
}

/// Something that would make a model the default one.
#[derive(Debug, Clone)]
struct Offer {
    rank: Rank,
    what: String,
    model: String,
}

/// What there is beside the file, which may change while the process runs.
#[derive(Clone, Default)]
struct Base {
    catalogue: Catalogue,
    offers: Vec<Offer>,
    openai_model: String,
}

/// The base together with a file.
struct Made {
    catalogue: Catalogue,
    findings: Vec<Finding>,
    chosen: Option<Rank>,
}

impl Base {
    /// Adds what a file says, and chooses the default.
    async fn with(&self, file: &ModelsFile, variable: &dialect::Variable<'_>) -> Made {
        let mut catalogue = self.catalogue.clone();
        let mut findings = Vec::new();
        let mut offers = self.offers.clone();
        for (name, spec) in &file.models {
            catalogue.describe(name, spec.terms());
        }
        for (name, spec) in &file.providers {
            let usual = (name == "openai").then(|| self.openai_model.clone());
            let default_model = spec.default_model.clone().or(usual);
            let why = match dialect::open(name, spec, variable).await {
                Ok(chat) => {
                    let note = format!("{}, of the file of the models", dialect::address(spec));
                    let models = default_model.iter().cloned().collect();
                    catalogue.add_node(name, Provider { chat, models, note: note.clone() }, spec.settings());
                    if let Some(model) = default_model {
                        let (what, model) = (format!("provider {name}"), format!("{name}/{model}"));
                        offers.push(Offer { rank: Rank::FileProvider, what, model });
                    }
                    Ok(note)
                }
                Err(why) => {
                    catalogue.lack(name, format!("provider {name} cannot be used: {why}"));
                    Err(why)
                }
            };
            findings.push(Finding {
                what: format!("provider {name}"),
                found: why.is_ok(),
                chosen: false,
                why: why.unwrap_or_else(|why| why),
            });
        }
        for (name, route) in &file.routes {
            catalogue.add_route(name, route.targets());
        }
        if let Some(default) = &file.default {
            let usable = catalogue.is_usable(default);
            let why =
                if usable { format!("names {default}") } else { format!("names {default}, which cannot be used") };
            let what = "default of the file of the models".to_owned();
            findings.insert(0, Finding { what: what.clone(), found: usable, chosen: false, why });
            if usable {
                offers.push(Offer { rank: Rank::File, what, model: default.clone() });
            }
        }
        // Of equal offers the first one counts.
        let best = offers.iter().min_by_key(|offer| offer.rank);
        if let Some(offer) = best {
            catalogue.set_default(offer.model.clone());
            findings.iter_mut().filter(|finding| finding.what == offer.what).for_each(|finding| finding.chosen = true);
        }
        Made { chosen: best.map(|offer| offer.rank), catalogue, findings }
    }
}

struct Search {
    base: Base,
    findings: Vec<Finding>,
    /// The local model, when it is the usual one and not here yet.
    local_to_fetch: Option<String>,
}

impl Search {
    fn tell(&mut self, what: impl Into<String>, found: bool, why: impl Into<String>) {
        self.findings.push(Finding { what: what.into(), found, chosen: false, why: why.into() });
    }

    fn offer(&mut self, rank: Rank, what: &str, model: String) {
        self.base.offers.push(Offer { rank, what: what.to_owned(), model });
    }

    fn scripted(&mut self, settings: &ModelSettings) {
        let scripted = Scripted::from_dir(&settings.agentrunner_scripts);
        let models = scripted.names();
        let note = format!("dialogues of {}", settings.agentrunner_scripts.display());
        self.base.catalogue.add("scripted", Provider { chat: Arc::new(scripted), models, note });
        self.base.catalogue.describe("scripted/*", FREE);
    }

    fn named(&mut self, settings: &ModelSettings) {
        let what = "AGENTRUNNER_MODEL";
        if settings.agentrunner_model.is_empty() {
            self.tell(what, false, "not set; the first model that is found is the default");
        } else {
            let name = settings.agentrunner_model.clone();
            self.tell(what, true, format!("names {name}"));
            self.offer(Rank::Named, what, name);
        }
    }

    fn openai(&mut self, settings: &ModelSettings, file: &ModelsFile) {
        self.base.openai_model.clone_from(&settings.openai_model);
        if file.providers.contains_key("openai") {
            return;
        }
        let (key, url) = (&settings.openai_api_key, &settings.openai_base_url);
        if key.is_empty() && url.is_empty() {
            let what_to_do = "OPENAI_API_KEY is not set; set it, or OPENAI_BASE_URL, to use a server's models";
            self.base.catalogue.lack("openai", what_to_do);
            self.tell("OPENAI_API_KEY", false, "not set; set it, or OPENAI_BASE_URL, to use a server's models");
            return;
        }
        let base_url = if url.is_empty() { OPENAI_URL } else { url.as_str() };
        let key = (!key.is_empty()).then(|| ApiKey::new(key.expose()));
        let what = if key.is_none() { "OPENAI_BASE_URL" } else { "OPENAI_API_KEY" };
        match open("openai", base_url, key) {
            Ok(chat) => {
                let model = format!("openai/{}", settings.openai_model);
                let note = format!("{base_url}, because {what} is set");
                let models = vec![settings.openai_model.clone()];
                let provider = Provider { chat: Arc::new(chat), models, note: note.clone() };
                self.base.catalogue.add_node("openai", provider, NodeSettings::server());
                self.tell(what, true, format!("{model} at {note}"));
                self.offer(Rank::Environment, what, model);
            }
            Err(error) => self.tell(what, false, error),
        }
    }

    async fn servers(&mut self, settings: &ModelSettings, file: &ModelsFile) {
        if !settings.agentrunner_probe {
            self.tell("servers on this machine", false, "not looked for: AGENTRUNNER_PROBE is false");
            return;
        }
        let usual = USUAL.into_iter().filter(|(name, _)| !file.providers.contains_key(*name));
        let looks = usual.map(|(name, url)| async move { (name, url, probe(name, url).await) });
        for (name, url, answer) in futures::future::join_all(looks).await {
            let Some((chat, models)) = answer else {
                self.base.catalogue.lack(name, format!("no server of models answers at {url}"));
                self.tell(name, false, format!("nothing lists models at {url}"));
                continue;
            };
            let chats = models.iter().find(|model| chats(model)).cloned();
            let why = match &chats {
                Some(model) => format!("{} models at {url}, the first that chats is {model}", models.len()),
                None => format!("a server without chat models at {url}"),
            };
            let provider = Provider { chat, models, note: format!("found at {url}") };
            self.base.catalogue.add_node(name, provider, NodeSettings::server());
            self.base.catalogue.describe(format!("{name}/*"), FREE);
            self.tell(name, true, why);
            if let Some(model) = chats {
                self.offer(Rank::Server, name, format!("{name}/{model}"));
            }
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
        if !models.contains(&wanted) {
            models.push(wanted.clone());
        }
        let dir = cache.dir().display().to_string();
        self.local_to_fetch = (!here && wanted == DEFAULT_MODEL).then(|| format!("local/{wanted}"));
        let why = match (here, wanted == DEFAULT_MODEL) {
            (true, _) => format!("{wanted} runs in this process, from {dir}"),
            (false, true) => format!("{wanted} is fetched (99 MB) into {dir} before it is first used"),
            (false, false) => format!("AGENTRUNNER_LOCAL_MODEL names {wanted}, and there is no such file"),
        };
        let note = "runs in this process on the CPU; small, answers plainly, calls no tools".to_owned();
        let local = Local::new(cache, LocalOptions::default());
        self.base.catalogue.add("local", Provider { chat: Arc::new(local), models, note });
        self.base.catalogue.describe("local/*", FREE);
        self.tell("local model", here, why);
        self.offer(Rank::Local, "local model", format!("local/{wanted}"));
    }

    #[cfg(not(feature = "local-models"))]
    fn local(&mut self, _: &ModelSettings) {
        self.base.catalogue.lack("local", "this build has no local models; build with the feature local-models");
        self.tell("local model", false, "this build has none; build with the feature local-models");
    }
}

/// Tells by its name whether a model chats: servers list those that make vectors in the same list.
fn chats(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    !["embed", "rerank", "minilm", "bge-", "whisper"].iter().any(|other| name.contains(other))
}

fn open(name: &str, base_url: &str, key: Option<ApiKey>) -> Result<OpenAi, String> {
    let http = llm_http::http_client().map_err(|error| error.to_string())?;
    OpenAi::new(dialect::openai(name, base_url, key, Vec::new()), http).map_err(|error| error.to_string())
}

async fn probe(name: &str, url: &str) -> Option<(Arc<dyn ChatModel>, Vec<String>)> {
    let chat: Arc<dyn ChatModel> =
        if name == "ollama" { Arc::new(dialect::ollama(name, url)?) } else { Arc::new(open(name, url, None).ok()?) };
    let models = tokio::time::timeout(PROBE_TIMEOUT, chat.list()).await.ok()?.ok()?;
    Some((chat, models))
}

/// Tells whether a file is the usual one, which need not be there.
fn is_usual(path: &Path) -> bool {
    path == Path::new(MODELS_FILE)
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
        let found = probe("vllm", &server(Some(list)).await).await;
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
