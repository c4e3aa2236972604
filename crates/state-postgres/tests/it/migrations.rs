//! The schema comes up, goes down, and is the same as SQLite's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use state::State;
use state_postgres::{PostgresState, migrate};

use crate::support::{clock, database, open, options, submit, until};

#[tokio::test]
async fn the_schema_goes_up_and_down_and_up_again() {
    let options = options(&database().await);
    let fresh = migrate::status(&options).await.expect("reported");
    assert!(!fresh.is_current() && fresh.unknown.is_empty());
    let up = migrate::up(&options).await.expect("applied");
    assert_eq!(up.changed, ["0001_record", "0002_budgets", "0003_gates"]);
    assert!(up.is_current() && up.migrations.iter().all(|migration| migration.same));
    assert!(migrate::up(&options).await.expect("applied").changed.is_empty());
    let down = migrate::down(&options, 2).await.expect("taken back");
    assert_eq!(down.changed, ["0003_gates", "0002_budgets"]);
    assert!(!down.is_current());
    assert_eq!(migrate::down(&options, 9).await.expect("taken back").changed, ["0001_record"]);
    assert_eq!(migrate::up(&options).await.expect("applied").changed.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_migrate_once() {
    let url = database().await;
    let stores: Vec<_> = (0..6).map(|_| open(&url)).collect();
    for store in &stores {
        until(|| store.ping()).await;
        submit(store).await;
    }
    assert!(migrate::status(&options(&url)).await.expect("reported").is_current());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_must_not_migrate_waits_for_whoever_does() {
    let mut options = options(&database().await);
    options.migrate = false;
    let store = PostgresState::open(options.clone(), clock());
    let refused = store.stats(None).await.expect_err("there is no schema").to_string();
    assert!(refused.contains("0001_record"), "{refused}");
    migrate::up(&options).await.expect("applied");
    until(|| store.ping()).await;
    submit(&store).await;
}

/// What one of the two has and the other has not, with the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("steps", "key", "a heap keeps the order of arrival anyway: PostgreSQL reaches steps by their place alone"),
    ("tasks", "beat", "several processes renew leases, so renewals are in the record; SQLite's are in memory"),
    ("books", "*", "several processes decide about limits and take turns by this row; SQLite has one writer"),
    ("gate_log", "*", "several processes keep replicas of the gates and follow this log; SQLite has one writer"),
];

#[test]
fn both_databases_have_the_same_migrations_tables_and_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let (sqlite, postgres) = (texts(&root.join("sqlite"), ".sql"), texts(&root.join("postgres"), ".up.sql"));
    assert_eq!(sqlite.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>());
    assert_eq!(
        sqlite.keys().collect::<Vec<_>>(),
        texts(&root.join("postgres"), ".down.sql").keys().collect::<Vec<_>>()
    );
    let (sqlite, postgres) = (columns(&sqlite), columns(&postgres));
    let excepted = |(table, column): &&(String, String)| {
        EXCEPTIONS.iter().any(|(of, which, _)| table == of && (column == which || *which == "*"))
    };
    let differences: Vec<_> = sqlite.symmetric_difference(&postgres).filter(|one| !excepted(one)).collect();
    assert!(differences.is_empty(), "{differences:?}");
    assert!(sqlite.len() > 90, "the files were read");
}

/// Statements that are none of the ways to expand, with the reason why no process of the version before can be there.
const CONTRACTED: &[(&str, &str)] = &[];

#[test]
fn every_step_after_the_first_only_expands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/postgres");
    for (name, text) in texts(&root, ".up.sql").into_iter().skip(1) {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        let text = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        for statement in text.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let excepted = CONTRACTED.iter().any(|(contracted, _)| statement == *contracted);
            assert!(excepted || expands(statement, &text), "{name}: the version before would break on {statement}");
        }
    }
}

/// Whether the version before works on with this statement of a step.
fn expands(statement: &str, step: &str) -> bool {
    let words: Vec<&str> = statement.split(' ').collect();
    match words.as_slice() {
        ["CREATE", "TABLE", ..] => true,
        ["CREATE", "INDEX", ..] | ["CREATE", "UNIQUE", "INDEX", ..] => {
            // A new rule for old rows is one that the version before could break.
            words[1] == "INDEX" || words.iter().any(|word| is_new(word, step))
        }
        ["ALTER", "TABLE", _, "ADD", "COLUMN", _, kind @ ..] => {
            let unlike = |word: &&str| ["CHECK", "REFERENCES", "UNIQUE", "PRIMARY"].contains(word);
            !kind.iter().any(unlike) && (kind.contains(&"DEFAULT") || !kind.contains(&"NOT"))
        }
        ["ALTER", "TABLE", table, ..] => is_new(table, step),
        _ => false,
    }
}

/// Whether a step makes this table itself.
fn is_new(table: &str, step: &str) -> bool {
    step.contains(&format!("CREATE TABLE {table} ("))
}

#[test]
fn what_breaks_the_version_before_is_found() {
    for statement in [
        "DROP TABLE tasks",
        "ALTER TABLE tasks DROP COLUMN trace",
        "ALTER TABLE tasks RENAME COLUMN trace TO span",
        "ALTER TABLE tasks ADD COLUMN a text NOT NULL",
        "ALTER TABLE tasks ADD COLUMN a text REFERENCES accounts",
        "ALTER TABLE tasks ALTER COLUMN trace TYPE bytea",
        "ALTER TABLE tasks ADD CONSTRAINT a CHECK (depth < 9)",
        "CREATE UNIQUE INDEX a ON tasks (trace)",
        "UPDATE tasks SET trace = NULL",
    ] {
        assert!(!expands(statement, "CREATE TABLE others ( key bigint )"), "{statement}");
    }
}

fn texts(folder: &Path, ending: &str) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("readable").path());
    let named = files.filter_map(|path| {
        let name = path.file_name()?.to_str()?.strip_suffix(ending)?.to_owned();
        Some((name, std::fs::read_to_string(&path).expect("text")))
    });
    named.collect()
}

/// Every table with every column that the statements make.
fn columns(texts: &BTreeMap<String, String>) -> BTreeSet<(String, String)> {
    let mut columns = BTreeSet::new();
    let mut table: Option<String> = None;
    for line in texts.values().flat_map(|text| text.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["CREATE", "TABLE", name, "("] => table = Some((*name).to_owned()),
            ["ALTER", "TABLE", name, "ADD", "COLUMN", column, ..] => {
                columns.insert(((*name).to_owned(), (*column).to_owned()));
            }
            [end, ..] if end.starts_with(')') => table = None,
            [column, ..] if column.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') => {
                if let Some(table) = &table {
                    columns.insert((table.clone(), (*column).to_owned()));
                }
            }
            _ => {}
        }
    }
    columns
}
