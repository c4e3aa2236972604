//! Delivers a named value to a task.

use domain::{Namespace, Resolution, TaskId, TaskStatus};
use rusqlite::{OptionalExtension as _, params};
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
}

impl Write for SendSignal {
    type Output = Transition;

    fn apply(self, tx: &Tx<'_>) -> Written<Transition> {
        let Self { namespace, task, signal, value } = self;
        let mut transition = Transition::default();
        let head = tx.head_in(&namespace, task)?;
        if let Some(key) = &signal.key {
            let sql = "SELECT 1 FROM signals WHERE task_key = ?1 AND dedupe = ?2 AND dedupe IS NOT NULL";
            if tx.statement(sql)?.exists(params![head.key, key])? {
                return Ok(transition);
            }
        }
        if head.status.is_terminal() {
            return Err(StateError::Ended { task, status: head.status }.into());
        }
        let sql = "SELECT key FROM waits WHERE task_key = ?1 AND signal = ?2 ORDER BY key LIMIT 1";
        let wait: Option<i64> =
            tx.statement(sql)?.query_row(params![head.key, signal.name], |row| row.get(0)).optional()?;
        let waited_for = wait.is_some() && head.status == TaskStatus::Waiting;
        // A delivered signal leaves its key behind, so that the same one again changes nothing.
        if !waited_for || signal.key.is_some() {
            let sql = "INSERT INTO signals (task_key, name, dedupe, used, sender, enc, value) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let (enc, bytes) = if waited_for { (0, &[][..]) } else { (value.enc, value.bytes.as_slice()) };
            let row = params![head.key, signal.name, signal.key, waited_for, signal.from, enc, bytes];
            tx.execute(sql, row)?;
        }
        if let Some(wait) = wait.filter(|_| waited_for) {
            let by = Resolution::Signal { value: signal.value, from: signal.from };
            tx.resolve(wait, by, signal.at, &mut transition)?;
        }
        Ok(transition)
    }
}

/// Takes the oldest signal of a name that came before its wait.
pub(crate) fn take_early(tx: &Tx<'_>, task_key: i64, name: &str) -> Written<Option<Resolution>> {
    let sql = "SELECT key, sender, enc, value FROM signals \
         WHERE task_key = ?1 AND name = ?2 AND used = 0 ORDER BY key LIMIT 1";
    let mut statement = tx.statement(sql)?;
    let mut found = statement.query(params![task_key, name])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let key: i64 = row.get(0)?;
    let value = rows::body(row, 2)?.decode("a signal's value")?;
    let from = row.get(1)?;
    tx.execute("UPDATE signals SET used = 1, enc = 0, value = x'' WHERE key = ?1", params![key])?;
    Ok(Some(Resolution::Signal { value, from }))
}
