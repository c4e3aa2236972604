//! Brings the record to what the folder says: idempotent, without input, safe to stop anywhere and to begin again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bus::Events;
use domain::agent::FileProblem;
use domain::{AgentName, AgentSpec, Clock, Event, EventBody, Namespace};
use metrics::{counter, gauge};
use state::agents::{AgentVersion, Agents};
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
}

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
                self.behind |= self.settling.observe(&look, self.clock.monotonic());
                if self.behind {
                    self.record().await?;
                    self.behind = false;
                }
            }
            Err(error) => {
                self.folder_is_unreadable(&dir, &error);
                self.behind = true;
            }
        }
        Ok(self.settling.is_moving())
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

    async fn record(&mut self) -> Result<(), StateError> {
        let mut known = self.known.take().unwrap_or_default();
        let outcome = self.bring_up_to_date(&mut known).await;
        self.known = Some(known);
        outcome
    }

    async fn bring_up_to_date(&self, known: &mut Known) -> Result<(), StateError> {
        let mut plan = plan(self.settling.settled(), &known.owners, &known.active);
        self.remember_owners(known, &plan).await?;
        let good = std::mem::take(&mut plan.good);
        let mut view = View { loaded: true, ..View::default() };
        for (name, (file, spec)) in good {
            match self.publish(known, &name, spec).await {
                Ok(version) => {
                    view.agents.insert(name, CatalogueEntry { file, version, status: EntryStatus::Ok });
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    let problem = FileProblem::of_file(&file, format!("cannot be recorded: {error}"));
                    plan.problems.push(problem.clone());
                    plan.stale.insert(name, (file, vec![problem]));
                }
            }
        }
        for name in &plan.gone {
            self.agents.withdraw(&self.namespace, name).await?;
            if known.active.remove(name).is_some() {
                tracing::info!(agent = %name, "agent withdrawn, its file is gone");
            }
            known.owners.0.remove(name);
        }
        if !plan.gone.is_empty() {
            known.owners.save(self.state.as_ref(), &self.namespace, self.clock.as_ref()).await?;
        }
        for (name, (file, problems)) in plan.stale {
            if let Some(version) = known.active.get(&name).cloned() {
                view.agents.insert(name, CatalogueEntry { file, version, status: EntryStatus::Stale(problems) });
            }
        }
        view.problems = plan.problems;
        view.problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        self.show(view);
        Ok(())
    }

    /// Before anything is published, so that no agent is ever active whose file is not known.
    async fn remember_owners(&self, known: &mut Known, plan: &Plan) -> Result<(), StateError> {
        let mut owners = known.owners.clone();
        owners.0.extend(plan.good.iter().map(|(name, (file, _))| (name.clone(), file.clone())));
        if owners != known.owners {
            owners.save(self.state.as_ref(), &self.namespace, self.clock.as_ref()).await?;
            known.owners = owners;
        }
        Ok(())
    }

    async fn publish(
        &self,
        known: &mut Known,
        name: &AgentName,
        spec: AgentSpec,
    ) -> Result<Arc<AgentVersion>, StateError> {
        if let Some(active) = known.active.get(name).filter(|active| active.spec == spec) {
            return Ok(Arc::clone(active));
        }
        failpoint::hit("C32");
        let (version, new) = self.agents.publish(&self.namespace, spec).await?;
        known.active.insert(name.clone(), Arc::clone(&version));
        failpoint::hit("C33");
        if new {
            counter!("config_versions_published_total").increment(1);
            tracing::info!(agent = %name, version = version.version, "agent published");
            let body = EventBody::AgentUpdated { agent: name.clone(), version: version.version };
            self.events.publish(Event { namespace: self.namespace.clone(), body });
        }
        Ok(version)
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
