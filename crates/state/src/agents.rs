//! Agents as the record knows them: immutable, numbered versions.
//!
//! A version is a value in the scope `agents` under `name@version`, written once; `name` alone holds the number of the
//! active one. So every service that can reach the record can run a task with the version that it started with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::{AgentName, AgentSpec, Clock, Namespace, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{PutCondition, State, StateError};

const SCOPE: &str = "agents";

/// One immutable version of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentVersion {
    /// Its number, from 1.
    pub version: u32,
    /// What the file said.
    pub spec: AgentSpec,
    /// Digest of the specification; an unchanged file makes no new version.
    pub digest: String,
    /// When it was published.
    pub created_at: Timestamp,
}

/// What the active-version value holds.
#[derive(Debug, Serialize, Deserialize)]
struct Active {
    version: u32,
    /// False when the file is gone: no new tasks, but the versions stay.
    available: bool,
}

/// The agents of the record, with a cache of the immutable versions.
pub struct Agents {
    state: Arc<dyn State>,
    clock: Arc<dyn Clock>,
    versions: Mutex<HashMap<(Namespace, AgentName, u32), Arc<AgentVersion>>>,
    active: Mutex<HashMap<(Namespace, AgentName), Remembered>>,
}

/// When the active version was looked up, and what it was.
type Remembered = (std::time::Duration, Option<Arc<AgentVersion>>);

/// How long an answer of `active` may be old.
const ACTIVE_AGE: std::time::Duration = std::time::Duration::from_millis(250);
/// How many versions are kept in memory.
const CACHED_VERSIONS: usize = 4_096;

impl Agents {
    /// Wraps the record.
    pub fn new(state: Arc<dyn State>, clock: Arc<dyn Clock>) -> Self {
        Self { state, clock, versions: Mutex::default(), active: Mutex::default() }
    }

    /// Makes `spec` the active version; returns it, and whether it is a new one.
    ///
    /// Safe to run on several replicas at once: a number is taken once, and the same specification twice in a row makes
    /// one version.
    pub async fn publish(
        &self,
        namespace: &Namespace,
        spec: AgentSpec,
    ) -> Result<(Arc<AgentVersion>, bool), StateError> {
        let name = spec.name.clone();
        let body = serde_json::to_vec(&spec).map_err(|error| StateError::Corrupt(error.to_string()))?;
        let digest = blake3::hash(&body).to_hex().to_string();
        loop {
            let now = self.clock.now();
            let current = self.state.value(namespace, SCOPE, name.as_str(), now).await?;
            let active: Option<Active> = current.as_ref().map(|value| decode(value.value.clone())).transpose()?;
            let last = active.as_ref().map_or(0, |active| active.version);
            if let Some(active) = &active
                && let Some(version) = self.version(namespace, &name, active.version).await?
                && version.digest == digest
                && active.available
            {
                return Ok((version, false));
            }
            let mut number = last + 1;
            let version = loop {
                let version =
                    AgentVersion { version: number, spec: spec.clone(), digest: digest.clone(), created_at: now };
                let value = serde_json::to_value(&version).map_err(|error| StateError::Corrupt(error.to_string()))?;
                let key = format!("{name}@{number}");
                match self.state.put_value(namespace, SCOPE, &key, value, None, PutCondition::Absent, now).await {
                    Ok(_) => break version,
                    Err(StateError::VersionMismatch { .. }) => {
                        // Left by a process that died before it made the version active, or by another replica.
                        if let Some(found) = self.version(namespace, &name, number).await?
                            && found.digest == digest
                        {
                            break AgentVersion::clone(&found);
                        }
                        number += 1;
                    }
                    Err(error) => return Err(error),
                }
            };
            let condition = current.map_or(PutCondition::Absent, |value| PutCondition::Version(value.version));
            let value = serde_json::json!(Active { version: version.version, available: true });
            match self.state.put_value(namespace, SCOPE, name.as_str(), value, None, condition, now).await {
                Ok(_) => {
                    let version = Arc::new(version);
                    self.remember_active(namespace, &name, Some(Arc::clone(&version)));
                    return Ok((version, true));
                }
                Err(StateError::VersionMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes an agent out of service; its versions stay for the tasks that run with them.
    pub async fn withdraw(&self, namespace: &Namespace, name: &AgentName) -> Result<(), StateError> {
        loop {
            let now = self.clock.now();
            let Some(current) = self.state.value(namespace, SCOPE, name.as_str(), now).await? else { return Ok(()) };
            let active: Active = decode(current.value)?;
            if !active.available {
                return Ok(());
            }
            let value = serde_json::json!(Active { version: active.version, available: false });
            let condition = PutCondition::Version(current.version);
            match self.state.put_value(namespace, SCOPE, name.as_str(), value, None, condition, now).await {
                Ok(_) => {
                    self.remember_active(namespace, name, None);
                    return Ok(());
                }
                Err(StateError::VersionMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the version that new tasks get, at most a quarter of a second old; `None` when the agent is unknown or withdrawn.
    pub async fn active(
        &self,
        namespace: &Namespace,
        name: &AgentName,
    ) -> Result<Option<Arc<AgentVersion>>, StateError> {
        let key = (namespace.clone(), name.clone());
        if let Some((at, version)) = self.active.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && self.clock.monotonic().saturating_sub(*at) < ACTIVE_AGE
        {
            return Ok(version.clone());
        }
        let value = self.state.value(namespace, SCOPE, name.as_str(), self.clock.now()).await?;
        let version = match value.map(|value| decode::<Active>(value.value)).transpose()? {
            Some(active) if active.available => self.version(namespace, name, active.version).await?,
            _ => None,
        };
        self.remember_active(namespace, name, version.clone());
        Ok(version)
    }

    /// Lists the versions that new tasks get, by name; withdrawn agents are not among them.
    pub async fn list(&self, namespace: &Namespace) -> Result<Vec<Arc<AgentVersion>>, StateError> {
        const PAGE: u32 = 500;
        let mut active = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let now = self.clock.now();
            let page = self.state.values(namespace, SCOPE, after.as_deref(), PAGE, now).await?;
            after = page.items.last().map(|value| value.key.clone());
            for value in page.items {
                // `name@version` holds a version; a name has no `@`.
                if let Ok(name) = AgentName::new(value.key) {
                    let entry: Active = decode(value.value)?;
                    if entry.available {
                        active.push((name, entry.version));
                    }
                }
            }
            if !page.more || after.is_none() {
                break;
            }
        }
        active.sort();
        let mut versions = Vec::with_capacity(active.len());
        for (name, number) in active {
            versions.extend(self.version(namespace, &name, number).await?);
        }
        Ok(versions)
    }

    /// Finds one version.
    pub async fn version(
        &self,
        namespace: &Namespace,
        name: &AgentName,
        version: u32,
    ) -> Result<Option<Arc<AgentVersion>>, StateError> {
        let key = (namespace.clone(), name.clone(), version);
        if let Some(found) = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(Arc::clone(found)));
        }
        let value = self.state.value(namespace, SCOPE, &format!("{name}@{version}"), self.clock.now()).await?;
        let Some(value) = value else { return Ok(None) };
        let found: Arc<AgentVersion> = Arc::new(decode(value.value)?);
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.len() >= CACHED_VERSIONS {
            versions.clear();
        }
        versions.insert(key, Arc::clone(&found));
        Ok(Some(found))
    }

    fn remember_active(&self, namespace: &Namespace, name: &AgentName, version: Option<Arc<AgentVersion>>) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.len() >= CACHED_VERSIONS {
            active.clear();
        }
        active.insert((namespace.clone(), name.clone()), (self.clock.monotonic(), version));
    }
}

fn decode<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, StateError> {
    serde_json::from_value(value).map_err(|error| StateError::Corrupt(error.to_string()))
}
