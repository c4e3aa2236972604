//! The rows of budget accounts: how they stand, and the one statement that changes them.

use domain::{Amount, BudgetAccount, BudgetLevel, BudgetWindow, Dimension, Namespace, TaskId, Terms, Timestamp, Usd};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use state::AccountView;

use crate::fault::Written;
use state::codec::{corrupt, micros};

/// The most that a column counts: two of them, and a change, still fit into an integer.
const MOST: u64 = 1 << 61;

macro_rules! counts {
    () => {
        "spent_usd, spent_tokens, spent_model_calls, spent_tool_calls, \
         reserved_usd, reserved_tokens, reserved_model_calls, reserved_tool_calls"
    };
}

const FIND: &str = concat!(
    "SELECT ",
    counts!(),
    ", key, warned FROM accounts WHERE namespace = ?1 AND span = ?2 AND begin_at = ?3 AND name = ?4"
);
const LIST: &str = concat!(
    "SELECT ",
    counts!(),
    ", name FROM accounts WHERE namespace = ?1 AND span = ?2 AND begin_at = ?3 ORDER BY name"
);
const INSERT: &str = concat!(
    "INSERT INTO accounts (namespace, span, begin_at, name, ",
    counts!(),
    ", warned) VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0, 0, 0, 0, 0, 0) \
     ON CONFLICT (namespace, span, begin_at, name) DO UPDATE SET warned = warned RETURNING key"
);
const CHANGE: &str = "UPDATE accounts SET spent_usd = min(spent_usd + ?2, 1 << 61), \
     spent_tokens = min(spent_tokens + ?3, 1 << 61), \
     spent_model_calls = min(spent_model_calls + ?4, 1 << 61), \
     spent_tool_calls = min(spent_tool_calls + ?5, 1 << 61), \
     reserved_usd = max(min(reserved_usd + ?6, 1 << 61), 0), \
     reserved_tokens = max(min(reserved_tokens + ?7, 1 << 61), 0), \
     reserved_model_calls = max(min(reserved_model_calls + ?8, 1 << 61), 0), \
     reserved_tool_calls = max(min(reserved_tool_calls + ?9, 1 << 61), 0), \
     warned = warned | ?10 WHERE key = ?1";

/// How an account stands in one window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    /// Its row; none while nothing was ever reserved in it.
    key: Option<i64>,
    pub(crate) spent: Amount,
    pub(crate) reserved: Amount,
    /// One bit for each dimension whose warning was given.
    pub(crate) warned: i64,
}

impl Standing {
    /// Finds how an account stands in the window that a moment lies in.
    pub(crate) fn find(
        conn: &Connection,
        namespace: &Namespace,
        account: &BudgetAccount,
        at: Timestamp,
    ) -> Written<Self> {
        let identity = params![namespace.as_str(), span(account.window), begin(account.window, at), account.key];
        let read = |row: &Row<'_>| {
            let (spent, reserved) = counts(row)?;
            Ok(Self { key: Some(row.get(8)?), spent, reserved, warned: row.get(9)? })
        };
        Ok(conn.prepare_cached(FIND)?.query_row(identity, read).optional()?.unwrap_or_default())
    }

    /// The account's row, which is made when there is none.
    pub(crate) fn row(
        &self,
        conn: &Connection,
        namespace: &Namespace,
        account: &BudgetAccount,
        at: Timestamp,
    ) -> Written<i64> {
        if let Some(key) = self.key {
            return Ok(key);
        }
        let identity = params![namespace.as_str(), span(account.window), begin(account.window, at), account.key];
        Ok(conn.prepare_cached(INSERT)?.query_row(identity, |row| row.get(0))?)
    }

    /// How it stands in one dimension.
    pub(crate) fn level(&self, account: &BudgetAccount, what: Dimension, limit: u64, asked: u64) -> BudgetLevel {
        let (spent, reserved) = (self.spent.of(what), self.reserved.of(what));
        BudgetLevel { account: account.clone(), what, limit, spent, reserved, asked }
    }
}

/// What a write does to an account.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) spent: Amount,
    pub(crate) reserved: Amount,
    /// Taken off what is reserved.
    pub(crate) freed: Amount,
    pub(crate) warned: i64,
}

impl Change {
    /// Changes a row. One that is gone was purged: its window lies so far back that nobody asks about it.
    pub(crate) fn apply(&self, conn: &Connection, key: i64) -> Written<()> {
        let (spent, reserved, freed) = (columns(self.spent), columns(self.reserved), columns(self.freed));
        let change = |index: usize| reserved[index] - freed[index];
        let [usd, tokens, model_calls, tool_calls] = spent;
        let warned = self.warned;
        conn.prepare_cached(CHANGE)?.execute(params![
            key,
            usd,
            tokens,
            model_calls,
            tool_calls,
            change(0),
            change(1),
            change(2),
            change(3),
            warned
        ])?;
        Ok(())
    }
}

/// An amount as columns.
pub(crate) fn columns(amount: Amount) -> [i64; 4] {
    Dimension::ALL.map(|what| amount.of(what).min(MOST) as i64)
}

/// Four columns, the first at `at`, as an amount.
pub(crate) fn amount(row: &Row<'_>, at: usize) -> rusqlite::Result<Amount> {
    let count = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.max(0) as u64);
    Ok(Amount { usd: Usd(count(at)?), tokens: count(at + 1)?, model_calls: count(at + 2)?, tool_calls: count(at + 3)? })
}

fn counts(row: &Row<'_>) -> rusqlite::Result<(Amount, Amount)> {
    Ok((amount(row, 0)?, amount(row, 4)?))
}

fn span(window: BudgetWindow) -> i64 {
    match window {
        BudgetWindow::Task => 0,
        BudgetWindow::Hour => 1,
        BudgetWindow::Day => 2,
    }
}

fn begin(window: BudgetWindow, at: Timestamp) -> i64 {
    micros(window.begin(at))
}

/// Lists how a task's accounts stand.
pub(crate) fn levels(
    conn: &Connection,
    namespace: &Namespace,
    task: TaskId,
    now: Timestamp,
) -> Written<Vec<BudgetLevel>> {
    let sql = "SELECT terms FROM tasks WHERE id = ?1 AND namespace = ?2 AND terms IS NOT NULL";
    let id = params![task.0.as_bytes(), namespace.as_str()];
    let terms: Option<String> = conn.prepare_cached(sql)?.query_row(id, |row| row.get(0)).optional()?;
    let Some(terms) = terms else { return Ok(Vec::new()) };
    let terms: Terms = serde_json::from_str(&terms).map_err(|error| corrupt("terms", error))?;
    let mut levels = Vec::new();
    for account in &terms.accounts {
        let standing = Standing::find(conn, namespace, account, now)?;
        let limited = Dimension::ALL.into_iter().filter_map(|what| Some((what, account.limit.of(what)?)));
        levels.extend(limited.map(|(what, limit)| standing.level(account, what, limit, 0)));
    }
    Ok(levels)
}

/// Lists the accounts of a namespace that count for an hour or a day, in the windows that a moment lies in.
pub(crate) fn list(conn: &Connection, namespace: &Namespace, now: Timestamp) -> Written<Vec<AccountView>> {
    let mut all = Vec::new();
    for window in [BudgetWindow::Hour, BudgetWindow::Day] {
        let since = window.begin(now);
        let read = |row: &Row<'_>| {
            let (spent, reserved) = counts(row)?;
            Ok(AccountView { key: row.get(8)?, window, since, spent, reserved })
        };
        let mut statement = conn.prepare_cached(LIST)?;
        let found = statement.query_map(params![namespace.as_str(), span(window), micros(since)], read)?;
        all.extend(found.collect::<Result<Vec<_>, _>>()?);
    }
    // Stable: an hour's account comes before the day's of the same key.
    all.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(all)
}
