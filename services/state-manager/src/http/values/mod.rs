//! Versioned values.

mod conditions;
pub(super) mod delete;
pub(super) mod get;
pub(super) mod list;
pub(super) mod put;

use common::problem::{Kind, Problem};
use domain::{Namespace, Timestamp};
use serde::{Deserialize, Serialize};
use state::StateValue;
use utoipa::{IntoParams, ToSchema};

use crate::app::{Key, Scope, ValueError};

/// Names a value.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ValuePath {
    /// The scope: lower-case letters, digits, dots, underscores and dashes, at most 63.
    #[param(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,62}$", example = "notes")]
    scope: Scope,
    /// The key: letters, digits, dots, underscores, colons, at signs and dashes, at most 200.
    #[param(value_type = String, pattern = "^[A-Za-z0-9._:@-]{1,200}$", example = "last-report")]
    key: Key,
}

/// A stored value's version and times.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionView {
    /// The key.
    #[schema(example = "last-report")]
    key: String,
    /// Counts up at every put; also the `ETag`. A key that was deleted and put again starts anew at 1.
    #[schema(example = 3)]
    version: u64,
    /// When it was put.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When it disappears.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl From<&StateValue> for VersionView {
    fn from(value: &StateValue) -> Self {
        Self {
            key: value.key.clone(),
            version: value.version,
            updated_at: value.updated_at,
            expires_at: value.expires_at,
        }
    }
}

impl From<ValueError> for Problem {
    fn from(error: ValueError) -> Self {
        let text = error.to_string();
        match error {
            ValueError::Unknown { .. } => Self::new(Kind::UnknownValue).detail(text),
            ValueError::Reserved { .. } => Self::new(Kind::ReservedScope).detail(text),
            ValueError::State(error) => error.into(),
        }
    }
}

/// Without authentication everyone is in the default namespace.
fn namespace() -> Namespace {
    Namespace::default()
}
