//! Brings the schema up to date, and back.
//!
//! A migration has the number and the name of SQLite's one. It runs in one transaction, together with its row in
//! `schema_migrations`; a lock of that transaction makes processes that start together take turns, also behind PgBouncer.
//! `migrations/postgres/README.md` says how a migration must be made, so that the versions before and after it run together.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, Row as _};
use state::StateError;

use crate::fault::Written;
use crate::options::PostgresOptions;

/// One step of the schema.
struct Migration {
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

macro_rules! migration {
    ($name:literal) => {
        Migration {
            name: $name,
            up: include_str!(concat!("../../../migrations/postgres/", $name, ".up.sql")),
            down: include_str!(concat!("../../../migrations/postgres/", $name, ".down.sql")),
        }
    };
}

/// In order; a migration's number is its position, from 1.
const MIGRATIONS: &[Migration] = &[migration!("0001_record"), migration!("0002_budgets"), migration!("0003_gates")];

/// Any number that nobody else uses for a lock in this database.
const LOCK: i64 = 0x6167_656e_7472_756e;

/// How far the schema of a database has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// All migrations that this version knows, in order.
    pub migrations: Vec<MigrationStatus>,
    /// Numbers of applied migrations that this version does not know: a newer one has made them.
    pub unknown: Vec<i64>,
    /// The names of those that this call applied or took back, in the order in which it did.
    pub changed: Vec<String>,
}

/// How far one migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// When it was applied, as the server's clock says in RFC 3339; none when it was not.
    pub applied_at: Option<String>,
    /// False when it was applied with another text than this version has.
    pub same: bool,
}

impl Report {
    /// Tells whether all that this version knows is applied.
    pub fn is_current(&self) -> bool {
        self.migrations.iter().all(|migration| migration.applied_at.is_some())
    }
}

/// Reports how far the schema is; changes nothing.
pub async fn status(options: &PostgresOptions) -> Result<Report, StateError> {
    let mut conn = connect(options).await?;
    let report = look(&mut conn, Vec::new()).await.map_err(crate::fault::Fault::into_error);
    // The server forgets the connection either way.
    let _ = conn.close().await;
    report
}

/// Applies all migrations that are not applied yet, each in a transaction of its own.
pub async fn up(options: &PostgresOptions) -> Result<Report, StateError> {
    let mut conn = connect(options).await?;
    let done = apply_all(&mut conn).await.map_err(crate::fault::Fault::into_error);
    let _ = conn.close().await;
    done
}

/// Takes back the last `steps` migrations, with everything that is stored in what they made.
pub async fn down(options: &PostgresOptions, steps: usize) -> Result<Report, StateError> {
    let mut conn = connect(options).await?;
    let done = take_back(&mut conn, steps).await.map_err(crate::fault::Fault::into_error);
    let _ = conn.close().await;
    done
}

/// Brings the schema up to date when the store is opened.
pub(crate) async fn bring_up(conn: &mut PgConnection) -> Written<()> {
    apply_all(conn).await.map(drop)
}

/// Refuses a schema that somebody else has to bring up to date first.
pub(crate) async fn must_be_current(conn: &mut PgConnection) -> Written<()> {
    let report = look(conn, Vec::new()).await?;
    if report.is_current() {
        return Ok(());
    }
    let missing: Vec<_> =
        report.migrations.iter().filter(|one| one.applied_at.is_none()).map(|one| one.name.as_str()).collect();
    Err(StateError::Unavailable(format!("the schema lacks {}; apply the migrations first", missing.join(", "))).into())
}

async fn connect(options: &PostgresOptions) -> Result<PgConnection, StateError> {
    PgConnection::connect_with(&crate::pool::connect_options(options))
        .await
        .map_err(|error| StateError::Unavailable(format!("PostgreSQL at {}: {error}", options.place())))
}

async fn apply_all(conn: &mut PgConnection) -> Written<Report> {
    let mut changed = Vec::new();
    for (number, migration) in (1_i64..).zip(MIGRATIONS) {
        if is_applied(&look(conn, Vec::new()).await?, number) {
            continue;
        }
        lock(conn).await?;
        // Another process may have done it while the lock was waited for.
        if is_applied(&report(conn, Vec::new()).await?, number) {
            conn.execute("ROLLBACK").await?;
            continue;
        }
        let applied = apply(conn, number, migration).await;
        finish(conn, applied).await?;
        tracing::info!(schema = number, name = migration.name, "database migrated");
        changed.push(migration.name.to_owned());
    }
    look(conn, changed).await
}

async fn take_back(conn: &mut PgConnection, steps: usize) -> Written<Report> {
    let mut changed = Vec::new();
    for _ in 0..steps {
        lock(conn).await?;
        let before = report(conn, Vec::new()).await?;
        if let Some(unknown) = before.unknown.last() {
            conn.execute("ROLLBACK").await?;
            let why = format!("migration {unknown} was made by a newer version, which must take it back");
            return Err(StateError::Unavailable(why).into());
        }
        let last = before.migrations.iter().rev().find(|one| one.applied_at.is_some());
        let Some((number, migration)) = last.and_then(|last| Some((last.number, find(last.number)?))) else {
            conn.execute("ROLLBACK").await?;
            break;
        };
        let taken = revert(conn, number, migration).await;
        finish(conn, taken).await?;
        tracing::info!(schema = number, name = migration.name, "migration taken back");
        changed.push(migration.name.to_owned());
    }
    look(conn, changed).await
}

/// A statement without a name: a pooler that mixes up names of clients has none of this one to mix up.
pub(crate) fn once(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// Opens a transaction that no other migration runs beside.
async fn lock(conn: &mut PgConnection) -> Written<()> {
    conn.execute("BEGIN; SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = 0").await?;
    once("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *conn).await?;
    let sql = "CREATE TABLE IF NOT EXISTS schema_migrations ( \
         number bigint NOT NULL PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, \
         applied_at timestamptz NOT NULL DEFAULT now())";
    conn.execute(sql).await?;
    Ok(())
}

async fn apply(conn: &mut PgConnection, number: i64, migration: &Migration) -> Written<()> {
    conn.execute(migration.up).await?;
    let sql = "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, md5($3))";
    once(sql).bind(number).bind(migration.name).bind(migration.up).execute(conn).await?;
    Ok(())
}

async fn revert(conn: &mut PgConnection, number: i64, migration: &Migration) -> Written<()> {
    conn.execute(AssertSqlSafe(migration.down)).await?;
    once("DELETE FROM schema_migrations WHERE number = $1").bind(number).execute(conn).await?;
    Ok(())
}

async fn finish(conn: &mut PgConnection, done: Written<()>) -> Written<()> {
    conn.execute(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    done
}

fn is_applied(report: &Report, number: i64) -> bool {
    report.migrations.iter().any(|one| one.number == number && one.applied_at.is_some())
}

fn find(number: i64) -> Option<&'static Migration> {
    usize::try_from(number - 1).ok().and_then(|index| MIGRATIONS.get(index))
}

/// Reports in a transaction of its own: behind a pooler, two statements outside of one may meet two servers.
async fn look(conn: &mut PgConnection, changed: Vec<String>) -> Written<Report> {
    conn.execute("BEGIN READ ONLY").await?;
    let report = report(conn, changed).await;
    conn.execute("COMMIT").await?;
    report
}

async fn report(conn: &mut PgConnection, changed: Vec<String>) -> Written<Report> {
    let mut migrations: Vec<_> = (1_i64..)
        .zip(MIGRATIONS)
        .map(|(number, migration)| MigrationStatus {
            number,
            name: migration.name.to_owned(),
            applied_at: None,
            same: true,
        })
        .collect();
    let mut unknown = Vec::new();
    let there: bool =
        once("SELECT to_regclass('schema_migrations') IS NOT NULL").fetch_one(&mut *conn).await?.try_get(0)?;
    if there {
        let texts: Vec<&str> = MIGRATIONS.iter().map(|migration| migration.up).collect();
        let sql = "SELECT number, to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
             coalesce(checksum = md5(($1::text[])[number::int]), false) FROM schema_migrations ORDER BY number";
        for row in once(sql).bind(texts).fetch_all(conn).await? {
            let number: i64 = row.try_get(0)?;
            match usize::try_from(number - 1).ok().and_then(|index| migrations.get_mut(index)) {
                Some(status) => {
                    status.applied_at = Some(row.try_get(1)?);
                    status.same = row.try_get(2)?;
                }
                None => unknown.push(number),
            }
        }
    }
    Ok(Report { migrations, unknown, changed })
}
