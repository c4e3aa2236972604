//! PostgreSQL as it is run in earnest: it waits for the disk, and keeps the times of commits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::kind::{Kind, Signal, exchange};
use super::place::{Place, program};
use super::{USER, process};

/// PostgreSQL.
pub struct Postgres;

impl Kind for Postgres {
    const NAME: &'static str = "postgres";
    const ORDERLY: Signal = Signal::Int;
    // Its processes are each in a session of their own: only the first one knows them all.
    const AT_ONCE: Signal = Signal::Quit;

    fn prepare(place: &Place) -> io::Result<()> {
        let data = place.path("data");
        let password = place.path("password");
        fs::write(&password, USER)?;
        fs::create_dir(&data)?;
        give_to_its_user(&place.folder)?;
        // Only a crash of the machine could tell that the empty cluster was not synced; the server itself does sync.
        process::run(
            as_its_user(&binary("initdb")?)
                .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username", USER])
                .arg("--pwfile")
                .arg(&password)
                .arg("--pgdata")
                .arg(&data),
        )
    }

    fn launch(place: &Place) -> io::Result<Vec<Child>> {
        let port = format!("port={}", place.port());
        let settings = [
            port.as_str(),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
            "track_commit_timestamp=on",
            "fsync=on",
            "logging_collector=off",
        ];
        let mut command = as_its_user(&binary("postgres")?);
        command.arg("-D").arg(place.path("data"));
        for setting in settings {
            command.args(["-c", setting]);
        }
        Ok(vec![process::spawn(&mut command, place)?])
    }

    fn ready(place: &Place) -> bool {
        answers(place)
    }

    fn url(place: &Place) -> String {
        database_url(place, "postgres")
    }
}

/// Whether whatever listens there speaks PostgreSQL's protocol and asks for a password.
pub(super) fn answers(place: &Place) -> bool {
    // The first message of the protocol; a server that is still starting answers with an error.
    let wanted = format!("user\0{USER}\0database\0postgres\0\0");
    let mut question = Vec::from((wanted.len() as u32 + 8).to_be_bytes());
    question.extend_from_slice(&196_608_u32.to_be_bytes());
    question.extend_from_slice(wanted.as_bytes());
    exchange(place.port(), &question).is_ok_and(|answer| answer[0] == b'R')
}

fn database_url(place: &Place, name: &str) -> String {
    format!("postgres://{USER}:{USER}@127.0.0.1:{}/{name}", place.port())
}

/// Makes an empty database.
pub(super) fn fresh_database(place: &Place) -> String {
    let number = place.next("databases", |_| Ok(())).expect("databases can be counted");
    let name = format!("test_{number}");
    let psql = binary("psql").expect("psql is installed");
    process::run(
        Command::new(psql)
            .args(["--no-psqlrc", "--quiet", "--command", &format!("CREATE DATABASE {name}")])
            .arg(Postgres::url(place)),
    )
    .expect("a database can be made");
    database_url(place, &name)
}

/// Asks a database something with `psql`: a line a row, columns separated by `|`. An error has what the server said.
pub fn query(url: &str, sql: &str) -> io::Result<String> {
    let mut command = Command::new(binary("psql")?);
    command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--command", sql, url]);
    let done = command.output()?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned());
    }
    Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
}

/// Distributions keep the server's programs out of the search path, a folder for each version.
fn binary(name: &str) -> io::Result<PathBuf> {
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let mut folders: Vec<PathBuf> = told
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|text| PathBuf::from(text.trim_end()))
        .into_iter()
        .collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));
    program(name, &folders)
}

/// The server refuses to run as root; its package brings a user for it.
fn other_user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then(|| {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        if users.lines().any(|line| line.starts_with("postgres:")) { "postgres" } else { "nobody" }
    })
}

/// Gives a folder to the user that the server runs as.
pub(super) fn give_to_its_user(folder: &Path) -> io::Result<()> {
    let Some(user) = other_user() else { return Ok(()) };
    process::run(Command::new("chown").args(["-R", user]).arg(folder))
}

/// A command that runs as the user of the server, which is somebody else only for root.
pub(super) fn as_its_user(binary: &Path) -> Command {
    let Some(user) = other_user() else { return Command::new(binary) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).args(["--clear-groups", "--inh-caps=-all", "--"]).arg(binary);
    command.current_dir("/");
    command
}
