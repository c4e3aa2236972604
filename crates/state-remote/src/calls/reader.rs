//! What is read about tasks, threads and accounts.

use domain::{BudgetLevel, Namespace, Step, TaskId, Thread, ThreadId, ThreadMessage, Timestamp};
use serde_json::Value;
use state::{AccountView, Artifact, GateWait, Page, State, StateError, StateStats, TaskFilter};

crate::call::calls! {
    Task { namespace: Namespace, task: TaskId } -> Option<domain::Task>,
        TASK => |state| state.task(&namespace, task);
    Answer { namespace: Namespace, task: TaskId } -> Vec<Value>,
        ANSWER => |state| answered(state, &namespace, task);
    TaskWithAnswer { namespace: Namespace, task: TaskId } -> Option<(domain::Task, Vec<Value>)>,
        TASK_WITH_ANSWER => |state| task_answered(state, &namespace, task);
    Tasks { namespace: Namespace, filter: TaskFilter, after: Option<TaskId>, limit: u32 } -> Page<domain::Task>,
        TASKS, limit limit => |state| state.tasks(&namespace, filter, after, limit);
    Journal { namespace: Namespace, task: TaskId, from: u32, limit: u32 } -> Vec<Step>,
        JOURNAL, limit limit => |state| state.journal(&namespace, task, from, limit);
    Threads { namespace: Namespace, after: Option<ThreadId>, limit: u32 } -> Page<Thread>,
        THREADS, limit limit => |state| state.threads(&namespace, after, limit);
    ThreadMessages { namespace: Namespace, thread: ThreadId, after: u64, limit: u32 } -> Option<Vec<ThreadMessage>>,
        THREAD_MESSAGES, limit limit => |state| state.thread_messages(&namespace, thread, after, limit);
    Budget { namespace: Namespace, task: TaskId, now: Timestamp } -> Vec<BudgetLevel>,
        BUDGET => |state| state.budget(&namespace, task, now);
    Accounts { namespace: Namespace, now: Timestamp } -> Vec<AccountView>,
        ACCOUNTS => |state| state.accounts(&namespace, now);
    Gate { namespace: Namespace, task: TaskId, now: Timestamp } -> Option<GateWait>,
        GATE => |state| state.gate(&namespace, task, now);
    Artifacts { namespace: Namespace, task: TaskId } -> Vec<Artifact>,
        ARTIFACTS => |state| state.artifacts(&namespace, task);
    Referenced { digests: Vec<[u8; 32]> } -> Vec<bool>,
        REFERENCED => |state| state.referenced(digests);
    Stats { namespace: Option<Namespace> } -> StateStats,
        STATS => |state| state.stats(namespace.as_ref());
}

async fn task_answered(
    state: &dyn State,
    namespace: &Namespace,
    task: TaskId,
) -> Result<Option<(domain::Task, Vec<Value>)>, StateError> {
    let found = state.task_with_answer(namespace, task).await?;
    Ok(found.map(|(task, answer)| (task, answer.into_iter().collect())))
}

/// None or one: an answer may be `null`, which is not the same as no answer.
async fn answered(state: &dyn State, namespace: &Namespace, task: TaskId) -> Result<Vec<Value>, StateError> {
    Ok(state.answer(namespace, task).await?.into_iter().collect())
}
