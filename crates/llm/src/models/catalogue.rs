//! Which models there are: a value that is made as a whole and put in place of the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::settings::NodeSettings;
use crate::{ChatModel, LlmError, Price};

/// A provider of models: everything before the first slash of a model's name.
#[derive(Clone)]
pub struct Provider {
    /// Speaks with its models.
    pub chat: Arc<dyn ChatModel>,
    /// Its models, as far as they are known; others may exist.
    pub models: Vec<String>,
    /// Where it is and why it was chosen, for people; never a key.
    pub note: String,
}

/// What is known of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelTerms {
    /// What it costs; none is unknown.
    pub price: Option<Price>,
    /// Tokens that it can read and write in one call.
    pub context_window: Option<u64>,
    /// Tokens that it can write in one call.
    pub max_output_tokens: Option<u32>,
    /// It makes vectors of texts and does not chat.
    pub embeddings: bool,
}

/// One entry of a route: a model, or the same model at several nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `provider/name`, at least one.
    pub nodes: Vec<String>,
}

impl Target {
    /// A single model.
    pub fn one(name: impl Into<String>) -> Self {
        Self { nodes: vec![name.into()] }
    }
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) provider: Provider,
    pub(super) settings: Arc<NodeSettings>,
}

/// Providers, what is known of their models, and routes over them.
#[derive(Clone, Default)]
pub struct Catalogue {
    pub(super) providers: BTreeMap<String, Entry>,
    pub(super) terms: BTreeMap<String, ModelTerms>,
    pub(super) routes: BTreeMap<String, Vec<Target>>,
    pub(super) default: Option<String>,
    pub(super) lacking: BTreeMap<String, String>,
    /// What is wrong with the settings that should have replaced these.
    pub(super) problem: Option<String>,
}

impl Catalogue {
    /// Adds a provider that is asked and nothing more: without limits, repetitions and breaker. One of the same name is
    /// replaced.
    pub fn add(&mut self, name: impl Into<String>, provider: Provider) {
        self.add_node(name, provider, NodeSettings::default());
    }

    /// Adds a provider with its settings.
    pub fn add_node(&mut self, name: impl Into<String>, provider: Provider, settings: NodeSettings) {
        let name = name.into();
        self.lacking.remove(&name);
        self.providers.insert(name, Entry { provider, settings: Arc::new(settings) });
    }

    /// Notes that a provider is known and cannot be used, and what to do about it. It is removed if it was there.
    pub fn lack(&mut self, name: impl Into<String>, what_to_do: impl Into<String>) {
        let name = name.into();
        self.providers.remove(&name);
        self.lacking.insert(name, what_to_do.into());
    }

    /// Tells about a model, `provider/name`, or about all others of a provider: `provider/*`.
    pub fn describe(&mut self, name: impl Into<String>, terms: ModelTerms) {
        self.terms.insert(name.into(), terms);
    }

    /// Adds a route, whose name has no slash: what to ask, in this order.
    pub fn add_route(&mut self, name: impl Into<String>, targets: Vec<Target>) {
        self.routes.insert(name.into(), targets);
    }

    /// Chooses what `default` stands for: `provider/name`, or a route.
    pub fn set_default(&mut self, name: impl Into<String>) {
        self.default = Some(name.into());
    }

    /// What `default` stands for.
    pub fn default_name(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Tells whether there is such a provider.
    pub fn has(&self, provider: &str) -> bool {
        self.providers.contains_key(provider)
    }

    /// Tells whether a model, or at least one of a route, can be asked.
    pub fn is_usable(&self, name: &str) -> bool {
        self.targets(name).is_ok_and(|(_, targets)| !targets.is_empty())
    }

    /// What stands behind a name: its full name, and for each target its name and the models that can be asked.
    pub(super) fn targets(&self, name: &str) -> Result<(String, Vec<Found>), LlmError> {
        let full = match (name, &self.default) {
            ("default", Some(default)) => default.as_str(),
            ("default", None) => {
                return Err(unknown(name, "no model is configured; run `agentrunner doctor`".to_owned()));
            }
            (other, _) => other,
        };
        if let Some(targets) = self.routes.get(full) {
            let found: Vec<Found> = targets.iter().filter_map(|target| self.found(full, target)).collect();
            if found.is_empty() {
                return Err(unknown(full, format!("none of its models can be used: {}", self.why_not(targets))));
            }
            return Ok((full.to_owned(), found));
        }
        let Some((provider, model)) = full.split_once('/') else {
            return Err(unknown(full, self.known()));
        };
        if let Some(found) = self.pool(provider, full) {
            return Ok((full.to_owned(), vec![found]));
        }
        if self.providers.contains_key(provider) && !model.is_empty() {
            return Ok((full.to_owned(), vec![Found { name: full.to_owned(), nodes: vec![full.to_owned()] }]));
        }
        match self.lacking.get(provider) {
            Some(what_to_do) => Err(unknown(full, what_to_do.clone())),
            None => Err(unknown(full, self.known())),
        }
    }

    pub(super) fn terms_of(&self, name: &str) -> ModelTerms {
        let exact = self.terms.get(name);
        let of_all = || self.terms.get(&format!("{}/*", name.split_once('/')?.0));
        exact.or_else(of_all).copied().unwrap_or_default()
    }

    /// The providers that share work with another one.
    pub(super) fn pooled(&self) -> BTreeSet<&str> {
        let pools = self.routes.values().flatten().filter(|target| target.nodes.len() > 1);
        pools.flat_map(|target| &target.nodes).filter_map(|name| Some(name.split_once('/')?.0)).collect()
    }

    /// The known models of a provider, those that are only described or asked by a route included.
    pub(super) fn models_of(&self, provider: &str) -> BTreeSet<String> {
        let listed = self.providers.get(provider).into_iter().flat_map(|entry| entry.provider.models.iter().cloned());
        let asked = self.routes.values().flatten().flat_map(|target| &target.nodes);
        let described = self.terms.keys().chain(asked).filter_map(|name| name.split_once('/'));
        let described =
            described.filter(|(of, model)| *of == provider && *model != "*").map(|(_, model)| model.to_owned());
        listed.chain(described).collect()
    }

    fn found(&self, route: &str, target: &Target) -> Option<Found> {
        let usable = |name: &&String| name.split_once('/').is_some_and(|(provider, _)| self.has(provider));
        let nodes: Vec<String> = target.nodes.iter().filter(usable).cloned().collect();
        if nodes.is_empty() { None } else { Some(Found { name: target.name(route), nodes }) }
    }

    /// A target of several nodes by the name that journals have for it.
    fn pool(&self, route: &str, full: &str) -> Option<Found> {
        let targets = self.routes.get(route)?;
        let target = targets.iter().find(|target| target.nodes.len() > 1 && target.name(route) == full)?;
        self.found(route, target)
    }

    fn why_not(&self, targets: &[Target]) -> String {
        let providers: BTreeSet<&str> = targets
            .iter()
            .flat_map(|target| &target.nodes)
            .filter_map(|name| name.split_once('/'))
            .map(|(provider, _)| provider)
            .collect();
        let why = |provider: &str| match self.lacking.get(provider) {
            Some(why) => why.clone(),
            None => format!("there is no provider {provider}"),
        };
        providers.into_iter().map(why).collect::<Vec<_>>().join("; ")
    }

    fn known(&self) -> String {
        let list = |names: Vec<&str>| names.join(", ");
        let providers = list(self.providers.keys().map(String::as_str).collect());
        if self.routes.is_empty() {
            return format!("known providers are: {providers}");
        }
        let routes = list(self.routes.keys().map(String::as_str).collect());
        format!("known providers are: {providers}; known routes are: {routes}")
    }
}

impl Target {
    /// What it is called within its route: the model, or the route and the model of several nodes.
    pub(super) fn name(&self, route: &str) -> String {
        match self.nodes.as_slice() {
            [one] => one.clone(),
            many => {
                let model = many.first().and_then(|name| Some(name.split_once('/')?.1)).unwrap_or_default();
                format!("{route}/{model}")
            }
        }
    }
}

/// A target of which at least one node can be asked.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) nodes: Vec<String>,
}

fn unknown(model: &str, reason: String) -> LlmError {
    LlmError::Unknown { model: model.to_owned(), reason }
}
