//! Brings the record to what the folder says: idempotent, without input, safe to stop anywhere and to begin again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::Events;
use domain::agent::FileProblem;
use domain::{AgentName, AgentSpec, Clock, Event, EventBody, Namespace};
use metrics::{counter, gauge};
use state::agents::{AgentVersion, Agents, Published};
use state::{State, StateError};
use tokio::task::spawn_blocking;

use super::catalogue::{Catalogue, CatalogueEntry, EntryStatus, View};
use super::folder::Folder;
use super::owners::Owners;
use super::plan::{Plan, plan};
use super::settling::Settling;
use crate::Deps;

/// Holds what is known of the folder and of the record between two rounds.
pub(crate) struct Reconciler {
    state: Arc<dyn State>,
    agents: Arc<Agents>,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
    catalogue: Catalogue,
    namespace: Namespace,
    /// Away only while a thread looks at it.
    folder: Option<Folder>,
    dir: PathBuf,
    servers: Arc<[String]>,
    settling: Settling,
    /// Missing until the record was read.
    known: Option<Known>,
    /// True when the record does not yet say what the folder says.
    behind: bool,
    /// True when another replica wrote meanwhile: what it saw may be newer than what counts here, so that nothing is
    /// written before the folder is at rest.
    contended: bool,
    /// When the record was last compared with what is known of it.
    compared: Duration,
    /// The agents that the record was last told to be stale.
    stale: Option<BTreeMap<AgentName, String>>,
}

/// How often what is known of the record is compared with it: another replica may have ended in the middle of a change, or the
/// record may have been restored.
const COMPARE: Duration = Duration::from_secs(15);

/// What the record says of the folder's agents.
#[derive(Default)]
struct Known {
    owners: Owners,
    active: BTreeMap<AgentName, Arc<AgentVersion>>,
}

impl Reconciler {
    pub(crate) fn new(dir: PathBuf, deps: &Deps, catalogue: Catalogue) -> Self {
        Self {
            state: Arc::clone(&deps.state),
            agents: Arc::clone(&deps.agents),
            events: Arc::clone(&deps.events),
            clock: Arc::clone(&deps.clock),
            catalogue,
            namespace: Namespace::default(),
            folder: None,
            dir,
            servers: Arc::clone(&deps.servers),
            settling: Settling::default(),
            known: None,
            behind: true,
            contended: false,
            compared: deps.clock.monotonic(),
            stale: None,
        }
    }

    /// Looks at the folder once and records what changed; returns whether something is being changed just now.
    pub(crate) async fn round(&mut self) -> Result<bool, StateError> {
        if self.known.is_none() {
            self.known = Some(self.read_record().await?);
        }
        let mut folder = self.folder.take().unwrap_or_else(|| Folder::new(self.dir.clone(), Arc::clone(&self.servers)));
        let looked = spawn_blocking(move || {
            let look = folder.look();
            (folder, look)
        });
        // Only a panic or the end of the runtime loses the folder, which is then opened anew.
        let Ok((folder, look)) = looked.await else { return Ok(true) };
        let dir = folder.dir().display().to_string();
        self.folder = Some(folder);
        match look {
            Ok(look) => {
                let now = self.clock.monotonic();
                self.behind |= self.settling.observe(&look, now);
                if now.saturating_sub(self.compared) >= COMPARE && !self.settling.is_moving() {
                    self.compared = now;
                    self.behind |= self.compare().await?;
                }
                if self.behind && !(self.contended && self.settling.is_moving()) {
                    self.contended = self.record().await?;
                    self.behind = self.contended;
                }
            }
            Err(error) => {
                self.folder_is_unreadable(&dir, &error);
                self.behind = true;
            }
        }
        Ok(self.settling.is_moving() || self.contended)
    }

    /// Forgets of agents what the record no longer says; returns whether there were any. A later version of another
    /// replica is left alone: it may have another folder.
    async fn compare(&mut self) -> Result<bool, StateError> {
        let Some(known) = &mut self.known else { return Ok(false) };
        let mut lost = Vec::new();
        for (name, version) in &known.active {
            let active = self.agents.active_now(&self.namespace, name).await?;
            if active.is_none_or(|active| active.version < version.version) {
                lost.push(name.clone());
            }
        }
        for name in &lost {
            tracing::warn!(agent = %name, "the record no longer has this agent's version in service, publishing it again");
            known.active.remove(name);
        }
        Ok(!lost.is_empty())
    }

    async fn read_record(&self) -> Result<Known, StateError> {
        let owners = Owners::load(self.state.as_ref(), &self.namespace, self.clock.as_ref()).await?;
        let mut active = BTreeMap::new();
        for (name, _) in owners.iter() {
            if let Some(version) = self.agents.active(&self.namespace, name).await? {
                active.insert(name.clone(), version);
            }
        }
        Ok(Known { owners, active })
    }

    /// A folder that cannot be listed may be one that is not mounted yet: nothing is withdrawn.
    fn folder_is_unreadable(&self, dir: &str, error: &std::io::Error) {
        let view = self.catalogue.view();
        let problem = FileProblem::of_file(dir, format!("the agents' folder cannot be read: {error}"));
        if view.problems.first() != Some(&problem) {
            tracing::warn!(folder = dir, %error, "the agents' folder cannot be read");
        }
        self.catalogue.set(View { problems: vec![problem], ..View::clone(&view) });
    }

    /// Brings the record up to date; returns whether another replica wrote meanwhile.
    async fn record(&mut self) -> Result<bool, StateError> {
        let mut known = self.known.take().unwrap_or_default();
        let outcome = self.bring_up_to_date(&mut known).await;
        self.known = Some(known);
        outcome
    }

    async fn bring_up_to_date(&mut self, known: &mut Known) -> Result<bool, StateError> {
        let mut contended = false;
        let mut plan = plan(self.settling.settled(), &known.owners, &known.active);
        self.remember_owners(known, &plan).await?;
        let good = std::mem::take(&mut plan.good);
        let mut view = View { loaded: true, ..View::default() };
        for (name, (file, spec)) in good {
            match self.publish(known, &name, spec).await {
                Ok(Some(version)) => {
                    view.agents.insert(name, CatalogueEntry { file, version, status: EntryStatus::Ok });
                }
                Ok(None) => {
                    contended = true;
                    if let Some(version) = known.active.get(&name).cloned() {
                        view.agents.insert(name, CatalogueEntry { file, version, status: EntryStatus::Ok });
                    }
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    let problem = FileProblem::of_file(&file, format!("cannot be recorded: {error}"));
                    plan.problems.push(problem.clone());
                    plan.stale.insert(name, (file, vec![problem]));
                }
            }
        }
        let mut withdrawn_names = Vec::new();
        for name in &plan.gone {
            let withdrawn = match known.active.get(name) {
                Some(active) => self.agents.withdraw_over(&self.namespace, name, active.version).await?,
                None => true,
            };
            if !withdrawn {
                contended = true;
                match self.agents.active_now(&self.namespace, name).await? {
                    Some(active) => drop(known.active.insert(name.clone(), active)),
                    None => drop(known.active.remove(name)),
                }
                continue;
            }
            if known.active.remove(name).is_some() {
                tracing::info!(agent = %name, "agent withdrawn, its file is gone");
            }
            withdrawn_names.push(name.clone());
        }
        if !withdrawn_names.is_empty() {
            self.change_owners(&BTreeMap::new(), &withdrawn_names).await?;
            known.owners.0.retain(|name, _| !withdrawn_names.contains(name));
        }
        let stale = plan.stale.iter().map(|(name, (file, _))| (name.clone(), file.clone())).collect();
        if self.stale.as_ref() != Some(&stale) {
            self.agents.remember_stale(&self.namespace, &stale).await?;
            self.stale = Some(stale);
        }
        for (name, (file, problems)) in plan.stale {
            if let Some(version) = known.active.get(&name).cloned() {
                view.agents.insert(name, CatalogueEntry { file, version, status: EntryStatus::Stale(problems) });
            }
        }
        view.problems = plan.problems;
        view.problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        self.show(view);
        Ok(contended)
    }

    async fn change_owners(&self, add: &BTreeMap<AgentName, String>, remove: &[AgentName]) -> Result<(), StateError> {
        Owners::change(self.state.as_ref(), &self.namespace, self.clock.as_ref(), add, remove).await
    }

    /// Before anything is published, so that no agent is ever active whose file is not known.
    async fn remember_owners(&self, known: &mut Known, plan: &Plan) -> Result<(), StateError> {
        let mut owners = known.owners.clone();
        owners.0.extend(plan.good.iter().map(|(name, (file, _))| (name.clone(), file.clone())));
        if owners != known.owners {
            self.change_owners(&owners.0, &[]).await?;
            known.owners = owners;
        }
        Ok(())
    }

    /// Publishes what a file says; `None` when another replica published something else meanwhile, which is then known.
    async fn publish(
        &self,
        known: &mut Known,
        name: &AgentName,
        spec: AgentSpec,
    ) -> Result<Option<Arc<AgentVersion>>, StateError> {
        if let Some(active) = known.active.get(name).filter(|active| active.spec == spec) {
            return Ok(Some(Arc::clone(active)));
        }
        failpoint::hit("C32");
        let base = known.active.get(name).map(|active| active.version);
        let (version, new) = match self.agents.publish_over(&self.namespace, spec, base).await? {
            Published::New(version) => (version, true),
            Published::Same(version) => (version, false),
            Published::Moved(active) => {
                match active {
                    Some(active) => drop(known.active.insert(name.clone(), active)),
                    None => drop(known.active.remove(name)),
                }
                return Ok(None);
            }
        };
        known.active.insert(name.clone(), Arc::clone(&version));
        failpoint::hit("C33");
        if new {
            counter!("config_versions_published_total").increment(1);
            tracing::info!(agent = %name, version = version.version, "agent published");
            let body = EventBody::AgentUpdated { agent: name.clone(), version: version.version };
            self.events.publish(Event { namespace: self.namespace.clone(), body });
        }
        Ok(Some(version))
    }

    fn show(&self, view: View) {
        let before = self.catalogue.view();
        for problem in view.problems.iter().filter(|problem| !before.problems.contains(problem)) {
            // The reason may repeat what stands in the file, which is no business of the log.
            let (file, field) = (&problem.file, &problem.path);
            tracing::warn!(file, line = problem.line, field, "an agent's file is wrong, see /configs/errors");
        }
        let stale = view.agents.values().filter(|entry| entry.status != EntryStatus::Ok).count();
        gauge!("config_agents", "status" => "ok").set((view.agents.len() - stale) as f64);
        gauge!("config_agents", "status" => "stale").set(stale as f64);
        gauge!("config_problems").set(view.problems.len() as f64);
        self.catalogue.set(view);
    }
}
