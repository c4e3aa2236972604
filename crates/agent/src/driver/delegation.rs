//! From what a tool wants to wait for to a wait that can be recorded, sub-tasks included.

use domain::{NewTask, ParentRef, TaskId, TaskInput, Wait, WaitFor};
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
            WaitOn::Signal { name, question, options } => (WaitFor::Signal { name, question, options }, None),
            WaitOn::Timer { at } => (WaitFor::Timer { at }, None),
            WaitOn::Delegate { agent, input } => match self.child(pending, agent, input).await? {
                Ok(child) => (WaitFor::Child { task: child.id, agent: child.agent.clone() }, Some(child)),
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let wait =
            Wait { call_id: pending.call.id.clone(), on, expires_at: request.expires_at, default: request.default };
        Ok(Ok((wait, child)))
    }

    /// A sub-task inherits what bounds its parent: deadline, user, priority, and one delegation less.
    async fn child(
        &self,
        pending: &PendingCall,
        agent: domain::AgentName,
        input: TaskInput,
    ) -> Result<Result<NewTask, String>, Leave> {
        let limits = &self.prepared.agent.limits;
        if self.task.depth >= limits.max_depth {
            return Ok(Err(format!("limits.max_depth: {} delegations lie above this task", self.task.depth)));
        }
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
        let digest = {
            let mut hasher = blake3::Hasher::new();
            hasher.update(agent.as_str().as_bytes());
            hasher.update(&[0]);
            hasher.update(input.prompt.as_bytes());
            hasher.update(&[0]);
            if let Some(data) = &input.data {
                hasher.update(data.to_string().as_bytes());
            }
            *hasher.finalize().as_bytes()
        };
        Ok(Ok(NewTask {
            id: TaskId(parts.ids.uuid()),
            namespace: self.task.namespace.clone(),
            idempotency_key: None,
            digest,
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
            parent: Some(ParentRef { task: self.task.id, call_id: pending.call.id.clone() }),
            depth: self.task.depth + 1,
            metadata: std::collections::BTreeMap::new(),
            trace: self.task.trace.clone(),
            terms: domain::Terms::default(),
        }))
    }
}
