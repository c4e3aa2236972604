//! What `config/models.yml` says: providers, what their models cost, and routes over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use domain::file::{self, FileProblem, Finding};
use domain::{HumanDuration, Usd};
use llm::{BreakerSettings, ModelTerms, NodeLimits, NodeSettings, Price, Target};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::secrets::KeySource;

/// Providers that need no entry: they are found in the environment, on this machine and in this process.
pub(super) const KNOWN: [&str; 7] = ["llamacpp", "lmstudio", "local", "ollama", "openai", "scripted", "vllm"];
/// Those that run in this process, and so have no address.
const IN_PROCESS: [&str; 2] = ["local", "scripted"];

static SCHEMA: LazyLock<Value> = LazyLock::new(ModelsFile::json_schema);

/// The models of a platform. What is named in an agent's file as `model:` is a route of this file, or `provider/name`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsFile {
    /// What `default` stands for when AGENTRUNNER_MODEL is not set: a route, or `provider/name`. It is passed over when
    /// none of its providers can be used.
    pub default: Option<String>,
    /// Who has models, by the name before the slash.
    pub providers: BTreeMap<String, ProviderSpec>,
    /// What is known of models, by `provider/name`; `provider/*` stands for all others of a provider.
    pub models: BTreeMap<String, ModelSpec>,
    /// Names without a slash for what is asked in turn.
    pub routes: BTreeMap<String, RouteSpec>,
}

/// How a provider is spoken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// OpenAI by chat completions.
    Openai,
    /// OpenAI by responses, which keep a model's reasoning.
    OpenaiResponses,
    /// Any server that speaks chat completions: vLLM, llama.cpp, LM Studio, hosted providers.
    OpenaiCompatible,
    /// Anthropic's Messages API.
    Anthropic,
    /// AWS Bedrock's Converse API.
    Bedrock,
    /// Ollama's own API.
    Ollama,
}

/// A provider: one server, or one account at a hosted service.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSpec {
    /// How it is spoken with.
    pub kind: Kind,
    /// Where it is; the usual address of its kind when absent.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Where its key is. A provider whose key is not there is passed over.
    #[serde(default)]
    pub api_key: Option<KeySource>,
    /// Headers of every request: a text, or where a secret one is.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderSpec>,
    /// The model that makes this provider the default one when nothing else is chosen.
    #[serde(default)]
    pub default_model: Option<String>,
    /// The AWS region, for Bedrock; the environment's when absent.
    #[serde(default)]
    pub region: Option<String>,
    /// The AWS profile, for Bedrock; the environment's when absent.
    #[serde(default)]
    pub profile: Option<String>,
    /// What it bears, counted by each process for itself.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// How often a call is made again that failed without being billed, 0 to 10.
    #[serde(default)]
    #[schemars(range(max = 10))]
    pub retries: Option<u32>,
    /// When a model of it that fails is left alone.
    #[serde(default)]
    pub breaker: BreakerSpec,
    /// How often it is looked at while it shares work with other nodes, 1s to 1h.
    #[serde(default)]
    pub check_every: Option<HumanDuration>,
}

/// A header's value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderSpec {
    /// As it is.
    Plain(String),
    /// Where it is.
    Secret(KeySource),
}

/// What a provider bears; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Calls at once.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrent: Option<u32>,
    /// Calls begun in a minute.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub requests_per_minute: Option<u32>,
    /// Tokens read and written in a minute.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tokens_per_minute: Option<u64>,
    /// How long a call waits for its turn before its task goes back to the queue, at most 1m; 2s when absent.
    pub max_wait: Option<HumanDuration>,
}

/// When a model that fails is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSpec {
    /// So many failures in a row; 5 when absent.
    #[schemars(range(min = 1, max = 1_000))]
    pub failures: Option<u32>,
    /// How long, before one call tries again; doubled each time that one fails. 5s when absent.
    pub cool_down: Option<HumanDuration>,
    /// The longest that the doubling leads to; 1m when absent.
    pub max_cool_down: Option<HumanDuration>,
}

/// What is known of a model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSpec {
    /// What it costs; a model without a price cannot be held to a budget of money.
    pub price: Option<PriceSpec>,
    /// Tokens that it can read and write in one call.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_window: Option<u64>,
    /// Tokens that it can write in one call.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output_tokens: Option<u32>,
    /// It makes vectors of texts and does not chat.
    pub embeddings: bool,
}

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceSpec {
    /// Tokens read.
    pub input: Usd,
    /// Tokens written; nothing when absent, as for models that make vectors.
    #[serde(default)]
    pub output: Usd,
    /// Tokens read from the provider's cache; as those read when absent.
    #[serde(default)]
    pub cached_input: Option<Usd>,
    /// Tokens that go into the provider's cache; as those read when absent.
    #[serde(default)]
    pub cache_write: Option<Usd>,
}

/// What a route asks: a list in its order, or nodes alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RouteSpec {
    /// One after the other, each when the one before it failed.
    List(Vec<TargetSpec>),
    /// The least busy of them.
    Nodes(NodesSpec),
}

/// One entry of a route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetSpec {
    /// `provider/name`.
    Model(String),
    /// The same model at several nodes.
    Nodes(NodesSpec),
}

/// The same model at several nodes: the least busy one that works is asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodesSpec {
    /// Each as `provider/name`.
    #[schemars(length(min = 1, max = 64))]
    pub nodes: Vec<String>,
}

impl ModelsFile {
    /// The JSON Schema of the file.
    pub fn json_schema() -> Value {
        file::schema::<Self>("AgentRunner models")
    }

    /// Reads the file; all problems are told at once, and the list is never empty.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, Vec<FileProblem>> {
        file::parse_with(&SCHEMA, file, text, Self::findings)
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, provider) in &self.providers {
            provider_findings(name, provider, &mut findings);
        }
        for (name, model) in &self.models {
            self.must_be_model(name, &format!("models.{name}"), &mut findings);
            let too_long =
                model.max_output_tokens.zip(model.context_window).is_some_and(|(out, all)| u64::from(out) > all);
            if too_long {
                let path = format!("models.{name}.max_output_tokens");
                findings.push(Finding::new(path, "must not be larger than context_window"));
            }
        }
        for (name, route) in &self.routes {
            self.route_findings(name, route, &mut findings);
        }
        if let Some(default) = &self.default
            && !self.routes.contains_key(default)
        {
            self.must_be_model(default, "default", &mut findings);
        }
        findings
    }

    fn route_findings(&self, name: &str, route: &RouteSpec, findings: &mut Vec<Finding>) {
        let path = format!("routes.{name}");
        if !is_name(name) {
            findings.push(Finding::new(&path, NAME_RULE));
        } else if name == "default" {
            let hint = "name it otherwise and say `default: THAT NAME` at the top of the file";
            findings.push(Finding::new(&path, "is taken: it is what `default` stands for").hint(hint));
        } else if self.providers.contains_key(name) || KNOWN.contains(&name) {
            findings.push(Finding::new(&path, "is the name of a provider").hint("choose another name"));
        }
        if matches!(route, RouteSpec::List(list) if list.is_empty()) {
            findings.push(Finding::new(&path, "must ask at least one model"));
        }
        let mut seen = BTreeSet::new();
        for (at, model) in route.models() {
            let path = format!("{path}{at}");
            if self.routes.contains_key(model) {
                findings
                    .push(Finding::new(path, "a route asks models, not routes").hint("list that route's models here"));
                continue;
            }
            if !seen.insert(model) {
                findings.push(
                    Finding::new(&path, "is asked twice").hint("how often to try again is `retries` of the provider"),
                );
            }
            if model.ends_with("/*") {
                findings.push(Finding::new(&path, "must name one model"));
            }
            if self.models.get(model).is_some_and(|model| model.embeddings) {
                findings.push(Finding::new(&path, "makes vectors and does not chat"));
            }
            self.must_be_model(model, &path, findings);
        }
    }

    fn must_be_model(&self, name: &str, path: &str, findings: &mut Vec<Finding>) {
        let providers = || self.providers.keys().map(String::as_str).chain(KNOWN);
        match name.split_once('/') {
            Some((provider, model)) if !model.is_empty() => {
                if providers().any(|known| known == provider) {
                    return;
                }
                let list = providers().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
                let hint = match did_you_mean(provider, providers()) {
                    Some(meant) => format!("did you mean {meant}/{model}?"),
                    None => format!("providers are {list}"),
                };
                findings.push(Finding::new(path, format!("there is no provider {provider}")).hint(hint));
            }
            _ => {
                let meant = did_you_mean(name, self.routes.keys().map(String::as_str)).filter(|_| path == "default");
                let hint = meant.map_or_else(
                    || "such as openai/gpt-5-mini".to_owned(),
                    |route| format!("did you mean the route {route}?"),
                );
                findings.push(Finding::new(path, "must be `provider/name`").hint(hint));
            }
        }
    }
}

fn provider_findings(name: &str, provider: &ProviderSpec, findings: &mut Vec<Finding>) {
    let path = format!("providers.{name}");
    let mut tell = |field: &str, reason: &str, hint: Option<String>| {
        let path = if field.is_empty() { path.clone() } else { format!("{path}.{field}") };
        findings.push(Finding { path, reason: reason.to_owned(), hint });
    };
    if !is_name(name) {
        tell("", NAME_RULE, None);
    }
    if IN_PROCESS.contains(&name) {
        tell("", "runs in this process and cannot be defined", Some("choose another name".to_owned()));
    }
    match (&provider.base_url, provider.kind) {
        (Some(url), _) => {
            if let Err(reason) = usable_url(url) {
                tell("base_url", reason, Some("write it as https://models.example/v1".to_owned()));
            }
        }
        (None, Kind::OpenaiCompatible) => {
            tell("base_url", "is required for this kind", Some("such as http://127.0.0.1:8000/v1".to_owned()));
        }
        (None, _) => {}
    }
    if provider.kind == Kind::Bedrock {
        if provider.api_key.is_some() {
            let hint = "leave it out: credentials come from AWS's usual places, see `profile`".to_owned();
            tell("api_key", "is not for this kind", Some(hint));
        }
        if !provider.headers.is_empty() {
            tell("headers", "are not for this kind: its requests are signed", None);
        }
    } else {
        for (field, given) in [("region", &provider.region), ("profile", &provider.profile)] {
            if given.is_some() {
                tell(field, "is for the kind bedrock only", None);
            }
        }
    }
    if let Some(key) = &provider.api_key
        && let Err(reason) = key.check()
    {
        tell("api_key", reason, Some("write {env: NAME} or {file: PATH}".to_owned()));
    }
    for (header, value) in &provider.headers {
        let wrong = match value {
            HeaderSpec::Secret(key) => key.check().err(),
            HeaderSpec::Plain(_) if ["authorization", "x-api-key"].contains(&header.to_ascii_lowercase().as_str()) => {
                Some("is secret: write {env: NAME} or {file: PATH}")
            }
            HeaderSpec::Plain(_) => None,
        };
        if let Some(reason) = wrong {
            tell(&format!("headers.{header}"), reason, None);
        }
    }
    let minute = Duration::from_secs(60);
    if provider.limits.max_wait.is_some_and(|wait| wait.0 > minute) {
        tell("limits.max_wait", "must be at most 1m: a task that waits in the queue holds no worker", None);
    }
    if provider.check_every.is_some_and(|every| every.0 < Duration::from_secs(1) || every.0 > minute * 60) {
        tell("check_every", "must be from 1s to 1h", None);
    }
    let breaker = provider.breaker.settings();
    if breaker.cool_down.is_zero() {
        tell("breaker.cool_down", "must be longer than nothing", None);
    }
    if breaker.max_cool_down < breaker.cool_down {
        tell("breaker.max_cool_down", "must not be shorter than cool_down", None);
    }
}

const NAME_RULE: &str = "must be a name of lower-case letters, digits, `-`, `_` and `.`, at most 63";

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    name.len() <= 63
        && name.bytes().all(allowed)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

fn did_you_mean<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 80 {
        return None;
    }
    known
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .filter(|(distance, name)| *distance * 3 <= name.len().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn usable_url(url: &str) -> Result<(), &'static str> {
    let url = url::Url::parse(url.trim()).map_err(|_| "is no URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain credentials; give the key as api_key");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with a path, without ? or #");
    }
    Ok(())
}

impl RouteSpec {
    /// What it asks, in its order.
    pub(super) fn targets(&self) -> Vec<Target> {
        match self {
            Self::List(list) => list
                .iter()
                .map(|target| match target {
                    TargetSpec::Model(name) => Target::one(name),
                    TargetSpec::Nodes(NodesSpec { nodes }) => Target { nodes: nodes.clone() },
                })
                .collect(),
            Self::Nodes(NodesSpec { nodes }) => vec![Target { nodes: nodes.clone() }],
        }
    }

    /// All of its models, and where they stand in it.
    fn models(&self) -> Vec<(String, &String)> {
        match self {
            Self::List(list) => list
                .iter()
                .enumerate()
                .flat_map(|(index, target)| match target {
                    TargetSpec::Model(name) => vec![(format!("[{index}]"), name)],
                    TargetSpec::Nodes(nodes) => nodes.at(&format!("[{index}]")),
                })
                .collect(),
            Self::Nodes(nodes) => nodes.at(""),
        }
    }
}

impl NodesSpec {
    fn at(&self, place: &str) -> Vec<(String, &String)> {
        self.nodes.iter().enumerate().map(|(index, name)| (format!("{place}.nodes[{index}]"), name)).collect()
    }
}

impl BreakerSpec {
    fn settings(&self) -> BreakerSettings {
        let usual = BreakerSettings::default();
        let cool_down = self.cool_down.map_or(usual.cool_down, |time| time.0);
        BreakerSettings {
            failures: self.failures.unwrap_or(usual.failures),
            cool_down,
            max_cool_down: self.max_cool_down.map_or(usual.max_cool_down.max(cool_down), |time| time.0),
        }
    }
}

impl ProviderSpec {
    /// How it is treated.
    pub(super) fn settings(&self) -> NodeSettings {
        let usual = NodeSettings::server();
        NodeSettings {
            limits: NodeLimits {
                max_concurrent: self.limits.max_concurrent,
                requests_per_minute: self.limits.requests_per_minute,
                tokens_per_minute: self.limits.tokens_per_minute,
            },
            retries: self.retries.unwrap_or(usual.retries),
            max_wait: self.limits.max_wait.map_or(usual.max_wait, |wait| wait.0),
            breaker: Some(self.breaker.settings()),
            check_every: self.check_every.map_or(usual.check_every, |every| Some(every.0)),
        }
    }
}

impl ModelSpec {
    pub(super) fn terms(&self) -> ModelTerms {
        let price = self.price.map(|price| Price {
            input: price.input,
            output: price.output,
            cached_input: price.cached_input,
            cache_write: price.cache_write,
        });
        ModelTerms {
            price,
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            embeddings: self.embeddings,
        }
    }
}
