//! Reserves what a call may cost before it is made, and counts what it did cost.
//!
//! A reservation is open only while the lease is held that made it: its step or a settlement closes it, and so does
//! whatever ends the lease. So an open one needs no epoch. All of it happens with the books locked, so that no two
//! processes grant the same amount.

use async_trait::async_trait;
use domain::{Amount, BudgetAccount, BudgetLevel, Dimension, Lease, Terms, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use state::{Reserve, ReserveId, Reserved, StateError};

use super::append::append;
use crate::accounts::{self, Payer, Standing, amount, columns};
use crate::fault::Written;
use crate::rows;
use crate::tx::{EncodedStep, Tx};
use crate::writer::Write;
use state::codec::micros;

/// For how long the accounts of an hour or a day are kept, from their beginning.
const WINDOWS_KEPT: std::time::Duration = std::time::Duration::from_hours(8 * 24);

/// Appends steps and reserves an amount.
pub(crate) struct ReserveCall {
    pub(crate) lease: Lease,
    pub(crate) steps: Vec<EncodedStep>,
    pub(crate) reserve: Reserve,
}

#[async_trait]
impl Write for ReserveCall {
    type Output = Reserved;

    fn guarded(&self) -> bool {
        false
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Reserved> {
        let Self { lease, steps, reserve } = self;
        let lost = StateError::LeaseLost { task: lease.task, epoch: lease.epoch };
        let owned = tx.held(*lease).await?.ok_or(lost)?;
        append(tx, *lease, &owned, steps).await?;
        let granted = Reserved::Granted { warnings: Vec::new() };
        if !owned.has_accounts {
            return Ok(granted);
        }
        let Some(payer) = payer(tx, owned.key).await? else { return Ok(granted) };
        tx.books.lock(tx.conn).await?;
        if is_known(tx, owned.key, reserve.id).await? {
            return Ok(granted);
        }
        let standings = accounts::standings(tx.conn, &payer.namespace, &payer.accounts, reserve.at).await?;
        if let Some(level) = first_refusal(&payer, &standings, reserve) {
            return Ok(Reserved::Refused(level));
        }
        let mut warnings = Vec::new();
        let bits: Vec<i64> = payer
            .accounts
            .iter()
            .zip(&standings)
            .map(|(account, standing)| warn(account, standing, reserve, &mut warnings))
            .collect();
        let none = Amount::default();
        let change = match reserve.id {
            ReserveId::Model { .. } => (none, reserve.amount),
            ReserveId::Tools { .. } => (reserve.amount, none),
        };
        let keys = accounts::add(tx.conn, &payer, reserve.at, &bits, change).await?;
        remember(tx, owned.key, reserve, &keys).await?;
        Ok(Reserved::Granted { warnings })
    }
}

/// Who pays for a task; none when nothing of it is counted.
async fn payer(tx: &mut Tx<'_>, task_key: i64) -> Written<Option<Payer>> {
    let found = sqlx::query("SELECT namespace, terms FROM tasks WHERE key = $1").bind(task_key);
    let Some(row) = found.fetch_optional(&mut *tx.conn).await? else { return Ok(None) };
    let terms: Terms = rows::json_or_none(&row, 1, "terms")?.unwrap_or_default();
    Ok(Payer::of(rows::namespace(&row, 0)?, terms.accounts))
}

/// Tells whether this very reservation was made before.
async fn is_known(tx: &mut Tx<'_>, task_key: i64, id: ReserveId) -> Written<bool> {
    let (sql, seq) = match id {
        ReserveId::Model { seq } => ("SELECT 1 FROM reservations WHERE task_key = $1 AND seq = $2", seq),
        ReserveId::Tools { seq } => ("SELECT 1 FROM paid_tools WHERE task_key = $1 AND seq = $2", seq),
    };
    tx.exists(sqlx::query(sql).bind(task_key).bind(i64::from(seq))).await
}

/// The first level, in the order of the terms, that does not allow the amount.
fn first_refusal(payer: &Payer, standings: &[Standing], reserve: &Reserve) -> Option<BudgetLevel> {
    for (account, standing) in payer.accounts.iter().zip(standings) {
        let grant = granted(reserve, &account.key);
        let after = standing.spent.plus(standing.reserved).plus(reserve.amount);
        for what in Dimension::ALL {
            let Some(limit) = account.limit.of(what) else { continue };
            let limit = limit.saturating_add(grant.of(what));
            if after.of(what) > limit {
                return Some(standing.level(account, what, limit, reserve.amount.of(what)));
            }
        }
    }
    None
}

/// What people granted beyond the limits of an account.
fn granted(reserve: &Reserve, account: &str) -> Amount {
    let of_account = reserve.grants.iter().filter(|(key, _)| key == account);
    of_account.fold(Amount::default(), |sum, (_, grant)| sum.plus(*grant))
}

/// Adds the levels that reach four fifths of their limit with what is asked for, unless that was said before; returns
/// the bits of these.
fn warn(account: &BudgetAccount, standing: &Standing, reserve: &Reserve, warnings: &mut Vec<BudgetLevel>) -> i64 {
    let mut warned = 0;
    for what in Dimension::ALL {
        let Some(limit) = account.limit.of(what).filter(|_| standing.warned & bit(what) == 0) else { continue };
        let asked = reserve.amount.of(what);
        let after = [standing.spent.of(what), standing.reserved.of(what), asked].map(u128::from).iter().sum::<u128>();
        if asked > 0 && after * 5 >= u128::from(limit) * 4 {
            warned |= bit(what);
            let limit = limit.saturating_add(granted(reserve, &account.key).of(what));
            warnings.push(standing.level(account, what, limit, asked));
        }
    }
    warned
}

fn bit(what: Dimension) -> i64 {
    match what {
        Dimension::Usd => 1,
        Dimension::Tokens => 2,
        Dimension::ModelCalls => 4,
        Dimension::ToolCalls => 8,
    }
}

async fn remember(tx: &mut Tx<'_>, task_key: i64, reserve: &Reserve, accounts: &[i64]) -> Written<()> {
    match reserve.id {
        ReserveId::Model { seq } => {
            let [usd, tokens, model_calls, tool_calls] = columns(reserve.amount);
            let keys: Vec<u8> = accounts.iter().flat_map(|key| key.to_be_bytes()).collect();
            let sql = "INSERT INTO reservations (task_key, seq, usd, tokens, model_calls, tool_calls, accounts) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)";
            let insert = sqlx::query(sql).bind(task_key).bind(i64::from(seq));
            let insert = insert.bind(usd).bind(tokens).bind(model_calls).bind(tool_calls).bind(keys);
            tx.execute(insert).await?;
        }
        ReserveId::Tools { seq } => {
            let insert = sqlx::query("INSERT INTO paid_tools (task_key, seq) VALUES ($1, $2)");
            tx.execute(insert.bind(task_key).bind(i64::from(seq))).await?;
        }
    }
    Ok(())
}

/// Settles the reservation of a model call that gave no step.
pub(crate) struct Settle {
    pub(crate) lease: Lease,
    /// The number of the step that did not come.
    pub(crate) seq: u32,
    pub(crate) spent: Amount,
}

#[async_trait]
impl Write for Settle {
    type Output = ();

    fn guarded(&self) -> bool {
        false
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<()> {
        let Some(owned) = tx.held(self.lease).await? else { return Ok(()) };
        close(tx, owned.key, self.seq, |_| self.spent).await
    }
}

/// Settles the reservation of a model call by its step, if there is one; the calls that were counted are those that were
/// reserved.
pub(crate) async fn settle_by_step(tx: &mut Tx<'_>, task_key: i64, seq: u32, used: Amount) -> Written<()> {
    close(tx, task_key, seq, |reserved| Amount { usd: used.usd, tokens: used.tokens, ..reserved }).await
}

async fn close(tx: &mut Tx<'_>, task_key: i64, seq: u32, spent: impl FnOnce(Amount) -> Amount) -> Written<()> {
    tx.books.lock(tx.conn).await?;
    let sql = "DELETE FROM reservations WHERE task_key = $1 AND seq = $2 \
         RETURNING usd, tokens, model_calls, tool_calls, accounts";
    let found = sqlx::query(sql).bind(task_key).bind(i64::from(seq)).fetch_optional(&mut *tx.conn).await?;
    let Some(open) = found.as_ref().map(open).transpose()? else { return Ok(()) };
    open.settle(tx, spent(open.amount)).await
}

/// Counts as spent in full what a task still has reserved: its lease ends, and nobody knows what the call used.
pub(crate) async fn forfeit(tx: &mut Tx<'_>, task_key: i64) -> Written<()> {
    tx.books.lock(tx.conn).await?;
    let sql = "DELETE FROM reservations WHERE task_key = $1 \
         RETURNING usd, tokens, model_calls, tool_calls, accounts";
    for row in sqlx::query(sql).bind(task_key).fetch_all(&mut *tx.conn).await? {
        let open = open(&row)?;
        open.settle(tx, open.amount).await?;
    }
    Ok(())
}

/// A reservation that is not settled.
struct Open {
    amount: Amount,
    /// The rows that it was made in: it is settled there even when their windows are over.
    accounts: Vec<i64>,
}

fn open(row: &PgRow) -> Written<Open> {
    let keys: &[u8] = row.try_get(4)?;
    let (keys, _) = keys.as_chunks();
    Ok(Open { amount: amount(row, 0)?, accounts: keys.iter().map(|key| i64::from_be_bytes(*key)).collect() })
}

impl Open {
    async fn settle(&self, tx: &mut Tx<'_>, spent: Amount) -> Written<()> {
        accounts::settle(tx.conn, &self.accounts, spent, self.amount).await
    }
}

/// Deletes what is only kept while tasks exist: which tools they paid, and the accounts that bear their names.
pub(crate) async fn purge_tasks(tx: &mut Tx<'_>, tasks: &[i64]) -> Written<()> {
    for sql in [
        "DELETE FROM reservations WHERE task_key = ANY($1)",
        "DELETE FROM paid_tools WHERE task_key = ANY($1)",
        "DELETE FROM accounts USING tasks WHERE tasks.key = ANY($1) AND tasks.terms IS NOT NULL \
         AND accounts.namespace = tasks.namespace AND span = 0 AND begin_at = 0 AND name = 'task/' || tasks.id::text",
    ] {
        tx.execute(sqlx::query(sql).bind(tasks)).await?;
    }
    Ok(())
}

/// Deletes the accounts of windows that ended long ago.
pub(crate) async fn purge_windows(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Written<()> {
    let sql = "DELETE FROM accounts WHERE key IN \
         (SELECT key FROM accounts WHERE span > 0 AND begin_at <= $1 ORDER BY begin_at LIMIT $2)";
    let before = micros(now).saturating_sub(WINDOWS_KEPT.as_micros() as i64);
    tx.execute(sqlx::query(sql).bind(before).bind(i64::from(limit))).await?;
    Ok(())
}
