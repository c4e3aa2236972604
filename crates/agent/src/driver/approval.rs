//! Calls that a person must allow: they wait, and the others go on.

use domain::{Wait, WaitFor};

use super::Run;
use crate::machine::{PendingCall, approval_digest};

impl Run<'_> {
    /// Keeps the calls that may be made now; those that a person must allow first are put among the waits.
    ///
    /// A call that would be refused in any case is not worth a person's time: it stays, and is refused.
    pub(super) fn hold_for_approval(&mut self, calls: Vec<PendingCall>) -> Vec<PendingCall> {
        let prepared = std::sync::Arc::clone(&self.prepared);
        let mut allowed = Vec::with_capacity(calls.len());
        for pending in calls {
            let (tool, arguments) = (&pending.call.name, &pending.call.arguments);
            let found = prepared.toolbox.get(tool);
            // Arguments are compared with their schema only for a call that somebody must allow.
            let reason = found
                .and_then(|found| self.history.needs_approval(&found.spec, &pending))
                .filter(|_| prepared.toolbox.check(tool, arguments).is_ok());
            let Some(reason) = reason else {
                allowed.push(pending);
                continue;
            };
            let on = WaitFor::Approval {
                tool: tool.clone(),
                arguments: arguments.clone(),
                digest: approval_digest(self.task.id, self.task.agent_version, &pending.call),
                reason,
            };
            let wait = Wait { call_id: pending.call.id, on, expires_at: None, default: None };
            self.waiting.push((wait, None));
        }
        allowed
    }
}
