//! One try of a call, and what is known of it when it fails.

use std::time::Duration;

use bus::BusError;
use state::StateError;

use super::RemoteState;
use crate::call::Call;
use crate::frame::{Answer, Reason, Refusal, Request};
use crate::method::Method;

/// A try that failed.
pub(super) struct Failed {
    /// What the caller is told when it is the last one.
    pub(super) error: StateError,
    /// What is known of it.
    pub(super) certainty: Certainty,
}

/// What is known of a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The record, or its server, has spoken: another try would hear the same.
    Final,
    /// Nothing was done.
    NotDone,
    /// It may have been done.
    Unknown,
}

impl RemoteState {
    pub(super) async fn attempt<C: Call>(
        &self,
        method: Method,
        request: &Request,
        budget: Duration,
    ) -> Result<C::Answer, Failed> {
        let frame = request.with_budget(budget);
        let asked = if method.is_gathered() {
            self.gathered.ask(method, frame, budget).await
        } else {
            self.requests.request(&method.subject(), frame, budget).await
        };
        let frame = asked.map_err(|error| unanswered(method, error))?;
        match Answer::<C::Answer>::read(&frame) {
            Ok(Answer::Done(answer)) => Ok(answer),
            Ok(Answer::Failed(error)) => Err(Failed { error, certainty: Certainty::Final }),
            Ok(Answer::Refused(refusal)) => Err(refused(method, refusal)),
            // A newer server, perhaps: time heals that, another try at once does not.
            Err(why) => {
                let error = format!("the answer to {} is not understood: {why}", method.name);
                Err(Failed { error: StateError::Unavailable(error), certainty: Certainty::Final })
            }
        }
    }
}

fn unanswered(method: Method, error: BusError) -> Failed {
    let (error, certainty) = match error {
        BusError::NoResponder { .. } => {
            let error = StateError::Unavailable(format!("no state-manager answers {}", method.subject()));
            (error, Certainty::NotDone)
        }
        error @ BusError::TooLarge { .. } => (StateError::TooLarge(error.to_string()), Certainty::Final),
        BusError::Closed => (StateError::Closed, Certainty::Final),
        error => (StateError::Unavailable(error.to_string()), Certainty::Unknown),
    };
    Failed { error, certainty }
}

fn refused(method: Method, refusal: Refusal) -> Failed {
    let Refusal { reason, detail } = refusal;
    let unavailable = || StateError::Unavailable(format!("{} was refused: {detail}", method.name));
    let (error, certainty) = match reason {
        Reason::Overloaded | Reason::Expired => (unavailable(), Certainty::NotDone),
        Reason::Late | Reason::Stopping => (unavailable(), Certainty::Unknown),
        Reason::Version | Reason::Other => (unavailable(), Certainty::Final),
        Reason::TooLarge => (StateError::TooLarge(detail), Certainty::Final),
        Reason::Malformed => {
            let error = format!("{} was refused: {detail}", method.name);
            (StateError::Corrupt(error), Certainty::Final)
        }
    };
    Failed { error, certainty }
}
