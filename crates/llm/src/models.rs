//! The models of this process, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ChatModel, LlmError};

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
