//! The settings of the whole platform: those of every service, and the few of the process itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use common::config::{self, ConfigError, LoadOptions, Validate};
use common::telemetry::LogFormat;
use connect::tools::{TOOLS_FILE, ToolsFile, ToolsFileError};
use domain::HumanDuration;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Variables that begin with one of these are ours: an unknown one is surely misspelt.
const PREFIXES: [&str; 9] = [
    "STATE_MANAGER_",
    "CONFIG_SERVICE_",
    "ORCHESTRATOR_",
    "AGENTRUNNER_",
    "AGENT_POOL_",
    "AGENT_LEASE",
    "AGENT_RENEW_",
    "AGENT_EGRESS_",
    "AGENT_SHUTDOWN_",
];
/// Ours, too, but read elsewhere: by the command line, and for the folder of models.
const ELSEWHERE: [&str; 5] =
    ["AGENTRUNNER_URL", "AGENTRUNNER_DATA", "AGENTRUNNER_CONFIG", "AGENTRUNNER_CACHE", "AGENTRUNNER_HUB_URL"];

/// The settings of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// How long an orderly stop may take.
    pub agent_shutdown_timeout: HumanDuration,
    /// A level, or directives such as `info,state=debug`.
    pub log_level: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Hosts and ports in private networks that `http_request` may call: `127.0.0.1:9999,tools.internal:8080`.
    pub agent_egress_allow_private: String,
    /// The file of what namespaces may spend, and how many of their tasks run and start. The usual one need not be there.
    pub agentrunner_limits: PathBuf,
    /// The file of the servers that bring tools.
    pub agentrunner_tools: PathBuf,
    /// Bodies longer than this many bytes are compressed in the record.
    pub state_compression_threshold: usize,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            agent_shutdown_timeout: HumanDuration::from_secs(30),
            log_level: String::new(),
            log_format: LogFormat::Text,
            agent_egress_allow_private: String::new(),
            agentrunner_limits: PathBuf::from(connect::LIMITS_FILE),
            agentrunner_tools: PathBuf::from(TOOLS_FILE),
            state_compression_threshold: 4_096,
        }
    }
}

impl Validate for ProcessConfig {}

impl ProcessConfig {
    /// Reads the file of the servers that bring tools; the usual one need not be there.
    pub fn tools(&self) -> Result<ToolsFile, ToolsFileError> {
        connect::tools::load(&self.agentrunner_tools, self.agentrunner_tools != Path::new(TOOLS_FILE))
    }

    /// The declared servers that bring tools; none when their file is wrong, which is told at the start.
    pub fn servers(&self) -> Vec<String> {
        self.tools().map(|file| file.servers.into_keys().collect()).unwrap_or_default()
    }
}

/// The settings of the whole platform.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of the process.
    pub process: ProcessConfig,
    /// Of the state-manager.
    pub states: state_manager::Config,
    /// Of the config-service.
    pub configs: config_service::Config,
    /// Of the orchestrator.
    pub orchestrator: agent_orchestrator::Config,
    /// Of the autonomous pool.
    pub pool: agent_pool::Config,
    /// Of the models.
    pub models: connect::models::ModelSettings,
}

/// Where the services of one process listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// At their usual ports, all of them shifted by this.
    Usual(u16),
    /// At free ports that the system chooses.
    Random,
}

impl Settings {
    /// Reads the environment and the file that it names; everything that is wrong is told at once.
    pub fn load() -> Result<Self, ConfigError> {
        let mut problems = BTreeSet::new();
        let known = known();
        let settings = (
            part("agentrunner", &known, &mut problems),
            part("state-manager", &known, &mut problems),
            part("config-service", &known, &mut problems),
            part("agent-orchestrator", &known, &mut problems),
            part("agent-pool", &known, &mut problems),
            part("models", &known, &mut problems),
        );
        let variables: BTreeSet<String> = known.iter().map(|name| name.to_uppercase()).collect();
        for (name, _) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            let plain = name.strip_suffix("_FILE").unwrap_or(&name);
            let ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if ours && !variables.contains(&name) && !variables.contains(plain) && !ELSEWHERE.contains(&name.as_str()) {
                problems.insert(format!("{name}: unknown setting"));
            }
        }
        match settings {
            (Some(process), Some(states), Some(configs), Some(orchestrator), Some(pool), Some(models))
                if problems.is_empty() =>
            {
                Ok(Self { process, states, configs, orchestrator, pool, models })
            }
            _ => Err(ConfigError { problems: problems.into_iter().collect() }),
        }
    }

    /// Chooses the host and the ports of all services.
    pub fn listen(&mut self, host: Option<IpAddr>, ports: PortChoice) {
        for address in [
            &mut self.states.state_manager_address,
            &mut self.configs.config_service_address,
            &mut self.orchestrator.orchestrator_address,
            &mut self.pool.agent_pool_address,
        ] {
            if let Some(host) = host {
                address.set_ip(host);
            }
            match ports {
                PortChoice::Usual(offset) => address.set_port(address.port().saturating_add(offset)),
                PortChoice::Random => address.set_port(0),
            }
        }
    }

    /// Where the services will listen.
    pub fn addresses(&self) -> [SocketAddr; 4] {
        [
            self.states.state_manager_address,
            self.configs.config_service_address,
            self.orchestrator.orchestrator_address,
            self.pool.agent_pool_address,
        ]
    }

    /// The ports that the services will listen at, but for those that the system will choose.
    pub fn ports(&self) -> Vec<u16> {
        self.addresses().iter().map(SocketAddr::port).filter(|port| *port != 0).collect()
    }

    /// Takes the agents' folder of the command line over that of the environment.
    pub fn agents_dir(&mut self, dir: Option<&Path>) {
        if let Some(dir) = dir {
            dir.clone_into(&mut self.configs.agent_config_dir);
        }
    }
}

fn part<T: Serialize + DeserializeOwned + Default + Validate>(
    section: &'static str,
    known: &BTreeSet<String>,
    problems: &mut BTreeSet<String>,
) -> Option<T> {
    let options = LoadOptions { known_elsewhere: known.clone(), ..LoadOptions::from_process(section) };
    match config::load(&options) {
        Ok(settings) => Some(settings),
        Err(error) => {
            problems.extend(error.problems);
            None
        }
    }
}

/// The settings of all parts.
fn known() -> BTreeSet<String> {
    let parts = [
        config::names::<ProcessConfig>(),
        config::names::<state_manager::Config>(),
        config::names::<config_service::Config>(),
        config::names::<agent_orchestrator::Config>(),
        config::names::<agent_pool::Config>(),
        config::names::<connect::models::ModelSettings>(),
    ];
    parts.into_iter().flatten().collect()
}
