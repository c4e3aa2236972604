//! Delivers a named value to a task.

use async_trait::async_trait;
use domain::{Namespace, Resolution, TaskId, TaskStatus};
use sqlx::Row as _;
use state::{Signal, StateError, Transition};

use crate::fault::Written;
use crate::rows;
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::Body;

/// Signals one task.
pub(crate) struct SendSignal {
    namespace: Namespace,
    task: TaskId,
    signal: Signal,
    value: Body,
}

impl SendSignal {
    /// Encodes the value, which also checks its size.
    pub(crate) fn encode(
        namespace: Namespace,
        task: TaskId,
        signal: Signal,
        threshold: usize,
    ) -> Result<Self, StateError> {
        let value = Body::encode(&signal.value, threshold, "a signal's value")?;
        Ok(Self { namespace, task, signal, value })
    }

    /// Finds the oldest wait for the signal.
    async fn wait(&self, tx: &mut Tx<'_>, task_key: i64) -> Written<Option<i64>> {
        let sql = "SELECT key FROM waits WHERE task_key = $1 AND signal = $2 ORDER BY key LIMIT 1";
        let wait = sqlx::query_scalar(sql).bind(task_key).bind(self.signal.name.as_str());
        Ok(wait.fetch_optional(&mut *tx.conn).await?)
    }

    /// Stores the value for a wait that comes later, or only that it was delivered.
    async fn keep(&self, tx: &mut Tx<'_>, task_key: i64, delivered: bool) -> Written<()> {
        let Signal { name, key, from, .. } = &self.signal;
        let (enc, bytes) = if delivered { (0, &[][..]) } else { (self.value.enc, self.value.bytes.as_slice()) };
        let sql = "INSERT INTO signals (task_key, name, dedupe, used, sender, enc, value) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let insert = sqlx::query(sql).bind(task_key).bind(name.as_str()).bind(key.as_deref()).bind(delivered);
        tx.execute(insert.bind(from.as_deref()).bind(enc).bind(bytes)).await?;
        Ok(())
    }
}

#[async_trait]
impl Write for SendSignal {
    type Output = Transition;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Transition> {
        let Self { namespace, task, signal, .. } = self;
        let mut transition = Transition::default();
        let head = tx.head_in(namespace, *task).await?;
        if let Some(key) = &signal.key {
            let sql = "SELECT 1 FROM signals WHERE task_key = $1 AND dedupe = $2 AND dedupe IS NOT NULL";
            if tx.exists(sqlx::query(sql).bind(head.key).bind(key.as_str())).await? {
                return Ok(transition);
            }
        }
        if head.status.is_terminal() {
            return Err(StateError::Ended { task: *task, status: head.status }.into());
        }
        let wait = if head.status == TaskStatus::Waiting { self.wait(tx, head.key).await? } else { None };
        // A delivered signal leaves its key behind, so that the same one again changes nothing.
        if wait.is_none() || signal.key.is_some() {
            self.keep(tx, head.key, wait.is_some()).await?;
        }
        if let Some(wait) = wait {
            let by = Resolution::Signal { value: signal.value.clone(), from: signal.from.clone() };
            tx.resolve(wait, by, signal.at, &mut transition).await?;
        }
        Ok(transition)
    }

    async fn done_before(&self, _tx: &mut Tx<'_>) -> Written<Option<Transition>> {
        if self.signal.key.is_some() {
            return Ok(None);
        }
        let why =
            "the connection was lost while a signal was recorded; whether it was is not known, because it has no key";
        Err(StateError::Unavailable(why.to_owned()).into())
    }
}

/// Takes the oldest signal of a name that came before its wait.
pub(crate) async fn take_early(tx: &mut Tx<'_>, task_key: i64, name: &str) -> Written<Option<Resolution>> {
    let sql = "SELECT key, sender, enc, value FROM signals \
         WHERE task_key = $1 AND name = $2 AND NOT used ORDER BY key LIMIT 1";
    let found = sqlx::query(sql).bind(task_key).bind(name).fetch_optional(&mut *tx.conn).await?;
    let Some(row) = found else { return Ok(None) };
    let value = rows::body(&row, 2)?.decode("a signal's value")?;
    let from = row.try_get(1)?;
    let sql = "UPDATE signals SET used = true, enc = 0, value = ''::bytea WHERE key = $1";
    tx.execute(sqlx::query(sql).bind(row.try_get::<i64, _>(0)?)).await?;
    Ok(Some(Resolution::Signal { value, from }))
}
