//! RabbitMQ, small: one scheduler, no plugins, and virtual hosts made beforehand because making one takes a second.

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::kind::{Kind, exchange};
use super::place::{Place, program};
use super::{USER, process};

/// RabbitMQ.
pub struct RabbitMq;

/// Virtual hosts at the start, and as many again whenever they are used up.
const VHOSTS: u32 = 48;

impl Kind for RabbitMq {
    const NAME: &'static str = "rabbitmq";

    fn prepare(place: &Place) -> io::Result<()> {
        let names: Vec<String> = (1..=VHOSTS).map(|number| format!("v{number}")).collect();
        let definitions = json!({
            "users": [{"name": USER, "password": USER, "tags": "administrator"}],
            "vhosts": names.iter().map(|name| json!({"name": name})).collect::<Vec<Value>>(),
            "permissions": names
                .iter()
                .map(|name| json!({"user": USER, "vhost": name, "configure": ".*", "write": ".*", "read": ".*"}))
                .collect::<Vec<Value>>(),
        });
        fs::write(place.path("definitions.json"), definitions.to_string())?;
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nload_definitions = {}\nlog.file = {}\n\
             vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 50MB\n\
             raft.wal_max_size_bytes = 33554432\n",
            place.port(),
            place.path("definitions.json").display(),
            place.path("log").display(),
        );
        fs::write(place.path("rabbitmq.conf"), settings)?;
        fs::write(place.path("plugins"), "[].\n")?;
        fs::write(place.path("environment"), "")?;
        let cookie = place.path(".erlang.cookie");
        fs::write(&cookie, USER)?;
        fs::set_permissions(&cookie, Permissions::from_mode(0o400))
    }

    fn launch(place: &Place) -> io::Result<Vec<Child>> {
        // Its own daemon of names: one that the server starts itself would outlive it, and others would use it.
        let names = place.ports[2];
        let mut command = Command::new(program("epmd", &folders())?);
        command.args(["-port", &names.to_string(), "-address", "127.0.0.1"]);
        let mut children = vec![process::spawn(&mut command, place)?];
        let mut tries = 0;
        while TcpStream::connect(("127.0.0.1", names)).is_err() && tries < 2000 {
            tries += 1;
            sleep(Duration::from_millis(10));
        }
        let started = with_environment(Command::new(program("rabbitmq-server", &folders())?), place);
        match started.and_then(|mut command| process::spawn(&mut command, place)) {
            Ok(child) => {
                children.push(child);
                Ok(children)
            }
            Err(error) => {
                process::end(&mut children, Self::AT_ONCE)?;
                Err(error)
            }
        }
    }

    fn ready(place: &Place) -> bool {
        // It listens when all else is up, and answers the greeting with the first frame of a connection.
        exchange(place.port(), b"AMQP\0\0\x09\x01").is_ok_and(|answer| answer[0] == 1)
    }

    fn url(place: &Place) -> String {
        vhost_url(place, "v1")
    }
}

fn vhost_url(place: &Place, vhost: &str) -> String {
    format!("amqp://{USER}:{USER}@127.0.0.1:{}/{vhost}", place.port())
}

/// The scripts in the search path change to another user, who may not see the temporary folder.
fn folders() -> Vec<PathBuf> {
    vec![PathBuf::from("/usr/lib/rabbitmq/bin")]
}

#[expect(clippy::unnecessary_wraps, reason = "the caller chains it with a start that can fail")]
fn with_environment(mut command: Command, place: &Place) -> io::Result<Command> {
    let [_, distribution, names] = place.ports;
    let paths: [(&str, &str); 8] = [
        ("HOME", ""),
        ("RABBITMQ_MNESIA_BASE", "data"),
        ("RABBITMQ_LOG_BASE", ""),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_CONF_ENV_FILE", "environment"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
        ("RABBITMQ_SCHEMA_DIR", "schema"),
    ];
    for (name, path) in paths {
        command.env(name, place.path(path));
    }
    command
        .env("RABBITMQ_NODENAME", node(place))
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_PORT", names.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none +A 4")
        .current_dir(Path::new("/"));
    Ok(command)
}

fn node(place: &Place) -> String {
    format!("testkit-{}@localhost", place.port())
}

/// Runs `rabbitmqctl`.
pub(super) fn control(place: &Place, arguments: &[String]) -> io::Result<()> {
    let mut command = with_environment(Command::new(program("rabbitmqctl", &folders())?), place)?;
    process::run(command.args(["--quiet", "--node", &node(place)]).args(arguments))
}

/// Hands out each virtual host once, over all processes that use the server.
pub(super) fn fresh_vhost(place: &Place) -> String {
    let number = place.next("vhosts", |number| more(place, number)).expect("a virtual host can be made");
    vhost_url(place, &format!("v{number}"))
}

/// Makes some from this number on, if it is the first of those that are missing.
fn more(place: &Place, number: u32) -> io::Result<()> {
    // The first ones come with the server.
    if number <= VHOSTS || number % VHOSTS != 1 {
        return Ok(());
    }
    let program = format!(
        "lists:foreach(fun(I) -> V = list_to_binary(\"v\" ++ integer_to_list(I)), \
         rabbit_vhost:add(V, <<\"{USER}\">>), rabbit_auth_backend_internal:set_permissions(\
         <<\"{USER}\">>, V, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"{USER}\">>) end, lists:seq({number}, {})).",
        number + VHOSTS - 1
    );
    control(place, &["eval".to_owned(), program])
}
