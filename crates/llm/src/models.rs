//! The models of this process, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, LlmError, Price};

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

/// What stands behind a model's name: the models to ask, in this order.
#[derive(Clone)]
pub struct Route {
    /// The name that was looked up, `default` resolved.
    pub name: String,
    /// The models, at least one.
    pub candidates: Vec<Candidate>,
}

/// One model of a route.
#[derive(Clone)]
pub struct Candidate {
    /// `provider/name`.
    pub name: String,
    /// What it costs; none is unknown.
    pub price: Option<Price>,
    /// Tokens that it can read and write in one call, when known.
    pub context_window: Option<u64>,
    /// Tokens that it can write in one call, when known.
    pub max_output_tokens: Option<u32>,
    chat: Arc<dyn ChatModel>,
    model: String,
}

impl Candidate {
    /// Asks the model: `request.model` is filled in, and the answer's usage has its cost.
    ///
    /// May try again by itself, or at another node, as long as nothing was spoken.
    pub async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        let mut request = request.clone();
        request.model.clone_from(&self.model);
        let mut answer = self.chat.chat(&request, on_delta).await?;
        if let Some(price) = &self.price {
            answer.usage.cost = price.cost(&answer.usage);
        }
        Ok(answer)
    }
}

/// A model that can be named in an agent's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// `provider/name`.
    pub name: String,
    /// True for the one that `default` stands for.
    pub default: bool,
    /// Where it is and why it was chosen.
    pub note: String,
}

/// The models of this process. `default` stands for the one that was chosen at start.
#[derive(Clone, Default)]
pub struct Models {
    providers: BTreeMap<String, Provider>,
    default: Option<String>,
}

impl Models {
    /// Adds a provider; one of the same name is replaced.
    pub fn add(&mut self, name: impl Into<String>, provider: Provider) {
        self.providers.insert(name.into(), provider);
    }

    /// Chooses what `default` stands for, as `provider/name`.
    pub fn set_default(&mut self, name: impl Into<String>) {
        self.default = Some(name.into());
    }

    /// What `default` stands for.
    pub fn default_name(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Finds a model: its full name, its provider, and its name within the provider.
    pub fn find(&self, name: &str) -> Result<(String, Arc<dyn ChatModel>, String), LlmError> {
        let full = if name == "default" {
            self.default.as_deref().ok_or_else(|| LlmError::Unknown {
                model: name.to_owned(),
                reason: "no model is configured; run `agentrunner doctor`".to_owned(),
            })?
        } else {
            name
        };
        let unknown = || LlmError::Unknown {
            model: full.to_owned(),
            reason: format!("known providers are: {}", self.providers.keys().cloned().collect::<Vec<_>>().join(", ")),
        };
        let (provider, model) = full.split_once('/').ok_or_else(unknown)?;
        let found = self.providers.get(provider).ok_or_else(unknown)?;
        Ok((full.to_owned(), Arc::clone(&found.chat), model.to_owned()))
    }

    /// Finds the models behind a name.
    pub fn route(&self, name: &str) -> Result<Route, LlmError> {
        let (name, chat, model) = self.find(name)?;
        let candidate =
            Candidate { name: name.clone(), price: None, context_window: None, max_output_tokens: None, chat, model };
        Ok(Route { name, candidates: vec![candidate] })
    }

    /// Lists the known models.
    pub fn list(&self) -> Vec<ModelInfo> {
        let mut list = Vec::new();
        for (provider, found) in &self.providers {
            for model in &found.models {
                let name = format!("{provider}/{model}");
                let default = self.default.as_deref() == Some(name.as_str());
                list.push(ModelInfo { name, default, note: found.note.clone() });
            }
        }
        list
    }
}
