//! Remembers in the record which file each agent came from, so that a restart tells a file that is gone from one that is
//! wrong just now: the first withdraws the agent, the second leaves its last good version in service.

use std::collections::BTreeMap;

use domain::{AgentName, Clock, Namespace};
use serde_json::Value;
use state::{PutCondition, State, StateError};

/// The scope that belongs to agents; the key cannot be an agent's name.
const SCOPE: &str = "agents";
const KEY: &str = "~files";

/// Which file each agent came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owners(pub(super) BTreeMap<AgentName, String>);

impl Owners {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&AgentName, &String)> {
        self.0.iter()
    }

    /// Reads what was remembered.
    pub(super) async fn load(state: &dyn State, namespace: &Namespace, clock: &dyn Clock) -> Result<Self, StateError> {
        let Some(value) = state.value(namespace, SCOPE, KEY, clock.now()).await? else { return Ok(Self::default()) };
        serde_json::from_value(value.value).map(Self).map_err(|error| StateError::Corrupt(error.to_string()))
    }

    /// Remembers the files of some agents and forgets those of others; what other replicas remembered stays.
    pub(super) async fn change(
        state: &dyn State,
        namespace: &Namespace,
        clock: &dyn Clock,
        add: &BTreeMap<AgentName, String>,
        remove: &[AgentName],
    ) -> Result<(), StateError> {
        loop {
            let now = clock.now();
            let found = state.value(namespace, SCOPE, KEY, now).await?;
            let condition = found.as_ref().map_or(PutCondition::Absent, |found| PutCondition::Version(found.version));
            let decoded = found.map(|found| serde_json::from_value(found.value)).transpose();
            let before: BTreeMap<AgentName, String> =
                decoded.map_err(|error| StateError::Corrupt(error.to_string()))?.unwrap_or_default();
            let mut after = before.clone();
            after.extend(add.iter().map(|(name, file)| (name.clone(), file.clone())));
            after.retain(|name, _| !remove.contains(name));
            if after == before {
                return Ok(());
            }
            let value = after.into_iter().map(|(name, file)| (name.to_string(), Value::String(file))).collect();
            match state.put_value(namespace, SCOPE, KEY, value, None, condition, now).await {
                Ok(_) => return Ok(()),
                Err(StateError::VersionMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
