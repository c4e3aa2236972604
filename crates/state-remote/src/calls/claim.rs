//! The claim: what it gives is given back when whoever asked no longer waits for it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use state::{Claimed, State, StateError};
use tokio::sync::OwnedSemaphorePermit;

use crate::call::Call;
use crate::method::Method;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) claim: state::Claim,
}

impl Call for Claim {
    const METHOD: Method = Method::CLAIM;
    type Answer = Option<Claimed>;

    fn list(&self) -> u32 {
        self.claim.thread_messages
    }

    async fn perform(self, state: &dyn State) -> Result<Self::Answer, StateError> {
        state.claim(self.claim).await
    }

    async fn within(
        self,
        state: Arc<dyn State>,
        budget: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Option<Result<Self::Answer, StateError>> {
        let task = self.claim.task;
        let claiming = Arc::clone(&state);
        // A task of its own: a claim that is dropped half-way may be granted all the same.
        let mut claim = tokio::spawn(async move { self.perform(&*claiming).await });
        if let Ok(granted) = tokio::time::timeout(budget, &mut claim).await {
            return Some(granted.unwrap_or_else(|_| Err(StateError::Unavailable("the claim broke off".to_owned()))));
        }
        tokio::spawn(async move {
            if let Ok(Ok(Some(claimed))) = claim.await {
                let released = state.release(claimed.lease()).await.is_ok();
                tracing::warn!(task.id = %task, released, "a claim was granted after its deadline");
            }
            drop(permit);
        });
        None
    }
}
