//! Versioned values.

use async_trait::async_trait;
use domain::{Namespace, Timestamp};
use serde_json::Value;
use sqlx::Row as _;
use state::{PutCondition, StateError, StateValue};

use crate::fault::Written;
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::{Body, micros, stored_time};

/// Stores a value whatever is there, or what has expired: that is not there, whether or not a purge has come by.
const PUT: &str = "INSERT INTO state_values AS old \
         (namespace, scope, key, version, updated_at, expires_at, enc, body) VALUES ($1, $2, $3, 1, $4, $5, $6, $7) \
     ON CONFLICT (namespace, scope, key) DO UPDATE SET \
         version = CASE WHEN old.expires_at <= $8 THEN 1 ELSE old.version + 1 END, updated_at = excluded.updated_at, \
         expires_at = excluded.expires_at, enc = excluded.enc, body = excluded.body \
     WHERE NOT $9 OR old.expires_at <= $8 RETURNING version";
/// Stores a value over a version.
const REPLACE: &str = "UPDATE state_values SET version = version + 1, updated_at = $4, expires_at = $5, enc = $6, body = $7 \
     WHERE namespace = $1 AND scope = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > $8) AND version = $9 \
     RETURNING version";

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

impl PutValue {
    fn stored(&self, version: i64) -> StateValue {
        StateValue {
            key: self.key.clone(),
            version: version as u64,
            value: self.value.clone(),
            updated_at: stored_time(self.now),
            expires_at: self.expires_at.map(stored_time),
        }
    }
}

#[async_trait]
impl Write for PutValue {
    type Output = StateValue;

    fn guarded(&self) -> bool {
        false
    }

    fn locks_books(&self) -> bool {
        false
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<StateValue> {
        let now = micros(self.now);
        let query = match self.condition {
            PutCondition::Always | PutCondition::Absent => PUT,
            PutCondition::Version(_) => REPLACE,
        };
        let query = sqlx::query(query)
            .bind(self.namespace.as_str())
            .bind(self.scope.as_str())
            .bind(self.key.as_str())
            .bind(now)
            .bind(self.expires_at.map(micros))
            .bind(self.body.enc)
            .bind(self.body.bytes.as_slice())
            .bind(now);
        let query = match self.condition {
            PutCondition::Always => query.bind(false),
            PutCondition::Absent => query.bind(true),
            // No value has a version that its column cannot hold.
            PutCondition::Version(version) => query.bind(i64::try_from(version).unwrap_or(-1)),
        };
        if let Some(row) = query.fetch_optional(&mut *tx.conn).await? {
            return Ok(self.stored(row.try_get(0)?));
        }
        let sql = "SELECT version FROM state_values WHERE namespace = $1 AND scope = $2 AND key = $3 \
             AND (expires_at IS NULL OR expires_at > $4)";
        let actual = sqlx::query_scalar::<_, i64>(sql)
            .bind(self.namespace.as_str())
            .bind(self.scope.as_str())
            .bind(self.key.as_str())
            .bind(now);
        let actual = actual.fetch_optional(&mut *tx.conn).await?;
        Err(StateError::VersionMismatch { actual: actual.map(|version| version as u64) }.into())
    }

    async fn done_before(&self, tx: &mut Tx<'_>) -> Written<Option<StateValue>> {
        let sql = "SELECT version FROM state_values WHERE namespace = $1 AND scope = $2 AND key = $3 \
             AND updated_at = $4 AND enc = $5 AND body = $6";
        let version = sqlx::query_scalar(sql)
            .bind(self.namespace.as_str())
            .bind(self.scope.as_str())
            .bind(self.key.as_str())
            .bind(micros(self.now))
            .bind(self.body.enc)
            .bind(self.body.bytes.as_slice());
        let version: Option<i64> = version.fetch_optional(&mut *tx.conn).await?;
        Ok(version.map(|version| self.stored(version)))
    }
}

/// Deletes a value.
pub(crate) struct DeleteValue {
    pub(crate) namespace: Namespace,
    pub(crate) scope: String,
    pub(crate) key: String,
}

#[async_trait]
impl Write for DeleteValue {
    type Output = bool;

    fn guarded(&self) -> bool {
        false
    }

    fn locks_books(&self) -> bool {
        false
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<bool> {
        let sql = "DELETE FROM state_values WHERE namespace = $1 AND scope = $2 AND key = $3 \
             RETURNING expires_at IS NULL OR expires_at > $4";
        let was_there = sqlx::query_scalar(sql)
            .bind(self.namespace.as_str())
            .bind(self.scope.as_str())
            .bind(self.key.as_str())
            .bind(micros(tx.clock.now()));
        Ok(was_there.fetch_optional(&mut *tx.conn).await?.unwrap_or(false))
    }
}
