//! Agents as the record knows them: immutable, numbered versions.
//!
//! A version is a value in the scope `agents` under `name@version`, written once; `name` alone holds the number of the
//! active one. So every service that can reach the record can run a task with the version that it started with.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use domain::{AgentName, AgentSpec, Clock, Namespace, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{PutCondition, State, StateError};

const SCOPE: &str = "agents";
/// The agents whose source is wrong; the key cannot be an agent's name.
const STALE: &str = "~stale";

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

/// What the active-version value says, and what a writer of it has to find.
struct Seen {
    /// The number of the last version that was active, or 0.
    last: u32,
    /// The version that new tasks get.
    available: Option<u32>,
    condition: PutCondition,
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq)]
pub enum Published {
    /// It is a new version.
    New(Arc<AgentVersion>),
    /// The active version says the same.
    Same(Arc<AgentVersion>),
    /// Something else is active than the writer knew; nothing was changed.
    Moved(Option<Arc<AgentVersion>>),
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

    /// Makes `spec` the active version, whatever was active before; returns it, and whether it is a new one.
    ///
    /// Safe to run on several replicas at once: a number is taken once, and the same specification twice in a row makes
    /// one version.
    pub async fn publish(
        &self,
        namespace: &Namespace,
        spec: AgentSpec,
    ) -> Result<(Arc<AgentVersion>, bool), StateError> {
        loop {
            let base = self.look(namespace, &spec.name).await?.available;
            match self.publish_over(namespace, spec.clone(), base).await? {
                Published::New(version) => return Ok((version, true)),
                Published::Same(version) => return Ok((version, false)),
                Published::Moved(_) => {}
            }
        }
    }

    /// Makes `spec` the active version if `base` still is; `None` stands for no version in service.
    ///
    /// For replicas that follow the same source at different moments: what another one published meanwhile is not
    /// overwritten by what may be older.
    pub async fn publish_over(
        &self,
        namespace: &Namespace,
        spec: AgentSpec,
        base: Option<u32>,
    ) -> Result<Published, StateError> {
        let name = spec.name.clone();
        let body = serde_json::to_vec(&spec).map_err(|error| StateError::Corrupt(error.to_string()))?;
        let digest = blake3::hash(&body).to_hex().to_string();
        loop {
            let now = self.clock.now();
            let seen = self.look(namespace, &name).await?;
            if let Some(number) = seen.available
                && let Some(version) = self.version(namespace, &name, number).await?
                && version.digest == digest
            {
                self.remember_active(namespace, &name, Some(Arc::clone(&version)));
                return Ok(Published::Same(version));
            }
            if seen.available != base {
                return Ok(Published::Moved(self.active_now(namespace, &name).await?));
            }
            let version = self.write_version(namespace, &spec, &digest, seen.last + 1, now).await?;
            let active = Active { version: version.version, available: true };
            if self.activate(namespace, &name, &active, seen.condition, now).await? {
                let version = Arc::new(version);
                self.remember_active(namespace, &name, Some(Arc::clone(&version)));
                return Ok(Published::New(version));
            }
        }
    }

    /// Writes an immutable version under the first free number from `number` on.
    async fn write_version(
        &self,
        namespace: &Namespace,
        spec: &AgentSpec,
        digest: &str,
        mut number: u32,
        now: Timestamp,
    ) -> Result<AgentVersion, StateError> {
        let name = &spec.name;
        loop {
            let version =
                AgentVersion { version: number, spec: spec.clone(), digest: digest.to_owned(), created_at: now };
            let value = serde_json::to_value(&version).map_err(|error| StateError::Corrupt(error.to_string()))?;
            let key = format!("{name}@{number}");
            match self.state.put_value(namespace, SCOPE, &key, value, None, PutCondition::Absent, now).await {
                Ok(_) => return Ok(version),
                Err(StateError::VersionMismatch { .. }) => {
                    // Left by a process that died before it made the version active, or by another replica.
                    if let Some(found) = self.version(namespace, name, number).await?
                        && found.digest == digest
                    {
                        return Ok(AgentVersion::clone(&found));
                    }
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes an agent out of service; its versions stay for the tasks that run with them.
    pub async fn withdraw(&self, namespace: &Namespace, name: &AgentName) -> Result<(), StateError> {
        loop {
            let Some(base) = self.look(namespace, name).await?.available else { return Ok(()) };
            if self.withdraw_over(namespace, name, base).await? {
                return Ok(());
            }
        }
    }

    /// Takes an agent out of service if `base` still is its active version; false when another one is.
    pub async fn withdraw_over(&self, namespace: &Namespace, name: &AgentName, base: u32) -> Result<bool, StateError> {
        loop {
            let now = self.clock.now();
            let seen = self.look(namespace, name).await?;
            match seen.available {
                None => {
                    self.remember_active(namespace, name, None);
                    return Ok(true);
                }
                Some(active) if active != base => return Ok(false),
                Some(_) => {}
            }
            let active = Active { version: seen.last, available: false };
            if self.activate(namespace, name, &active, seen.condition, now).await? {
                self.remember_active(namespace, name, None);
                return Ok(true);
            }
        }
    }

    /// Writes which version is active; false when somebody else did meanwhile.
    async fn activate(
        &self,
        namespace: &Namespace,
        name: &AgentName,
        active: &Active,
        condition: PutCondition,
        now: Timestamp,
    ) -> Result<bool, StateError> {
        let value = serde_json::json!(active);
        match self.state.put_value(namespace, SCOPE, name.as_str(), value, None, condition, now).await {
            Ok(_) => Ok(true),
            Err(StateError::VersionMismatch { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What the record says now of an agent's active version.
    async fn look(&self, namespace: &Namespace, name: &AgentName) -> Result<Seen, StateError> {
        let value = self.state.value(namespace, SCOPE, name.as_str(), self.clock.now()).await?;
        let Some(value) = value else {
            return Ok(Seen { last: 0, available: None, condition: PutCondition::Absent });
        };
        let active: Active = decode(value.value)?;
        Ok(Seen {
            last: active.version,
            available: active.available.then_some(active.version),
            condition: PutCondition::Version(value.version),
        })
    }

    /// Finds the version that new tasks get, as the record says now; `None` when the agent is unknown or withdrawn.
    pub async fn active_now(
        &self,
        namespace: &Namespace,
        name: &AgentName,
    ) -> Result<Option<Arc<AgentVersion>>, StateError> {
        let version = match self.look(namespace, name).await?.available {
            Some(number) => self.version(namespace, name, number).await?,
            None => None,
        };
        self.remember_active(namespace, name, version.clone());
        Ok(version)
    }

    /// Remembers which agents keep their last good version because their source is wrong, each with where that is. What
    /// another replica remembered is replaced.
    pub async fn remember_stale(
        &self,
        namespace: &Namespace,
        stale: &BTreeMap<AgentName, String>,
    ) -> Result<(), StateError> {
        let value = serde_json::json!(stale);
        self.state.put_value(namespace, SCOPE, STALE, value, None, PutCondition::Always, self.clock.now()).await?;
        Ok(())
    }

    /// The agents that keep their last good version because their source is wrong, each with where that is.
    pub async fn stale(&self, namespace: &Namespace) -> Result<BTreeMap<AgentName, String>, StateError> {
        let value = self.state.value(namespace, SCOPE, STALE, self.clock.now()).await?;
        value.map_or_else(|| Ok(BTreeMap::new()), |value| decode(value.value))
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
        self.active_now(namespace, name).await
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
