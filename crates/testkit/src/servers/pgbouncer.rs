//! PgBouncer in transaction mode in front of the PostgreSQL of this test run, set up as the platform's own one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::kind::{Kind, Signal};
use super::place::{Place, program};
use super::{Postgres, USER, blocking, own, postgres, process, shared};

/// PgBouncer.
pub struct PgBouncer;

/// What the platform runs it with.
const SETTINGS: &str = include_str!("../../../../infra/pgbouncer/pgbouncer.ini");

/// What is another here: addresses, files, who may give orders, and fewer connections than the clients want, which are used in
/// turn, so that a transaction rarely finds the one that its client had before.
const OTHERWISE: &str = "\
listen_addr = 127.0.0.1
default_pool_size = 3
reserve_pool_size = 0
server_round_robin = 1
log_connections = 0
log_disconnections = 0
";

/// The first version that follows prepared statements from one connection to another.
const FOLLOWS_STATEMENTS: (u32, u32) = (1, 21);

impl Kind for PgBouncer {
    const NAME: &'static str = "pgbouncer";
    // What is under way is done, and nobody is waited for who only might want something: SIGTERM waits for clients to leave.
    const ORDERLY: Signal = Signal::Int;

    fn prepare(place: &Place) -> io::Result<()> {
        let server = shared::find::<Postgres>()?;
        let users = place.path("users");
        // As the platform does it: the server's verifier, and no password.
        let sql = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{USER}'");
        fs::write(&users, format!("\"{USER}\" \"{}\"\n", postgres::query(&Postgres::url(&server), &sql)?))?;
        let text = settings(place.port(), server.port(), &users, follows_statements()?);
        fs::write(place.path("pgbouncer.ini"), text)?;
        postgres::give_to_its_user(&place.folder)
    }

    fn launch(place: &Place) -> io::Result<Vec<Child>> {
        let mut command = postgres::as_its_user(&binary()?);
        command.arg(place.path("pgbouncer.ini"));
        Ok(vec![process::spawn(&mut command, place)?])
    }

    fn ready(place: &Place) -> bool {
        postgres::answers(place)
    }

    fn url(place: &Place) -> String {
        Postgres::url(place)
    }
}

impl own::PgBouncer {
    /// The way through it to a database of the shared PostgreSQL, whose own address this is.
    pub fn way_to(&self, database: &str) -> String {
        let name = database.rsplit('/').next().unwrap_or_default();
        self.url().rsplit_once('/').map(|(server, _)| format!("{server}/{name}")).unwrap_or_default()
    }

    /// Whether it follows prepared statements from one connection to another, as version 1.21 and later do. Behind another one
    /// clients must not prepare any.
    pub async fn follows_statements(&self) -> bool {
        blocking(|| follows_statements().expect("it tells its version")).await
    }

    /// Gives it an order of its administrators, such as `RECONNECT`, and fails the test if it refuses.
    pub async fn order(&self, order: &str) {
        let (url, order) = (self.way_to("/pgbouncer"), order.to_owned());
        blocking(move || postgres::query(&url, &order)).await.expect("it obeys");
    }
}

/// The platform's settings with addresses and files of tests; a later line overrides an earlier one.
fn settings(port: u16, server: u16, users: &Path, follows_statements: bool) -> String {
    let lines = SETTINGS.lines().filter(|line| {
        // All databases of the test run are reached, and an old version refuses to start with what it does not know.
        !line.starts_with("agentrunner =") && (follows_statements || !line.starts_with("max_prepared_statements"))
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let databases = format!("[databases]\n* = host=127.0.0.1 port={server}\n");
    let users = users.display();
    text.replace("[databases]\n", &databases)
        + &format!("{OTHERWISE}listen_port = {port}\nauth_file = {users}\nadmin_users = {USER}\n")
}

/// Whether the installed version follows prepared statements; with another one clients must not prepare any.
fn follows_statements() -> io::Result<bool> {
    let said = Command::new(binary()?).arg("--version").output()?.stdout;
    let said = String::from_utf8_lossy(&said);
    let mut numbers = said.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok((major, minor) >= FOLLOWS_STATEMENTS),
        _ => Err(io::Error::other(format!("PgBouncer does not tell its version: {said}"))),
    }
}

/// Its package puts it where only administrators look.
fn binary() -> io::Result<PathBuf> {
    program("pgbouncer", &[]).or_else(|_| program("pgbouncer", &[PathBuf::from("/usr/sbin")]))
}
