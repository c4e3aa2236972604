//! Versioned values.

use domain::{Namespace, Timestamp};
use rusqlite::{OptionalExtension as _, params};
use serde_json::Value;
use state::{PutCondition, StateError, StateValue};

use crate::fault::Written;
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::{Body, micros, stored_time};

/// Stores a value under its next version.
pub(crate) struct PutValue {
    pub(crate) namespace: Namespace,
    pub(crate) scope: String,
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) body: Body,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) condition: PutCondition,
    pub(crate) now: Timestamp,
}

impl Write for PutValue {
    type Output = StateValue;

    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        false
    }

    fn apply(self, tx: &Tx<'_>) -> Written<StateValue> {
        let Self { namespace, scope, key, value, body, expires_at, condition, now } = self;
        // A value that has expired is not there, whether or not a purge has come by.
        let sql = "SELECT version FROM state_values WHERE namespace = ?1 AND scope = ?2 AND key = ?3 \
             AND (expires_at IS NULL OR expires_at > ?4)";
        let named = params![namespace.as_str(), scope, key, micros(now)];
        let actual: Option<i64> = tx.statement(sql)?.query_row(named, |row| row.get(0)).optional()?;
        let actual = actual.map(|version| version as u64);
        let holds = match condition {
            PutCondition::Always => true,
            PutCondition::Absent => actual.is_none(),
            PutCondition::Version(wanted) => actual == Some(wanted),
        };
        if !holds {
            return Err(StateError::VersionMismatch { actual }.into());
        }
        let version = actual.unwrap_or(0) + 1;
        let (updated_at, expires_at) = (stored_time(now), expires_at.map(stored_time));
        let sql = "INSERT INTO state_values (namespace, scope, key, version, updated_at, expires_at, enc, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (namespace, scope, key) DO UPDATE SET \
             version = excluded.version, updated_at = excluded.updated_at, expires_at = excluded.expires_at, \
             enc = excluded.enc, body = excluded.body";
        let row = params![
            namespace.as_str(),
            scope,
            key,
            version as i64,
            micros(updated_at),
            expires_at.map(micros),
            body.enc,
            body.bytes
        ];
        tx.execute(sql, row)?;
        Ok(StateValue { key, version, value, updated_at, expires_at })
    }
}

/// Deletes a value.
pub(crate) struct DeleteValue {
    pub(crate) namespace: Namespace,
    pub(crate) scope: String,
    pub(crate) key: String,
}

impl Write for DeleteValue {
    type Output = bool;

    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        false
    }

    fn apply(self, tx: &Tx<'_>) -> Written<bool> {
        let sql = "DELETE FROM state_values WHERE namespace = ?1 AND scope = ?2 AND key = ?3 \
             RETURNING expires_at IS NULL OR expires_at > ?4";
        let now = micros(tx.clock.now());
        let named = params![self.namespace.as_str(), self.scope, self.key, now];
        Ok(tx.statement(sql)?.query_row(named, |row| row.get(0)).optional()?.unwrap_or(false))
    }
}
