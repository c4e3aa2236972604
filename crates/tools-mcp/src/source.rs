//! All declared servers together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde_json::Value;
use tools::egress::EgressOptions;
use tools::servers::{ApproveError, PinsError, ServerStatus, ToolPins, ToolServers};
use tools::{Tool, ToolError, ToolSource};

use crate::config::{ServerSpec, ToolsFile, resolve};
use crate::http::{Login, LoginError, Remote, Tokens};
use crate::process::child::{Launcher, Program};
use crate::server::{Server, Target};
use crate::trial;

/// What the servers are started with.
#[derive(Clone)]
pub struct Options {
    /// Keeps what was accepted of the servers.
    pub pins: Arc<dyn ToolPins>,
    /// Supervises their programs.
    pub launcher: Launcher,
    /// The rules for requests to the outside.
    pub egress: EgressOptions,
    /// The file that tokens of servers are kept in.
    pub tokens: PathBuf,
}

/// The tools of all declared servers.
pub struct McpTools {
    servers: BTreeMap<String, Arc<Server>>,
    generation: Arc<AtomicU64>,
}

impl McpTools {
    /// Takes the operator's file. Servers that were never seen are started and asked for their tools, so that those
    /// are known when this returns; the others are asked meanwhile. A server that fails is told of, and stops nothing.
    pub async fn start(file: ToolsFile, options: &Options) -> Result<Arc<Self>, PinsError> {
        let tools = Self::declare(file, options).await?;
        let (known, new): (Vec<_>, Vec<_>) = tools.servers.values().cloned().partition(|server| server.is_known());
        tokio::spawn(async move {
            let asked = known.iter().map(|server| server.refresh());
            futures::future::join_all(asked).await;
        });
        futures::future::join_all(new.iter().map(|server| server.refresh())).await;
        Ok(tools)
    }

    /// Takes the operator's file and starts nothing.
    pub async fn declare(file: ToolsFile, options: &Options) -> Result<Arc<Self>, PinsError> {
        let tokens = Tokens::new(options.tokens.clone());
        let generation = Arc::new(AtomicU64::new(0));
        let mut servers = BTreeMap::new();
        for (name, spec) in file.servers {
            let target = target(&name, &spec, options, &tokens);
            if let Err(reason) = &target {
                tracing::warn!(server = %name, reason, "a tool server cannot be used");
            }
            let pins = Arc::clone(&options.pins);
            let server = Server::new(name.clone(), spec, target, pins, Arc::clone(&generation)).await?;
            servers.insert(name, server);
        }
        Ok(Arc::new(Self { servers, generation }))
    }

    /// Reads again what was accepted, which another process may have changed meanwhile.
    pub async fn reload(&self) -> Result<(), PinsError> {
        for server in self.servers.values() {
            server.reload().await?;
        }
        Ok(())
    }

    /// Prepares a person's authorization of a server; `None` when it needs none.
    pub async fn login(&self, name: &str) -> Result<Option<Login>, LoginError> {
        let declared = || LoginError::NotDeclared(name.chars().take(80).collect());
        let server = self.servers.get(name).ok_or_else(declared)?;
        let remote = server.remote().ok_or_else(declared)?;
        // What it says when it refuses tells where to ask and for what.
        if server.refresh().await.is_ok() && !remote.wants_more() {
            return Ok(None);
        }
        remote.login().await.ok_or_else(declared)?.map(Some)
    }

    /// Calls a tool outside of any task, to try it out.
    pub async fn try_call(&self, name: &str, arguments: Value) -> Result<Value, ToolError> {
        trial::call(self, name, arguments).await
    }

    fn server(&self, name: &str) -> Result<&Arc<Server>, ApproveError> {
        let unknown = || ApproveError::UnknownServer { name: name.chars().take(80).collect() };
        self.servers.get(name).ok_or_else(unknown)
    }
}

impl ToolSource for McpTools {
    fn names(&self) -> Vec<String> {
        let of = |(name, server): (&String, &Arc<Server>)| {
            server.usable().into_iter().map(move |tool| format!("{name}.{tool}")).collect::<Vec<_>>()
        };
        self.servers.iter().flat_map(of).collect()
    }

    fn find(&self, name: &str) -> Option<Arc<dyn Tool>> {
        let (server, tool) = name.split_once('.')?;
        self.servers.get(server)?.find(tool)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

#[async_trait]
impl ToolServers for McpTools {
    async fn list(&self) -> Result<Vec<ServerStatus>, ApproveError> {
        Ok(self.servers.values().map(|server| server.status()).collect())
    }

    async fn refresh(&self, server: &str) -> Result<ServerStatus, ApproveError> {
        let server = self.server(server)?;
        server.refresh().await?;
        Ok(server.status())
    }

    async fn approve(&self, server: &str, tool: Option<&str>) -> Result<ServerStatus, ApproveError> {
        let server = self.server(server)?;
        server.approve(tool).await?;
        Ok(server.status())
    }

    async fn shutdown(&self) {
        futures::future::join_all(self.servers.values().map(|server| server.close())).await;
    }
}

/// Finds a server's program and secrets, once.
fn target(name: &str, spec: &ServerSpec, options: &Options, tokens: &Tokens) -> Result<Target, String> {
    let Some(command) = &spec.command else {
        return Remote::new(name, spec, &options.egress, tokens).map(|remote| Target::Remote(Box::new(remote)));
    };
    let path = resolve(command).ok_or_else(|| format!("there is no program {command}"))?;
    let (mut env, mut secrets) = (BTreeMap::new(), Vec::new());
    for (name, setting) in &spec.env {
        let value = setting.find().map_err(|error| format!("the variable {name} is not known: {error}"))?;
        if setting.is_reference() {
            secrets.push(value.clone());
        }
        env.insert(name.clone(), value);
    }
    let program = Program { path, args: spec.args.clone(), env, secrets, cwd: spec.cwd.clone() };
    Ok(Target::Program { launcher: options.launcher.clone(), program })
}
