//! What people and programs ask of tasks, and whether the record answers at all.

use domain::{Namespace, NewTask, TaskId};
use state::{Cancelled, Submitted, Transition};

crate::call::calls! {
    Submit { task: NewTask } -> Submitted,
        SUBMIT => |state| state.submit(task);
    Retry { namespace: Namespace, task: TaskId, keep_journal: bool } -> Transition,
        RETRY => |state| state.retry(&namespace, task, keep_journal);
    Cancel { namespace: Namespace, task: TaskId } -> Cancelled,
        CANCEL => |state| state.cancel(&namespace, task);
    Ping {} -> (),
        PING => |state| state.ping();
}
