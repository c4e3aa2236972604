//! A declared server: its instances, what it says of its tools, and what of that was accepted.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Effect, Namespace};
use tools::servers::{ApproveError, Pins, PinsError, ServerState, ServerStatus, ToolPins, ToolState, ToolStatus};
use tools::{Tool, ToolError};

use crate::config::{ServerSpec, Trust};
use crate::connection::{Connection, NoConnection};
use crate::definition::{Definition, Listing};
use crate::fate::Fate;
use crate::http::Remote;
use crate::instance::{Condition, Instance};
use crate::process::child::{self, Launcher, Program};
use crate::process::transport::Pipes;
use crate::resources::ResourceTool;
use crate::tool::McpTool;

/// How many namespaces may use one server at once.
const MAX_INSTANCES: usize = 64;
/// After how long without a call a namespace's instance is ended.
const IDLE: Duration = Duration::from_secs(600);

/// Where a server is.
pub(crate) enum Target {
    Program { launcher: Launcher, program: Program },
    Remote(Box<Remote>),
}

/// A declared server.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) spec: ServerSpec,
    pub(crate) startup_timeout: Duration,
    pub(crate) max_output: usize,
    /// Where it is, or why nobody can know.
    target: Result<Target, String>,
    pins: Arc<dyn ToolPins>,
    known: Mutex<Known>,
    /// One change of what is accepted at a time.
    accepting: tokio::sync::Mutex<()>,
    instances: Mutex<HashMap<Namespace, Arc<Instance>>>,
    generation: Arc<AtomicU64>,
    starts: AtomicU64,
    own: std::sync::Weak<Self>,
}

#[derive(Default)]
struct Known {
    pins: Option<Pins>,
    listing: Option<Listing>,
    protocol: Option<String>,
    usable: BTreeMap<String, Arc<dyn Tool>>,
}

impl Server {
    pub(crate) async fn new(
        name: String,
        spec: ServerSpec,
        target: Result<Target, String>,
        pins: Arc<dyn ToolPins>,
        generation: Arc<AtomicU64>,
    ) -> Result<Arc<Self>, PinsError> {
        let known = Known { pins: pins.get(&name).await?, ..Known::default() };
        let seconds =
            |value: Option<domain::HumanDuration>, default| value.map_or(Duration::from_secs(default), |v| v.0);
        let server = Arc::new_cyclic(|own| Self {
            startup_timeout: seconds(spec.startup_timeout, 30),
            max_output: spec.max_output_bytes.unwrap_or(1024 * 1024),
            name,
            spec,
            target,
            pins,
            known: Mutex::new(known),
            accepting: tokio::sync::Mutex::default(),
            instances: Mutex::default(),
            generation,
            starts: AtomicU64::new(0),
            own: own.clone(),
        });
        server.settle(|_| {});
        Ok(server)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether it was ever seen.
    pub(crate) fn is_known(&self) -> bool {
        self.known().pins.is_some()
    }

    pub(crate) fn is_program(&self) -> bool {
        matches!(self.target, Ok(Target::Program { .. }))
    }

    pub(crate) fn remote(&self) -> Option<&Remote> {
        match &self.target {
            Ok(Target::Remote(remote)) => Some(remote),
            _ => None,
        }
    }

    /// Begins a conversation.
    pub(crate) async fn open(&self, fate: &Arc<Fate>, old: bool) -> Result<Connection, NoConnection> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        match &self.target {
            Ok(Target::Program { launcher, program }) => {
                let running = child::start(launcher, &self.name, program, fate)
                    .map_err(|error| NoConnection::Failed(format!("its program could not be started: {error}")))?;
                Connection::open(Pipes::new(running, fate), fate, old).await
            }
            Ok(Target::Remote(remote)) => {
                let transport = remote.transport().await?;
                Connection::open(transport, fate, old).await
            }
            Err(reason) => Err(NoConnection::Failed(reason.clone())),
        }
    }

    /// The instance of a namespace.
    pub(crate) fn instance(&self, namespace: &Namespace) -> Result<Arc<Instance>, ToolError> {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = instances.get(namespace) {
            return Ok(Arc::clone(instance));
        }
        let idle = |instance: &Arc<Instance>| instance.calls.load(Ordering::Relaxed) == 0;
        let old: Vec<Namespace> = instances
            .values()
            .filter(|instance| idle(instance) && instance.used().elapsed() >= IDLE)
            .map(|instance| instance.namespace.clone())
            .collect();
        let mut ended: Vec<_> = old.iter().filter_map(|namespace| instances.remove(namespace)).collect();
        if instances.len() >= MAX_INSTANCES {
            let oldest = instances.values().filter(|instance| idle(instance)).min_by_key(|instance| instance.used());
            let oldest = oldest.map(|instance| instance.namespace.clone());
            let Some(evicted) = oldest.and_then(|namespace| instances.remove(&namespace)) else {
                let message = format!("too many namespaces use the server {} at once; try again later", self.name);
                return Err(ToolError::new("unavailable", message));
            };
            ended.push(evicted);
        }
        tokio::spawn(async move {
            for instance in ended {
                instance.close().await;
            }
        });
        let instance = Arc::new(Instance::new(namespace.clone(), self.own.clone()));
        instances.insert(namespace.clone(), Arc::clone(&instance));
        Ok(instance)
    }

    /// Takes note of what an instance lists. What a server says first is accepted; so is everything of one that the
    /// operator trusts always.
    pub(crate) async fn observe(&self, listing: &Listing, connection: &Connection) -> Result<(), PinsError> {
        let _one = self.accepting.lock().await;
        let first = self.known().pins.is_none();
        let accepted = if first || self.spec.trust == Trust::Always {
            let all: Pins = listing
                .values()
                .filter(|definition| definition.refusal().is_none())
                .map(|definition| (definition.name.clone(), definition.pin()))
                .collect();
            if self.known().pins.as_ref() == Some(&all) {
                None
            } else {
                self.pins.put(&self.name, &all).await?;
                Some(all)
            }
        } else {
            None
        };
        let protocol = connection.protocol();
        self.settle(|known| {
            known.listing = Some(Arc::clone(listing));
            known.protocol = Some(protocol);
            if let Some(accepted) = accepted {
                known.pins = Some(accepted);
            }
        });
        Ok(())
    }

    /// Reads again what was accepted, which another process may have changed meanwhile.
    pub(crate) async fn reload(&self) -> Result<(), PinsError> {
        let _one = self.accepting.lock().await;
        let pins = self.pins.get(&self.name).await?;
        if pins.is_some() && self.known().pins != pins {
            self.settle(|known| known.pins = pins);
        }
        Ok(())
    }

    /// Accepts what the server says of one tool, or of all.
    pub(crate) async fn approve(&self, tool: Option<&str>) -> Result<(), ApproveError> {
        self.reload().await?;
        if self.known().listing.is_none() {
            self.refresh().await?;
        }
        let _one = self.accepting.lock().await;
        let (mut pins, listing) = {
            let known = self.known();
            (known.pins.clone().unwrap_or_default(), known.listing.clone().unwrap_or_default())
        };
        let unknown =
            |tool: &str| ApproveError::UnknownTool { server: self.name.clone(), tool: tool.chars().take(80).collect() };
        match tool {
            Some(name) => {
                match listing.get(name).filter(|definition| definition.refusal().is_none()) {
                    Some(definition) => pins.insert(name.to_owned(), definition.pin()),
                    // What is gone for good need not be shown for ever.
                    None if !listing.contains_key(name) && pins.contains_key(name) => pins.remove(name),
                    None => return Err(unknown(name)),
                };
            }
            None => {
                pins = listing
                    .values()
                    .filter(|definition| definition.refusal().is_none())
                    .map(|definition| (definition.name.clone(), definition.pin()))
                    .collect();
            }
        }
        self.pins.put(&self.name, &pins).await?;
        self.settle(|known| known.pins = Some(pins));
        Ok(())
    }

    /// Connects, and lists the tools anew.
    pub(crate) async fn refresh(&self) -> Result<(), ApproveError> {
        let unavailable = |reason: String| ApproveError::Unavailable { server: self.name.clone(), reason };
        let instance = self.instance(&Namespace::default()).map_err(|error| unavailable(error.message))?;
        instance.relist().await.map_err(unavailable)
    }

    /// Changes what is known, and then what is usable; whoever keeps toolboxes is told when that is something else.
    fn settle(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        let before: Vec<_> = Self::states(&known, &self.spec).into_iter().filter(is_usable).collect();
        change(&mut known);
        let after: Vec<_> = Self::states(&known, &self.spec).into_iter().filter(is_usable).collect();
        let mut usable: BTreeMap<String, Arc<dyn Tool>> = BTreeMap::new();
        let mut reused = 0;
        for (definition, ..) in &after {
            let same = before.iter().any(|(old, ..)| old.digest == definition.digest && old.name == definition.name);
            let tool = match known.usable.get(&definition.name).filter(|_| same) {
                Some(tool) => {
                    reused += 1;
                    Arc::clone(tool)
                }
                None => Arc::new(McpTool::new(self.own.clone(), self, definition.clone())),
            };
            usable.insert(definition.name.clone(), tool);
        }
        if self.spec.resources {
            for tool in ResourceTool::both(&self.own, self) {
                usable.insert(tool.kind.name().to_owned(), Arc::new(tool));
            }
        }
        let changed = reused != after.len() || known.usable.len() != usable.len();
        known.usable = usable;
        drop(known);
        if changed {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How each tool is: its definition, its state, why, and what was accepted when that differs.
    fn states(known: &Known, spec: &ServerSpec) -> Vec<(Definition, ToolState, Option<String>, Option<Definition>)> {
        let empty = Pins::new();
        let pins = known.pins.as_ref().unwrap_or(&empty);
        let mut states = Vec::new();
        for (name, pin) in pins {
            let accepted = Definition::pinned(name, pin);
            match known.listing.as_ref().map(|listing| listing.get(name)) {
                None => states.push((accepted, ToolState::Usable, None, None)),
                Some(Some(now)) if now.digest == pin.digest => states.push((accepted, ToolState::Usable, None, None)),
                Some(Some(now)) => {
                    let why = "the server describes it differently from what was accepted";
                    states.push((now.clone(), ToolState::Changed, Some(why.to_owned()), Some(accepted)));
                }
                Some(None) => {
                    states.push((accepted, ToolState::Missing, Some("the server no longer has it".to_owned()), None));
                }
            }
        }
        for definition in known.listing.iter().flat_map(|listing| listing.values()) {
            if !pins.contains_key(&definition.name) {
                let why = "the server brings it since its tools were accepted";
                states.push((definition.clone(), ToolState::New, Some(why.to_owned()), None));
            }
        }
        for (definition, state, reason, _) in &mut states {
            let denied = spec.deny.contains(&definition.name)
                || (!spec.allow.is_empty() && !spec.allow.contains(&definition.name));
            if let Some(refusal) = definition.refusal() {
                (*state, *reason) = (ToolState::Refused, Some(refusal));
            } else if denied {
                (*state, *reason) = (ToolState::Denied, Some("the operator's file leaves it out".to_owned()));
            }
        }
        states
    }

    /// The tools that agents can use, by name within the server.
    pub(crate) fn usable(&self) -> Vec<String> {
        self.known().usable.keys().cloned().collect()
    }

    pub(crate) fn find(&self, tool: &str) -> Option<Arc<dyn Tool>> {
        self.known().usable.get(tool).cloned()
    }

    /// What a person may see.
    pub(crate) fn status(&self) -> ServerStatus {
        let conditions: Vec<Condition> = {
            let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
            instances.values().map(|instance| instance.condition()).collect()
        };
        let ready = conditions.iter().any(|condition| matches!(condition, Condition::Ready(_)));
        let failed = conditions.iter().find_map(|condition| match condition {
            Condition::Unavailable(reason) => Some(reason.clone()),
            _ => None,
        });
        let failed = failed.or_else(|| self.target.as_ref().err().cloned());
        let state = match (&failed, ready) {
            (_, true) => ServerState::Ready,
            (Some(_), false) => ServerState::Unavailable,
            (None, false) => ServerState::Idle,
        };
        let known = self.known();
        let tools = Self::states(&known, &self.spec).into_iter().map(|(definition, state, reason, accepted)| {
            let rules = self.spec.tools.get(&definition.name);
            ToolStatus {
                name: format!("{}.{}", self.name, crate::text::for_review(&definition.name)),
                state,
                reason,
                description: definition.for_review(),
                accepted_description: accepted.map(|accepted| accepted.for_review()),
                effect: rules.and_then(|rules| rules.effect).unwrap_or(Effect::Once),
                approval: rules.and_then(|rules| rules.approval).unwrap_or_default(),
                claims_read_only: definition.claims_read_only(),
                parameters: definition.parameters(),
            }
        });
        let mut tools: Vec<ToolStatus> = tools.collect();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        ServerStatus {
            name: self.name.clone(),
            transport: if self.spec.url.is_some() { "http" } else { "stdio" }.to_owned(),
            target: self.target_text(),
            state,
            reason: if ready { None } else { failed },
            protocol: known.protocol.clone(),
            starts: self.starts.load(Ordering::Relaxed),
            tools,
        }
    }

    fn target_text(&self) -> String {
        match &self.target {
            Ok(Target::Program { program, .. }) => {
                let words = std::iter::once(program.path.display().to_string()).chain(program.args.iter().cloned());
                words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
            }
            _ => self.spec.url.clone().or_else(|| self.spec.command.clone()).unwrap_or_default(),
        }
    }

    /// Ends all instances.
    pub(crate) async fn close(&self) {
        let instances: Vec<_> = {
            let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
            instances.drain().map(|(_, instance)| instance).collect()
        };
        futures::future::join_all(instances.iter().map(|instance| instance.close())).await;
    }
}

fn is_usable(state: &(Definition, ToolState, Option<String>, Option<Definition>)) -> bool {
    state.1 == ToolState::Usable
}

/// A word of a command line as a person can tell it from others; nothing is ever run from it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("{word:?}") }
}
