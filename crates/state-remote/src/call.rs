//! A call as a value: what is written into a request, and what the server does with it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use state::{State, StateError};
use tokio::sync::OwnedSemaphorePermit;

use crate::method::Method;

/// A call of one method with its arguments.
pub(crate) trait Call: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The method.
    const METHOD: Method;
    /// What it answers.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// The rule for this very call.
    fn method(&self) -> Method {
        Self::METHOD
    }

    /// How long a list it asks for.
    fn list(&self) -> u32 {
        0
    }

    /// Makes the call.
    fn perform(self, state: &dyn State) -> impl Future<Output = Result<Self::Answer, StateError>> + Send;

    /// Makes the call within a time; `None` when that has passed, and nobody knows what became of it. `permit` is dropped when
    /// nothing of it is under way any more.
    fn within(
        self,
        state: Arc<dyn State>,
        budget: Duration,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = Option<Result<Self::Answer, StateError>>> + Send {
        async move {
            let answer = tokio::time::timeout(budget, self.perform(&*state)).await.ok();
            drop(permit);
            answer
        }
    }
}

/// Declares calls with their arguments, and `serve_all` for them. `limit` names the argument that is the length of a list.
macro_rules! calls {
    ($(
        $name:ident { $($field:ident: $type:ty),* $(,)? } -> $answer:ty,
        $method:ident $(, limit $limit:ident)? => |$state:ident| $call:expr;
    )*) => {
        $(
            #[derive(Debug, serde::Serialize, serde::Deserialize)]
            pub(crate) struct $name {
                $(pub(crate) $field: $type),*
            }

            impl $crate::call::Call for $name {
                const METHOD: $crate::method::Method = $crate::method::Method::$method;
                type Answer = $answer;

                $(
                    fn list(&self) -> u32 {
                        self.$limit
                    }
                )?

                async fn perform(self, $state: &dyn state::State) -> Result<$answer, state::StateError> {
                    let Self { $($field),* } = self;
                    $call.await
                }
            }
        )*

        /// Serves these calls.
        pub(crate) async fn serve_all(endpoints: &mut $crate::server::Endpoints<'_>) -> Result<(), bus::BusError> {
            $(endpoints.serve::<$name>().await?;)*
            Ok(())
        }
    };
}

pub(crate) use calls;
