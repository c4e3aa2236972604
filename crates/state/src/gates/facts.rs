//! What one process decided about gates, for the replicas of the others.

use domain::{ExecutionMode, Gate, GateLimit, Namespace, TaskId};
use serde::{Deserialize, Serialize};

use super::{Candidate, Gates, Standing};

#[cfg(test)]
mod tests;

/// Where a task with gates stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A gate holds it back.
    Held,
    /// It was woken, and nobody else is given its places.
    Promised,
    /// It was woken, and did not come in time.
    Lapsed,
    /// A worker holds it.
    Running,
}

/// One change of what is known of gates. In the order in which they were decided, they make a replica equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A task with gates asked for its places.
    Came {
        /// The task.
        task: TaskId,
        /// Its row.
        key: i64,
        /// Its namespace.
        namespace: Namespace,
        /// The pool that runs it.
        mode: ExecutionMode,
        /// 0 (last) to 9 (first).
        priority: u8,
        /// The gates that concern it now.
        gates: Vec<Gate>,
    },
    /// Where a task that came stands now.
    Stands {
        /// The task.
        task: TaskId,
        /// Where.
        place: Place,
    },
    /// A task has nothing to do with its gates any more.
    Left {
        /// The task.
        task: TaskId,
    },
    /// A limit on starts counts one more.
    Started {
        /// The gate's namespace.
        namespace: Namespace,
        /// Its key.
        gate: String,
        /// When, in microseconds since 1970.
        at: i64,
        /// When no window counts it any more.
        forget_at: i64,
    },
}

impl Fact {
    pub(super) fn came(candidate: &Candidate<'_>) -> Self {
        let concerns = |gate: &&Gate| !candidate.started || matches!(gate.limit, GateLimit::Running { .. });
        Self::Came {
            task: candidate.id,
            key: candidate.key,
            namespace: candidate.namespace.clone(),
            mode: candidate.mode,
            priority: candidate.priority,
            gates: candidate.gates.iter().filter(concerns).cloned().collect(),
        }
    }
}

impl Gates {
    /// Begins to remember what is decided, for `take_facts`.
    pub fn remember_facts(&mut self) {
        self.facts.get_or_insert_default();
    }

    /// What was decided since the last call, in order.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        self.facts.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Tells whether nothing was decided since `take_facts`.
    pub fn is_unchanged(&self) -> bool {
        self.facts.as_ref().is_none_or(Vec::is_empty)
    }

    /// Applies what another replica decided. False when it speaks of a task that this one does not know: it has missed
    /// something, and must be made anew from the record.
    #[must_use]
    pub fn apply(&mut self, fact: &Fact) -> bool {
        let own = self.facts.take();
        let understood = self.change(fact);
        self.facts = own;
        understood
    }

    fn change(&mut self, fact: &Fact) -> bool {
        match fact {
            Fact::Came { task, key, namespace, mode, priority, gates } => {
                self.remove(*task);
                let (id, key, mode, priority) = (*task, *key, *mode, *priority);
                let candidate = Candidate { id, key, namespace, mode, priority, started: false, gates };
                let gates = self.gates_of(&candidate);
                self.know(&candidate, gates);
            }
            Fact::Stands { task, place } => {
                if !self.tasks.contains_key(task) {
                    return false;
                }
                self.stand(*task, *place);
            }
            Fact::Left { task } => {
                self.remove(*task);
            }
            Fact::Started { namespace, gate, at, forget_at } => {
                self.restore_start(namespace.clone(), gate.clone(), *at, *forget_at);
            }
        }
        true
    }

    /// Puts a known task where it stands.
    pub(super) fn stand(&mut self, task: TaskId, place: Place) {
        match place {
            Place::Running => self.run(task),
            Place::Promised => drop(self.promise(task)),
            Place::Held => {
                self.unqueue(task);
                self.queue(task);
            }
            Place::Lapsed => {
                self.unqueue(task);
                if let Some(known) = self.tasks.get_mut(&task) {
                    known.standing = Standing::Lapsed;
                }
            }
        }
    }

    /// Remembers a fact, if somebody will ask.
    pub(super) fn tell(&mut self, fact: impl FnOnce() -> Fact) {
        if let Some(facts) = &mut self.facts {
            facts.push(fact());
        }
    }
}
