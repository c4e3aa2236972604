//! Agents as people ask for them: what they are, and what they do at the moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::problem::{self, Kind, Problem};
use domain::{AgentName, ExecutionMode, Namespace, TaskStatus};
use state::agents::{AgentVersion, Agents};
use state::{State, StateError, StateStats};
use wire::{AgentStatus, AgentView};

use super::pools::{Judgement, Pools, Trouble};

/// How many similar names a "did you mean" lists.
const SIMILAR_MAX: usize = 3;

/// The agents of the record with their work.
#[derive(Clone)]
pub struct AgentsView {
    state: Arc<dyn State>,
    agents: Arc<Agents>,
    pools: Pools,
}

/// Why an agent cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It does not exist, or was withdrawn.
    #[error("agent {agent} does not exist")]
    Unknown {
        /// The agent that was asked for.
        agent: AgentName,
        /// Agents with similar names.
        similar: Vec<AgentName>,
    },
    /// The record could not be read.
    #[error("could not read the agents")]
    State(#[from] StateError),
}

impl From<AgentError> for Problem {
    fn from(error: AgentError) -> Self {
        let text = error.to_string();
        match error {
            AgentError::Unknown { similar, .. } => unknown(&text, "path.agent", &similar),
            AgentError::State(error) => error.into(),
        }
    }
}

impl utoipa::IntoResponses for AgentError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::UnknownAgent, Kind::Unavailable])
    }
}

/// The problem of an agent that does not exist.
pub(super) fn unknown(text: &str, pointer: &str, similar: &[AgentName]) -> Problem {
    let problem = Problem::new(Kind::UnknownAgent).detail(text).fault(pointer, "no agent has this name");
    if similar.is_empty() {
        return problem;
    }
    let names: Vec<_> = similar.iter().map(|name| format!("`{name}`")).collect();
    problem.hint(format!("did you mean {}?", names.join(" or ")))
}

impl AgentsView {
    /// Reads from the record, and asks what pools told.
    pub fn new(state: Arc<dyn State>, agents: Arc<Agents>, pools: Pools) -> Self {
        Self { state, agents, pools }
    }

    /// Lists all agents by name.
    pub async fn list(&self, namespace: &Namespace) -> Result<Vec<AgentView>, AgentError> {
        let agents = self.agents.list(namespace).await?;
        let stats = self.state.stats(Some(namespace)).await?;
        let work = Work::of(&stats);
        let judges = ExecutionMode::ALL.map(|mode| (mode, self.pools.judge(mode)));
        let judged = |agent: &AgentVersion| {
            let judge = judges.iter().find(|(mode, _)| *mode == agent.spec.execution_mode);
            judge.map(|(_, judge)| judge.of(namespace, &agent.spec.name))
        };
        let stale = self.agents.stale(namespace).await?;
        let view = |agent: &Arc<AgentVersion>| mark_stale(work.view(agent, judged(agent)), &stale);
        Ok(agents.iter().map(view).collect())
    }

    /// The execution mode of every agent.
    pub async fn modes(&self, namespace: &Namespace) -> Result<HashMap<AgentName, ExecutionMode>, StateError> {
        let agents = self.agents.list(namespace).await?;
        Ok(agents.iter().map(|agent| (agent.spec.name.clone(), agent.spec.execution_mode)).collect())
    }

    /// Finds one agent.
    pub async fn find(&self, namespace: &Namespace, name: &AgentName) -> Result<AgentView, AgentError> {
        let Some(agent) = self.agents.active(namespace, name).await? else {
            let similar = similar(&self.agents, namespace, name).await;
            return Err(AgentError::Unknown { agent: name.clone(), similar });
        };
        let stats = self.state.stats(Some(namespace)).await?;
        let judged = self.pools.judge(agent.spec.execution_mode).of(namespace, name);
        let stale = self.agents.stale(namespace).await?;
        Ok(mark_stale(Work::of(&stats).view(&agent, Some(judged)), &stale))
    }
}

/// An agent whose file is wrong works, but not as its file says.
fn mark_stale(mut view: AgentView, stale: &BTreeMap<AgentName, String>) -> AgentView {
    if let Some(file) = stale.get(&view.name) {
        view.status = AgentStatus::Degraded;
        view.reason
            .get_or_insert_with(|| format!("its file {file} is wrong, see /configs/errors of the config-service"));
    }
    view
}

/// Finds agents whose names are written almost alike; none when the record cannot be asked.
pub(super) async fn similar(agents: &Agents, namespace: &Namespace, name: &AgentName) -> Vec<AgentName> {
    let known = agents.list(namespace).await.unwrap_or_default();
    closest(name, known.iter().map(|agent| &agent.spec.name))
}

fn closest<'a>(name: &AgentName, known: impl Iterator<Item = &'a AgentName>) -> Vec<AgentName> {
    let mut near: Vec<_> = known
        .map(|other| (strsim::damerau_levenshtein(name.as_str(), other.as_str()), other))
        .filter(|(distance, other)| *distance <= 1 + other.as_str().len() / 4 || other.as_str().contains(name.as_str()))
        .collect();
    near.sort();
    near.into_iter().take(SIMILAR_MAX).map(|(_, name)| name.clone()).collect()
}

/// Tasks that have not ended, by agent.
struct Work<'a>(HashMap<(&'a AgentName, TaskStatus), u64>);

impl<'a> Work<'a> {
    fn of(stats: &'a StateStats) -> Self {
        Self(stats.active.iter().map(|(agent, status, count)| ((agent, *status), *count)).collect())
    }

    fn view(&self, agent: &AgentVersion, judged: Option<Judgement>) -> AgentView {
        let spec = &agent.spec;
        let count = |status| self.0.get(&(&spec.name, status)).copied().unwrap_or(0);
        let (running, queued) = (count(TaskStatus::Running), count(TaskStatus::Queued));
        let waiting = count(TaskStatus::Waiting);
        let (trouble, last_seen) = judged.map_or((None, None), |judged| (judged.trouble, judged.last_seen));
        let (status, reason) = match trouble {
            Some(Trouble::Degraded(reason)) => (AgentStatus::Degraded, Some(reason)),
            Some(Trouble::Paused(reason)) => (AgentStatus::Paused, Some(reason)),
            None => (AgentStatus::of(running, queued, waiting), None),
        };
        AgentView {
            name: spec.name.clone(),
            status,
            execution_mode: spec.execution_mode,
            description: spec.description.clone(),
            version: agent.version,
            model: spec.model.name.clone(),
            tools: spec.tools.iter().map(|tool| tool.name.clone()).collect(),
            running,
            queued,
            waiting,
            reason,
            last_seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AgentName {
        AgentName::new(text).unwrap()
    }

    #[test]
    fn the_closest_names_come_first_and_strangers_not_at_all() {
        let known = ["researcher", "searcher", "writer", "research-lead"].map(name);
        let near = closest(&name("reseacher"), known.iter());
        assert_eq!(near.first(), Some(&name("researcher")));
        assert!(!near.contains(&name("writer")));
        assert!(closest(&name("zzz"), known.iter()).is_empty());
    }
}
