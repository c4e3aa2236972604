//! A platform in a folder of its own: agents, dialogues, and the services with their settings.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::TcpListener;

use crate::backends::Backends;
use crate::service::{PATIENCE, Role, Service};

/// What outlives the services.
pub(crate) struct House {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) backends: Backends,
    pub(crate) http: reqwest::Client,
    sink: String,
    ports: BTreeMap<(Role, usize), u16>,
}

/// A role and the number of its copy.
pub(crate) type Name = (Role, usize);

/// Services that run.
#[derive(Default)]
pub(crate) struct Platform {
    pub(crate) services: BTreeMap<Name, Service>,
}

impl House {
    /// Writes agents that call the sink at `sink` (`127.0.0.1:port`).
    pub(crate) fn new(backends: Backends, sink: &str) -> Self {
        common::tls::install();
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (folder, files) in [("agents", AGENTS), ("scripts", SCRIPTS)] {
            let folder = dir.path().join(folder);
            std::fs::create_dir_all(&folder).expect("folder");
            for (name, text) in files {
                std::fs::write(folder.join(name), text.replace("SINK", sink)).expect("file");
            }
        }
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        Self { dir, backends, http, sink: sink.to_owned(), ports: BTreeMap::new() }
    }

    /// Starts one service with further settings, which count more than those of this harness. Its port is always the same.
    pub(crate) fn spawn(&mut self, name: Name, further: &[(&str, &str)]) -> Service {
        let port = *self.ports.entry(name).or_insert_with(free_port);
        let path = |part: &str| self.dir.path().join(part).to_string_lossy().into_owned();
        let mut settings: BTreeMap<&str, String> = self.backends.settings();
        if name.0 != Role::States {
            settings.retain(|name, _| !name.starts_with("POSTGRES"));
        }
        settings.extend([
            ("AGENT_LEASE", "2s".to_owned()),
            ("AGENT_SHUTDOWN_TIMEOUT", "20s".to_owned()),
            ("AGENTRUNNER_PROBE", "false".to_owned()),
        ]);
        settings.extend(match name.0 {
            Role::States => vec![],
            Role::Configs => vec![("AGENT_CONFIG_DIR", path("agents"))],
            Role::Orchestrator => vec![
                ("BLOBS_DIR", path("blobs")),
                ("AGENTRUNNER_SCRIPTS", path("scripts")),
                ("ORCHESTRATOR_SWEEP_INTERVAL", "200ms".to_owned()),
                ("ORCHESTRATOR_REANNOUNCE", "2s".to_owned()),
                ("ORCHESTRATOR_REAP_INTERVAL", "200ms".to_owned()),
            ],
            Role::Pool => vec![
                ("BLOBS_DIR", path("blobs")),
                ("AGENTRUNNER_SCRIPTS", path("scripts")),
                ("AGENT_RENEW_INTERVAL", "400ms".to_owned()),
                ("AGENT_DRAIN_TIMEOUT", "8s".to_owned()),
                ("AGENT_EGRESS_ALLOW_PRIVATE", self.sink.clone()),
            ],
        });
        settings.extend(further.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let settings: Vec<(String, String)> =
            settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let log = self.dir.path().join(format!("{}-{}.log", name.0.program(), name.1));
        Service::spawn(name.0, port, self.dir.path(), log, &settings)
    }

    /// Starts `copies` of every service, and waits until all can work.
    pub(crate) async fn start(&mut self, copies: usize) -> Platform {
        let mut platform = self.spawn_all(copies, |_| Vec::new());
        for service in platform.services.values_mut() {
            assert!(service.wait_ready(&self.http).await, "a service ended: {}", service.log());
        }
        platform
    }

    /// Starts `copies` of every service, some with further settings, and waits for none.
    pub(crate) fn spawn_all<'a>(
        &mut self,
        copies: usize,
        further: impl Fn(Role) -> Vec<(&'a str, &'a str)>,
    ) -> Platform {
        let names = Role::ALL.into_iter().flat_map(|role| (0..copies).map(move |copy| (role, copy)));
        let services = names.map(|name| (name, self.spawn(name, &further(name.0)))).collect();
        Platform { services }
    }
}

impl Platform {
    pub(crate) fn get(&mut self, role: Role) -> &mut Service {
        self.services.get_mut(&(role, 0)).expect("it was started")
    }

    /// Where tasks are submitted.
    pub(crate) fn urls(&self) -> Vec<String> {
        let orchestrators = self.services.iter().filter(|((role, _), _)| *role == Role::Orchestrator);
        orchestrators.map(|(_, service)| service.url.clone()).collect()
    }

    /// The last words of everybody, for the message of a failure.
    pub(crate) fn logs(&self) -> String {
        let tail = |text: String| text[text.floor_char_boundary(text.len().saturating_sub(6_000))..].to_owned();
        let mut logs = String::new();
        for ((role, copy), service) in &self.services {
            logs.extend(["== ", role.program(), " ", &copy.to_string(), "\n", &tail(service.log())]);
        }
        logs
    }

    /// Stops all in order, the record last; each exits with 0.
    pub(crate) async fn stop(mut self) {
        for role in Role::ALL.into_iter().rev() {
            for ((_, copy), service) in self.services.iter_mut().filter(|((of, _), _)| *of == role) {
                service.signal(rustix::process::Signal::TERM);
                let status = service.wait_exit().await;
                assert_eq!(status.code(), Some(0), "{} {copy} stops in order: {}", role.program(), service.log());
            }
        }
    }
}

/// A port below those that systems give to whoever asks for any: nobody takes it while its service is away.
fn free_port() -> u16 {
    loop {
        let chance = RandomState::new().build_hasher().finish();
        let port = 20_000 + (chance % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

const AGENTS: &[(&str, &str)] = &[
    (
        "keyed.yml",
        "name: keyed\nmodel: scripted/keyed\ntools:\n  - name: http_request\n    allow: [\"SINK\"]\n  - delegate\n  - wait\ndelegates: [child]\nbudget: {per_hour: {tokens: 10000000, model_calls: 10000, tool_calls: 10000}}\n",
    ),
    ("child.yml", "name: child\nmodel: scripted/child\n"),
    // Enough for its two answers and those that crashes cut off; its call is paid once for ever.
    (
        "once.yml",
        "name: once\nmodel: scripted/once\ntools:\n  - name: http_request\n    allow: [\"SINK\"]\n    effect: once\n    on_unknown: fail\nbudget: {model_calls: 6, tool_calls: 1}\nqueue: {concurrency: 2}\n",
    ),
    (
        "approved.yml",
        "name: approved\nmodel: scripted/approved\ntools:\n  - name: http_request\n    allow: [\"SINK\"]\n    effect: once\n    on_unknown: fail\n    approval: always\nbudget: {model_calls: 6, tool_calls: 1}\n",
    ),
    ("asker.yml", "name: asker\nmodel: scripted/asker\ntools: [ask]\n"),
    ("slow.yml", "name: slow\nmodel: scripted/slow\n"),
    ("slower.yml", "name: slower\nmodel: scripted/slower\n"),
    ("sleeper.yml", "name: sleeper\nmodel: scripted/sleeper\ntools: [wait]\n"),
];

const SCRIPTS: &[(&str, &str)] = &[
    (
        "keyed.yml",
        "turns:\n  - text: First.\n    tool_calls:\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/keyed/a\", body: a}}\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/keyed/b\", body: b}}\n  - text: Then.\n    tool_calls:\n      - {name: delegate, arguments: {agent: child, prompt: one}}\n      - {name: delegate, arguments: {agent: child, prompt: two}}\n      - {name: wait, arguments: {for: 300ms}}\n  - text: Done.\n",
    ),
    ("child.yml", "turns:\n  - text: The child is done.\n"),
    (
        "once.yml",
        "turns:\n  - text: Paying.\n    tool_calls:\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/once?delay_ms=50\", body: pay}}\n  - text: Paid.\n",
    ),
    (
        "approved.yml",
        "turns:\n  - text: May it be paid?\n    tool_calls:\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/once/approved\", body: pay}}\n  - text: Paid.\n",
    ),
    (
        "asker.yml",
        "turns:\n  - text: May I?\n    tool_calls:\n      - {name: ask, arguments: {question: \"May I?\"}}\n  - text: \"You said: {{last_tool_result}}\"\n",
    ),
    (
        "sleeper.yml",
        "turns:\n  - text: Good night.\n    tool_calls:\n      - {name: wait, arguments: {for: 300ms}}\n  - text: Awake.\n",
    ),
    ("slow.yml", "turns:\n  - text: one two three four five six seven eight\n    chunk_delay: 500ms\n"),
    ("slower.yml", "turns:\n  - text: one two three four five six seven eight\n    chunk_delay: 2s\n"),
];
