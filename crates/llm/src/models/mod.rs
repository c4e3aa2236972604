//! The models of this process, by name; which one is asked, and when it is left alone.

mod breaker;
mod candidate;
mod catalogue;
mod jitter;
mod node;
mod rate;
mod settings;
mod shared;
mod stats;
mod status;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use cache::Cache;
use tokio::task::JoinSet;

pub use breaker::BreakerState;
pub use candidate::Candidate;
pub use catalogue::{Catalogue, ModelTerms, Provider, Target};
pub use settings::{BreakerSettings, NodeLimits, NodeSettings};
pub use status::{LastError, ModelInfo, ModelStatus, NodeHealth};

use crate::{LlmError, Price};
use node::{Hub, Node, Place};
use shared::SharedRates;

/// How long a node has to list its models when it is looked at.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// What stands behind a model's name: the models to ask, in this order.
#[derive(Clone)]
pub struct Route {
    /// The name that was looked up, `default` resolved.
    pub name: String,
    /// The models, at least one.
    pub candidates: Vec<Candidate>,
}

/// The models of this process: a handle that clones cheaply and whose clones all see the same.
///
/// What they are can be replaced as a whole while calls run; those that run go on as they began. `default` stands for
/// the model or route that was chosen.
#[derive(Clone, Default)]
pub struct Models {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    current: RwLock<Arc<Catalogue>>,
    /// What is in use survives a change of the settings: figures, breakers, and who is being served.
    nodes: Mutex<BTreeMap<String, Arc<Node>>>,
    hub: Arc<Hub>,
}

impl Models {
    /// Makes a handle on these.
    pub fn new(catalogue: Catalogue) -> Self {
        let models = Self::default();
        models.replace(catalogue);
        models
    }

    /// Puts others in place of these, from the next call on. What was left alone for its failures may be tried at once.
    pub fn replace(&self, catalogue: Catalogue) {
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
        let nodes: Vec<_> = self.nodes().values().cloned().collect();
        for node in nodes {
            node.hurry();
        }
    }

    /// Has the rates of nodes count over all processes that share this cache, from the next call on. While it is away each
    /// process keeps to them by itself. Said once; a second cache is ignored.
    pub fn share_rates(&self, cache: Arc<dyn Cache>) {
        let _ = self.shared.hub.rates.set(SharedRates(cache));
    }

    /// Tells what is wrong with settings that should have replaced these; `None` when all is well.
    pub fn set_problem(&self, problem: Option<String>) {
        self.change(|catalogue| catalogue.problem = problem);
    }

    /// What is wrong with settings that should have replaced these.
    pub fn problem(&self) -> Option<String> {
        self.catalogue().problem.clone()
    }

    /// What there is now.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a provider as [`Catalogue::add`] does.
    pub fn add(&mut self, name: impl Into<String>, provider: Provider) {
        self.change(|catalogue| catalogue.add(name, provider));
    }

    /// Tells about a model as [`Catalogue::describe`] does.
    pub fn describe(&mut self, name: impl Into<String>, terms: ModelTerms) {
        self.change(|catalogue| catalogue.describe(name, terms));
    }

    /// Chooses what `default` stands for: `provider/name`, or a route.
    pub fn set_default(&mut self, name: impl Into<String>) {
        self.change(|catalogue| catalogue.set_default(name));
    }

    /// What `default` stands for.
    pub fn default_name(&self) -> Option<String> {
        self.catalogue().default.clone()
    }

    /// Finds a provider, the part of a model's name before the slash.
    pub fn provider(&self, name: &str) -> Option<Provider> {
        self.catalogue().providers.get(name).map(|entry| entry.provider.clone())
    }

    /// Finds the models behind a name: `default`, a route, or `provider/name`.
    pub fn route(&self, name: &str) -> Result<Route, LlmError> {
        let catalogue = self.catalogue();
        let (name, found) = catalogue.targets(name)?;
        let candidate = |found: catalogue::Found| {
            let places: Vec<Place> = found.nodes.iter().filter_map(|name| self.place(&catalogue, name)).collect();
            self.candidate(&catalogue, found.name, places)
        };
        Ok(Route { name, candidates: found.into_iter().map(candidate).collect() })
    }

    /// Lists the known models and routes.
    pub fn list(&self) -> Vec<ModelInfo> {
        let catalogue = self.catalogue();
        let default = |name: &str| catalogue.default.as_deref() == Some(name);
        let mut list = Vec::new();
        for (route, targets) in &catalogue.routes {
            list.push(ModelInfo { name: route.clone(), default: default(route), note: status::note_of(targets) });
        }
        for (provider, entry) in &catalogue.providers {
            for model in catalogue.models_of(provider) {
                let name = format!("{provider}/{model}");
                list.push(ModelInfo { default: default(&name), name, note: entry.provider.note.clone() });
            }
        }
        list
    }

    /// Tells how the known models and routes do, and those that were asked without being known.
    pub fn status(&self) -> Vec<ModelStatus> {
        let catalogue = self.catalogue();
        let mut models = Vec::new();
        for (provider, entry) in &catalogue.providers {
            let node = self.node(provider);
            let mut names = catalogue.models_of(provider);
            names.extend(
                node.called()
                    .into_iter()
                    .filter(|(_, endpoint)| endpoint.stats(|stats| stats.calls > 0))
                    .map(|(model, _)| model),
            );
            for model in names {
                let name = format!("{provider}/{model}");
                models.push(status::of_model(
                    &catalogue,
                    &name,
                    &entry.provider.note,
                    &node,
                    node.known(&model).as_deref(),
                ));
            }
        }
        let routes = catalogue.routes.iter();
        let routes: Vec<_> =
            routes.map(|(name, targets)| status::of_route(&catalogue, name, targets, &models)).collect();
        routes.into_iter().chain(models).collect()
    }

    /// Looks at the nodes that share work with others and were not looked at for as long as their settings say.
    pub async fn look(&self) {
        let catalogue = self.catalogue();
        let mut looks = JoinSet::new();
        for name in catalogue.pooled() {
            let Some(entry) = catalogue.providers.get(name) else { continue };
            let Some(every) = entry.settings.check_every else { continue };
            let node = self.node(name);
            if !node.is_due(every) {
                continue;
            }
            let chat = Arc::clone(&entry.provider.chat);
            looks.spawn(async move {
                let listed = tokio::time::timeout(LOOK_TIMEOUT, chat.list()).await;
                // Who refuses to list is there.
                let down = matches!(
                    listed,
                    Err(_)
                        | Ok(Err(LlmError::Unavailable { .. } | LlmError::Timeout { .. } | LlmError::Invalid { .. }))
                );
                node.seen(!down);
            });
        }
        while looks.join_next().await.is_some() {}
    }

    fn change(&self, change: impl FnOnce(&mut Catalogue)) {
        let mut current = self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut current));
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Node>>> {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, provider: &str) -> Arc<Node> {
        let mut nodes = self.nodes();
        if let Some(node) = nodes.get(provider) {
            return Arc::clone(node);
        }
        let made = Arc::new(Node::new(provider, Arc::clone(&self.shared.hub)));
        nodes.insert(provider.to_owned(), Arc::clone(&made));
        made
    }

    fn place(&self, catalogue: &Catalogue, name: &str) -> Option<Place> {
        let (provider, model) = name.split_once('/')?;
        let entry = catalogue.providers.get(provider)?;
        let node = self.node(provider);
        Some(Place {
            endpoint: node.endpoint(model),
            node,
            settings: Arc::clone(&entry.settings),
            chat: Arc::clone(&entry.provider.chat),
            model: model.to_owned(),
            name: name.to_owned(),
            price: catalogue.terms_of(name).price,
        })
    }

    /// Of several nodes, what holds for each of them: the dearest price, the smallest window.
    fn candidate(&self, catalogue: &Catalogue, name: String, places: Vec<Place>) -> Candidate {
        let terms: Vec<ModelTerms> = places.iter().map(|place| catalogue.terms_of(&place.name)).collect();
        let prices: Option<Vec<Price>> = terms.iter().map(|terms| terms.price).collect();
        Candidate {
            name,
            price: prices.and_then(|prices| prices.into_iter().reduce(Price::dearer)),
            context_window: terms.iter().filter_map(|terms| terms.context_window).min(),
            max_output_tokens: terms.iter().filter_map(|terms| terms.max_output_tokens).min(),
            places: places.into(),
            hub: Arc::clone(&self.shared.hub),
        }
    }
}
