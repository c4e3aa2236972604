//! The signal: harmless to repeat with a key, and not without one.

use domain::{Namespace, TaskId};
use serde::{Deserialize, Serialize};
use state::{State, StateError, Transition};

use crate::call::Call;
use crate::method::Method;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Signal {
    pub(crate) namespace: Namespace,
    pub(crate) task: TaskId,
    pub(crate) signal: state::Signal,
}

impl Call for Signal {
    const METHOD: Method = Method::SIGNAL;
    type Answer = Transition;

    fn method(&self) -> Method {
        if self.signal.key.is_some() { Method::SIGNAL_WITH_KEY } else { Method::SIGNAL }
    }

    async fn perform(self, state: &dyn State) -> Result<Transition, StateError> {
        state.signal(&self.namespace, self.task, self.signal).await
    }
}
