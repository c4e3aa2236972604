//! From what a tool wants to wait for to a wait that can be recorded, and to work for other agents.

use domain::{
    APPROVAL_SIGNALS, AgentName, BUDGET_SIGNALS, NewTask, ParentRef, TaskId, TaskInput, ToolOutcome, Wait, WaitFor,
};
use serde_json::json;
use state::StateError;
use tools::{WaitOn, WaitRequest};

use super::{Leave, Run};
use crate::machine::PendingCall;

type Prepared = (Wait, Option<NewTask>);

impl Run<'_> {
    /// Makes the wait, or says why the model cannot have it.
    pub(super) async fn prepare_wait(
        &mut self,
        pending: &PendingCall,
        request: WaitRequest,
    ) -> Result<Result<Prepared, String>, Leave> {
        let (on, child) = match request.on {
            WaitOn::Signal { name, .. } if is_reserved(&name) => {
                return Ok(Err(format!("the signal {name} is reserved for people's decisions")));
            }
            WaitOn::Signal { name, question, options } => (WaitFor::Signal { name, question, options }, None),
            WaitOn::Timer { at } => (WaitFor::Timer { at }, None),
            WaitOn::Delegate { agent, input } => match self.work_for(agent, input).await? {
                Ok(child) => {
                    let parent = ParentRef { task: self.task.id, call_id: pending.call.id.clone() };
                    let child = NewTask { parent: Some(parent), ..child };
                    (WaitFor::Child { task: child.id, agent: child.agent.clone() }, Some(child))
                }
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let wait =
            Wait { call_id: pending.call.id.clone(), on, expires_at: request.expires_at, default: request.default };
        Ok(Ok((wait, child)))
    }

    /// Gives another agent work that nobody waits for. The same call again names the first task.
    pub(super) async fn send(
        &mut self,
        pending: &PendingCall,
        agent: AgentName,
        input: TaskInput,
    ) -> Result<ToolOutcome, Leave> {
        let task = match self.work_for(agent, input).await? {
            Ok(task) => task,
            Err(refusal) => return Ok(ToolOutcome::Error(refusal)),
        };
        let key = format!("send:{}/{}/{}", self.task.id, pending.answer_seq, pending.index);
        let parts = &self.driver.parts;
        match parts.state.submit(NewTask { idempotency_key: Some(key), ..task }).await {
            Ok(submitted) => {
                // One that was recorded by a run that died was perhaps never announced; a hint may come twice.
                parts.announcer.created(&submitted.task).await;
                Ok(ToolOutcome::Ok(json!({ "task": submitted.task.id })))
            }
            Err(StateError::IdempotencyMismatch { .. }) => {
                Ok(ToolOutcome::Error("another task has the key of this message".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A task for another agent, or why it may not have one. It inherits what bounds this one: deadline, user, priority,
    /// budgets, and one delegation less.
    async fn work_for(&self, agent: AgentName, input: TaskInput) -> Result<Result<NewTask, String>, Leave> {
        let limits = &self.prepared.agent.limits;
        let Some(left) = limits.max_depth.checked_sub(self.task.depth + 1) else {
            return Ok(Err(format!("limits.max_depth: no delegation is left at depth {}", self.task.depth)));
        };
        let made = self.history.children() as usize + self.waiting.iter().filter(|(_, child)| child.is_some()).count();
        if made >= limits.max_children as usize {
            return Ok(Err(format!("limits.max_children: {made} sub-tasks were made")));
        }
        if !self.prepared.agent.delegates.contains(&agent) {
            return Ok(Err(format!("{agent} is not among the agents that may be given work")));
        }
        let Some(version) = self.driver.parts.agents.active(&self.task.namespace, &agent).await? else {
            return Ok(Err(format!("agent {agent} does not exist")));
        };
        let parts = &self.driver.parts;
        let id = TaskId(parts.ids.uuid());
        let allowed = parts.limits.of(&self.task.namespace);
        let terms = domain::terms_of(id, &version.spec, &allowed, None, Some(&self.task.terms));
        // An agent that may go deeper than this one gets no more levels than this one has left.
        let depth = (self.task.depth + 1).max(version.spec.limits.max_depth.saturating_sub(left));
        Ok(Ok(NewTask {
            id,
            namespace: self.task.namespace.clone(),
            idempotency_key: None,
            digest: digest(&agent, &input),
            agent,
            agent_version: version.version,
            mode: version.spec.execution_mode,
            input,
            priority: self.task.priority,
            created_at: parts.clock.now(),
            run_at: None,
            expires_at: None,
            deadline: self.must_end_by().map(|(at, _)| at),
            thread: None,
            user: self.task.user.clone(),
            parent: None,
            depth,
            metadata: std::collections::BTreeMap::new(),
            trace: self.task.trace.clone(),
            terms,
        }))
    }
}

/// Signals that decide about calls and budgets come from people alone: no tool may wait in their place.
fn is_reserved(signal: &str) -> bool {
    [APPROVAL_SIGNALS, BUDGET_SIGNALS].iter().any(|prefix| signal.starts_with(prefix))
}

fn digest(agent: &AgentName, input: &TaskInput) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(agent.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(input.prompt.as_bytes());
    hasher.update(&[0]);
    if let Some(data) = &input.data {
        hasher.update(data.to_string().as_bytes());
    }
    *hasher.finalize().as_bytes()
}
