//! Reading and writing values.

use std::sync::Arc;
use std::time::Duration;

use domain::{Clock, Namespace, Timestamp};
use serde_json::Value;
use state::{Page, PutCondition, State, StateError, StateValue};

use super::{Key, Scope};
use crate::Deps;

/// How often a write that only wants the value to exist is tried again when others write in between.
const ATTEMPTS: u32 = 10;

/// Why a value could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    /// Nothing is stored there.
    #[error("there is no value {key} in scope {scope}")]
    Unknown { scope: Scope, key: Key },
    /// The scope is the platform's.
    #[error("scope {scope} belongs to the platform and can only be read")]
    Reserved { scope: Scope },
    /// The record refused or failed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a writer expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Anything or nothing.
    Anything,
    /// Nothing.
    Nothing,
    /// Some value.
    Something,
    /// This version.
    Version(u64),
}

/// The use cases of values.
#[derive(Clone)]
pub(crate) struct Values {
    state: Arc<dyn State>,
    clock: Arc<dyn Clock>,
}

impl Values {
    pub(crate) fn new(deps: &Deps) -> Self {
        Self { state: Arc::clone(&deps.state), clock: Arc::clone(&deps.clock) }
    }

    pub(crate) async fn get(&self, namespace: &Namespace, scope: Scope, key: Key) -> Result<StateValue, ValueError> {
        let found = self.state.value(namespace, scope.as_str(), key.as_str(), self.clock.now()).await?;
        found.ok_or(ValueError::Unknown { scope, key })
    }

    pub(crate) async fn list(
        &self,
        namespace: &Namespace,
        scope: &Scope,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<StateValue>, ValueError> {
        Ok(self.state.values(namespace, scope.as_str(), after, limit, self.clock.now()).await?)
    }

    pub(crate) async fn put(
        &self,
        namespace: &Namespace,
        (scope, key): (&Scope, &Key),
        value: Value,
        ttl: Option<Duration>,
        expected: Expected,
    ) -> Result<StateValue, ValueError> {
        writable(scope)?;
        let expires_at = |now: Timestamp| ttl.map(|ttl| now + ttl);
        let condition = match expected {
            Expected::Anything => PutCondition::Always,
            Expected::Nothing => PutCondition::Absent,
            Expected::Version(version) => PutCondition::Version(version),
            Expected::Something => {
                let write = |version, now| self.write(namespace, (scope, key), value.clone(), expires_at(now), version);
                return self.over_current(namespace, (scope, key), write).await;
            }
        };
        let now = self.clock.now();
        Ok(self.write(namespace, (scope, key), value, expires_at(now), condition).await?)
    }

    pub(crate) async fn delete(
        &self,
        namespace: &Namespace,
        scope: Scope,
        key: Key,
        expected: Expected,
    ) -> Result<(), ValueError> {
        writable(&scope)?;
        let name = (&scope, &key);
        match expected {
            Expected::Version(version) => {
                let condition = PutCondition::Version(version);
                self.write(namespace, name, Value::Null, Some(self.clock.now()), condition).await?;
            }
            Expected::Something => {
                let write = |version, now| self.write(namespace, name, Value::Null, Some(now), version);
                self.over_current(namespace, name, write).await?;
            }
            Expected::Anything | Expected::Nothing => {
                if !self.state.delete_value(namespace, scope.as_str(), key.as_str()).await? {
                    return Err(ValueError::Unknown { scope, key });
                }
            }
        }
        Ok(())
    }

    /// A value that expires in the moment of its writing is a deletion under a condition, which the record has no other
    /// way to do in one transaction. Retention removes what is left of it.
    async fn write(
        &self,
        namespace: &Namespace,
        (scope, key): (&Scope, &Key),
        value: Value,
        expires_at: Option<Timestamp>,
        condition: PutCondition,
    ) -> Result<StateValue, StateError> {
        let now = self.clock.now();
        self.state.put_value(namespace, scope.as_str(), key.as_str(), value, expires_at, condition, now).await
    }

    /// Writes over whatever version there is, but not over nothing.
    async fn over_current<W, F>(
        &self,
        namespace: &Namespace,
        (scope, key): (&Scope, &Key),
        write: W,
    ) -> Result<StateValue, ValueError>
    where
        W: Fn(PutCondition, Timestamp) -> F,
        F: Future<Output = Result<StateValue, StateError>>,
    {
        let mut attempt = 1;
        loop {
            let now = self.clock.now();
            let Some(current) = self.state.value(namespace, scope.as_str(), key.as_str(), now).await? else {
                return Err(StateError::VersionMismatch { actual: None }.into());
            };
            match write(PutCondition::Version(current.version), now).await {
                Err(StateError::VersionMismatch { actual: Some(_) }) if attempt < ATTEMPTS => attempt += 1,
                written => return Ok(written?),
            }
        }
    }
}

fn writable(scope: &Scope) -> Result<(), ValueError> {
    if scope.is_reserved() { Err(ValueError::Reserved { scope: scope.clone() }) } else { Ok(()) }
}
