//! Lists come in pages.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Asks for the page after this one, as `cursor`; absent on the last page. Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "eyJhIjoiMDE5NWQifQ")]
    pub next_cursor: Option<String>,
}
