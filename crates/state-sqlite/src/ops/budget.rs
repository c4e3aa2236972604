//! Reserves what a call may cost before it is made, and counts what it did cost.
//!
//! A reservation is open only while the lease is held that made it: its step or a settlement closes it, and so does
//! whatever ends the lease. So an open one needs no epoch, and what the last process left open has no owner.

use domain::{Amount, BudgetAccount, BudgetLevel, Dimension, Lease, Timestamp};
use rusqlite::{Row, params};
use state::{Reserve, ReserveId, Reserved};

use super::append::{append, held};
use crate::accounts::{Change, Standing, amount, columns};
use crate::fault::Written;
use crate::leases::{Held, Payer};
use crate::rows::Head;
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

impl Write for ReserveCall {
    type Output = Reserved;

    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        false
    }

    fn apply(self, tx: &Tx<'_>) -> Written<Reserved> {
        let Self { lease, steps, reserve } = self;
        let owned = held(tx, lease)?;
        append(tx, lease, &owned, &steps)?;
        let Some(payer) = &owned.payer else { return Ok(Reserved::Granted { warnings: Vec::new() }) };
        if is_known(tx, &owned, reserve.id)? {
            return Ok(Reserved::Granted { warnings: Vec::new() });
        }
        let standings = match standings(tx, payer, &reserve)? {
            Ok(standings) => standings,
            Err(level) => return Ok(Reserved::Refused(*level)),
        };
        let mut warnings = Vec::new();
        let mut keys = Vec::with_capacity(standings.len() * size_of::<i64>());
        for (account, standing) in payer.accounts.iter().zip(standings) {
            let mut change = Change { warned: warn(account, &standing, &reserve, &mut warnings), ..Change::default() };
            match reserve.id {
                ReserveId::Model { .. } => change.reserved = reserve.amount,
                ReserveId::Tools { .. } => change.spent = reserve.amount,
            }
            let key = standing.row(tx.conn, &payer.namespace, account, reserve.at)?;
            change.apply(tx.conn, key)?;
            keys.extend(key.to_be_bytes());
        }
        remember(tx, lease, owned.key, &reserve, &keys)?;
        Ok(Reserved::Granted { warnings })
    }
}

/// Tells whether this very reservation was made before.
fn is_known(tx: &Tx<'_>, held: &Held, id: ReserveId) -> Written<bool> {
    let (sql, seq) = match id {
        ReserveId::Model { .. } if held.reserved == 0 => return Ok(false),
        ReserveId::Model { seq } => ("SELECT 1 FROM reservations WHERE task_key = ?1 AND seq = ?2", seq),
        ReserveId::Tools { seq } => ("SELECT 1 FROM paid_tools WHERE task_key = ?1 AND seq = ?2", seq),
    };
    Ok(tx.statement(sql)?.exists(params![held.key, seq])?)
}

/// How all accounts stand, in the order of the terms, or the first level that does not allow the amount.
fn standings(tx: &Tx<'_>, payer: &Payer, reserve: &Reserve) -> Written<Result<Vec<Standing>, Box<BudgetLevel>>> {
    let mut standings = Vec::with_capacity(payer.accounts.len());
    for account in &payer.accounts {
        let standing = Standing::find(tx.conn, &payer.namespace, account, reserve.at)?;
        let grant = granted(reserve, &account.key);
        let after = standing.spent.plus(standing.reserved).plus(reserve.amount);
        for what in Dimension::ALL {
            let Some(limit) = account.limit.of(what) else { continue };
            let limit = limit.saturating_add(grant.of(what));
            if after.of(what) > limit {
                return Ok(Err(Box::new(standing.level(account, what, limit, reserve.amount.of(what)))));
            }
        }
        standings.push(standing);
    }
    Ok(Ok(standings))
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

fn remember(tx: &Tx<'_>, lease: Lease, task_key: i64, reserve: &Reserve, accounts: &[u8]) -> Written<()> {
    match reserve.id {
        ReserveId::Model { seq } => {
            let [usd, tokens, model_calls, tool_calls] = columns(reserve.amount);
            let sql = "INSERT INTO reservations (task_key, seq, usd, tokens, model_calls, tool_calls, accounts) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            tx.execute(sql, params![task_key, seq, usd, tokens, model_calls, tool_calls, accounts])?;
            tx.leases.update(lease.task, |held| held.reserved += 1);
        }
        ReserveId::Tools { seq } => {
            tx.execute("INSERT INTO paid_tools (task_key, seq) VALUES (?1, ?2)", params![task_key, seq])?;
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

impl Write for Settle {
    type Output = ();

    const LAZY: bool = true;

    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        false
    }

    fn apply(self, tx: &Tx<'_>) -> Written<()> {
        let Some(owned) = tx.leases.get(self.lease).filter(|held| held.reserved > 0) else { return Ok(()) };
        close(tx, self.lease, owned.key, self.seq, |_| self.spent)
    }
}

/// Settles the reservation of a model call by its step; the calls that were counted are those that were reserved.
pub(crate) fn settle_by_step(tx: &Tx<'_>, lease: Lease, task_key: i64, seq: u32, used: Amount) -> Written<()> {
    close(tx, lease, task_key, seq, |reserved| Amount { usd: used.usd, tokens: used.tokens, ..reserved })
}

fn close(tx: &Tx<'_>, lease: Lease, task_key: i64, seq: u32, spent: impl FnOnce(Amount) -> Amount) -> Written<()> {
    let sql = "DELETE FROM reservations WHERE task_key = ?1 AND seq = ?2 \
         RETURNING usd, tokens, model_calls, tool_calls, accounts";
    let mut statement = tx.statement(sql)?;
    let found: Vec<Open> = statement.query_map(params![task_key, seq], open)?.collect::<Result<_, _>>()?;
    let Some(open) = found.first() else { return Ok(()) };
    open.settle(tx, spent(open.amount))?;
    tx.leases.update(lease.task, |held| held.reserved = held.reserved.saturating_sub(1));
    Ok(())
}

/// Counts as spent in full what a task still has reserved: its lease ends, and nobody knows what the call used.
pub(crate) fn forfeit(tx: &Tx<'_>, task_key: i64) -> Written<()> {
    let sql = "DELETE FROM reservations WHERE task_key = ?1 \
         RETURNING usd, tokens, model_calls, tool_calls, accounts";
    let found: Vec<Open> = tx.statement(sql)?.query_map(params![task_key], open)?.collect::<Result<_, _>>()?;
    found.iter().try_for_each(|open| open.settle(tx, open.amount))
}

/// Counts as spent in full all that is reserved: every lease has ended.
pub(crate) fn forfeit_all(tx: &Tx<'_>) -> Written<()> {
    let sql = "DELETE FROM reservations RETURNING usd, tokens, model_calls, tool_calls, accounts";
    let found: Vec<Open> = tx.statement(sql)?.query_map([], open)?.collect::<Result<_, _>>()?;
    found.iter().try_for_each(|open| open.settle(tx, open.amount))
}

/// A reservation that is not settled.
struct Open {
    amount: Amount,
    /// The rows that it was made in: it is settled there even when their windows are over.
    accounts: Vec<u8>,
}

fn open(row: &Row<'_>) -> rusqlite::Result<Open> {
    Ok(Open { amount: amount(row, 0)?, accounts: row.get(4)? })
}

impl Open {
    fn settle(&self, tx: &Tx<'_>, spent: Amount) -> Written<()> {
        let change = Change { spent, freed: self.amount, ..Change::default() };
        let (keys, _) = self.accounts.as_chunks();
        keys.iter().try_for_each(|key| change.apply(tx.conn, i64::from_be_bytes(*key)))
    }
}

/// Deletes what is only kept while a task exists: which tools it paid, and the account that bears its name.
pub(crate) fn purge_task(tx: &Tx<'_>, head: &Head) -> Written<()> {
    if !head.has_terms {
        return Ok(());
    }
    forfeit(tx, head.key)?;
    tx.execute("DELETE FROM paid_tools WHERE task_key = ?1", params![head.key])?;
    let sql = "DELETE FROM accounts WHERE namespace = (SELECT namespace FROM tasks WHERE key = ?1) \
         AND span = 0 AND begin_at = 0 AND name = ?2";
    tx.execute(sql, params![head.key, format!("task/{}", head.id)])?;
    Ok(())
}

/// Deletes the accounts of windows that ended long ago.
pub(crate) fn purge_windows(tx: &Tx<'_>, now: Timestamp, limit: u32) -> Written<()> {
    let sql = "DELETE FROM accounts WHERE key IN \
         (SELECT key FROM accounts WHERE span > 0 AND begin_at <= ?1 ORDER BY begin_at LIMIT ?2)";
    let before = micros(now).saturating_sub(WINDOWS_KEPT.as_micros() as i64);
    tx.execute(sql, params![before, limit])?;
    Ok(())
}
