//! The rows of budget accounts: how they stand, and the statements that change them.

use domain::{Amount, BudgetAccount, BudgetLevel, BudgetWindow, Dimension, Namespace, TaskId, Terms, Timestamp, Usd};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use state::AccountView;

use crate::fault::Written;
use state::codec::{corrupt, micros, timestamp};

/// The most that a column counts: two of them, and a change, still fit into an integer.
const MOST: u64 = 1 << 61;

const FIND: &str = "SELECT wanted.place, spent_usd, spent_tokens, spent_model_calls, spent_tool_calls, \
     reserved_usd, reserved_tokens, reserved_model_calls, reserved_tool_calls, warned \
     FROM unnest($2::bigint[], $3::bigint[], $4::text[]) WITH ORDINALITY AS wanted (span, begin_at, name, place) \
     JOIN accounts ON accounts.namespace = $1 AND accounts.span = wanted.span \
     AND accounts.begin_at = wanted.begin_at AND accounts.name = wanted.name";
const LIST: &str = "SELECT name, span, begin_at, spent_usd, spent_tokens, spent_model_calls, spent_tool_calls, \
     reserved_usd, reserved_tokens, reserved_model_calls, reserved_tool_calls FROM accounts \
     WHERE namespace = $1 AND (span = 1 AND begin_at = $2 OR span = 2 AND begin_at = $3) ORDER BY name, span";
/// Adds to accounts, which are made when they are not there.
const ADD: &str = "INSERT INTO accounts (namespace, span, begin_at, name, spent_usd, spent_tokens, spent_model_calls, \
     spent_tool_calls, reserved_usd, reserved_tokens, reserved_model_calls, reserved_tool_calls, warned) \
     SELECT $1, span, begin_at, name, $6, $7, $8, $9, $10, $11, $12, $13, warned \
     FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[]) AS added (span, begin_at, name, warned) \
     ON CONFLICT (namespace, span, begin_at, name) DO UPDATE SET \
     spent_usd = least(accounts.spent_usd + excluded.spent_usd, 1::bigint << 61), \
     spent_tokens = least(accounts.spent_tokens + excluded.spent_tokens, 1::bigint << 61), \
     spent_model_calls = least(accounts.spent_model_calls + excluded.spent_model_calls, 1::bigint << 61), \
     spent_tool_calls = least(accounts.spent_tool_calls + excluded.spent_tool_calls, 1::bigint << 61), \
     reserved_usd = least(accounts.reserved_usd + excluded.reserved_usd, 1::bigint << 61), \
     reserved_tokens = least(accounts.reserved_tokens + excluded.reserved_tokens, 1::bigint << 61), \
     reserved_model_calls = least(accounts.reserved_model_calls + excluded.reserved_model_calls, 1::bigint << 61), \
     reserved_tool_calls = least(accounts.reserved_tool_calls + excluded.reserved_tool_calls, 1::bigint << 61), \
     warned = accounts.warned | excluded.warned RETURNING key";
/// Counts a reservation as spent, and frees the rest of it.
const SETTLE: &str = "UPDATE accounts SET spent_usd = least(spent_usd + $2, 1::bigint << 61), \
     spent_tokens = least(spent_tokens + $3, 1::bigint << 61), \
     spent_model_calls = least(spent_model_calls + $4, 1::bigint << 61), \
     spent_tool_calls = least(spent_tool_calls + $5, 1::bigint << 61), \
     reserved_usd = greatest(reserved_usd - $6, 0), reserved_tokens = greatest(reserved_tokens - $7, 0), \
     reserved_model_calls = greatest(reserved_model_calls - $8, 0), \
     reserved_tool_calls = greatest(reserved_tool_calls - $9, 0) WHERE key = ANY($1)";

/// The accounts that a task's calls are paid from.
#[derive(Debug)]
pub(crate) struct Payer {
    pub(crate) namespace: Namespace,
    pub(crate) accounts: Vec<BudgetAccount>,
}

impl Payer {
    /// The payer of a task; none without accounts.
    pub(crate) fn of(namespace: Namespace, accounts: Vec<BudgetAccount>) -> Option<Self> {
        (!accounts.is_empty()).then_some(Self { namespace, accounts })
    }
}

/// How an account stands in one window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    pub(crate) spent: Amount,
    pub(crate) reserved: Amount,
    /// One bit for each dimension whose warning was given.
    pub(crate) warned: i64,
}

impl Standing {
    /// How it stands in one dimension.
    pub(crate) fn level(&self, account: &BudgetAccount, what: Dimension, limit: u64, asked: u64) -> BudgetLevel {
        let (spent, reserved) = (self.spent.of(what), self.reserved.of(what));
        BudgetLevel { account: account.clone(), what, limit, spent, reserved, asked }
    }
}

/// What names accounts in their windows, by column.
#[derive(Debug, Default)]
struct Named {
    spans: Vec<i64>,
    begins: Vec<i64>,
    names: Vec<String>,
}

impl Named {
    fn push(&mut self, account: &BudgetAccount, at: Timestamp) {
        self.spans.push(span(account.window));
        self.begins.push(micros(account.window.begin(at)));
        self.names.push(account.key.clone());
    }
}

/// How accounts stand in the windows that a moment lies in, in their order.
pub(crate) async fn standings(
    conn: &mut PgConnection,
    namespace: &Namespace,
    accounts: &[BudgetAccount],
    at: Timestamp,
) -> Written<Vec<Standing>> {
    let mut standings = vec![Standing::default(); accounts.len()];
    let mut named = Named::default();
    for account in accounts {
        named.push(account, at);
    }
    let query = sqlx::query(FIND).bind(namespace.as_str()).bind(named.spans).bind(named.begins).bind(named.names);
    for row in query.fetch_all(conn).await? {
        let place: i64 = row.try_get(0)?;
        let standing = Standing { spent: amount(&row, 1)?, reserved: amount(&row, 5)?, warned: row.try_get(9)? };
        let found = usize::try_from(place - 1).ok().and_then(|place| standings.get_mut(place));
        *found.ok_or_else(|| corrupt("an account's place", place))? = standing;
    }
    Ok(standings)
}

/// Adds what is spent and reserved to accounts in the windows that a moment lies in, and bits to the warnings given for each.
/// Returns their rows. An account that is named twice counts once.
pub(crate) async fn add(
    conn: &mut PgConnection,
    payer: &Payer,
    at: Timestamp,
    warned: &[i64],
    (spent, reserved): (Amount, Amount),
) -> Written<Vec<i64>> {
    let mut named = Named::default();
    let mut bits: Vec<i64> = Vec::with_capacity(warned.len());
    let same = |one: &BudgetAccount, other: &BudgetAccount| one.key == other.key && one.window == other.window;
    for (index, (account, warned)) in payer.accounts.iter().zip(warned).enumerate() {
        if payer.accounts[..index].iter().any(|before| same(before, account)) {
            continue;
        }
        named.push(account, at);
        bits.push(*warned);
    }
    let mut query = sqlx::query_scalar(ADD)
        .bind(payer.namespace.as_str())
        .bind(named.spans)
        .bind(named.begins)
        .bind(named.names)
        .bind(bits);
    for column in columns(spent).into_iter().chain(columns(reserved)) {
        query = query.bind(column);
    }
    Ok(query.fetch_all(conn).await?)
}

/// Counts what was spent of a reservation in the rows that it was made in. One that is gone was purged: its window lies so
/// far back that nobody asks about it.
pub(crate) async fn settle(conn: &mut PgConnection, rows: &[i64], spent: Amount, freed: Amount) -> Written<()> {
    let mut query = sqlx::query(SETTLE).bind(rows);
    for column in columns(spent).into_iter().chain(columns(freed)) {
        query = query.bind(column);
    }
    query.execute(conn).await?;
    Ok(())
}

/// An amount as columns.
pub(crate) fn columns(amount: Amount) -> [i64; 4] {
    Dimension::ALL.map(|what| amount.of(what).min(MOST) as i64)
}

/// Four columns, the first at `at`, as an amount.
pub(crate) fn amount(row: &PgRow, at: usize) -> Written<Amount> {
    let count = |at: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)?.max(0) as u64);
    Ok(Amount { usd: Usd(count(at)?), tokens: count(at + 1)?, model_calls: count(at + 2)?, tool_calls: count(at + 3)? })
}

fn span(window: BudgetWindow) -> i64 {
    match window {
        BudgetWindow::Task => 0,
        BudgetWindow::Hour => 1,
        BudgetWindow::Day => 2,
    }
}

/// Lists how a task's accounts stand.
pub(crate) async fn levels(
    conn: &mut PgConnection,
    namespace: &Namespace,
    task: TaskId,
    now: Timestamp,
) -> Written<Vec<BudgetLevel>> {
    let sql = "SELECT terms FROM tasks WHERE id = $1 AND namespace = $2 AND terms IS NOT NULL";
    let query = sqlx::query_scalar(sql).bind(task.0).bind(namespace.as_str());
    let terms: Option<String> = query.fetch_optional(&mut *conn).await?;
    let Some(terms) = terms else { return Ok(Vec::new()) };
    let terms: Terms = serde_json::from_str(&terms).map_err(|error| corrupt("terms", error))?;
    let standings = standings(conn, namespace, &terms.accounts, now).await?;
    let mut levels = Vec::new();
    for (account, standing) in terms.accounts.iter().zip(standings) {
        let limited = Dimension::ALL.into_iter().filter_map(|what| Some((what, account.limit.of(what)?)));
        levels.extend(limited.map(|(what, limit)| standing.level(account, what, limit, 0)));
    }
    Ok(levels)
}

/// Lists the accounts of a namespace that count for an hour or a day, in the windows that a moment lies in.
pub(crate) async fn list(conn: &mut PgConnection, namespace: &Namespace, now: Timestamp) -> Written<Vec<AccountView>> {
    let begins = [BudgetWindow::Hour, BudgetWindow::Day].map(|window| micros(window.begin(now)));
    let query = sqlx::query(LIST).bind(namespace.as_str()).bind(begins[0]).bind(begins[1]);
    let view = |row: &PgRow| {
        let window =
            if row.try_get::<i64, _>(1)? == span(BudgetWindow::Hour) { BudgetWindow::Hour } else { BudgetWindow::Day };
        let since = timestamp(row.try_get(2)?)?;
        Ok(AccountView { key: row.try_get(0)?, window, since, spent: amount(row, 3)?, reserved: amount(row, 7)? })
    };
    query.fetch_all(conn).await?.iter().map(view).collect()
}
