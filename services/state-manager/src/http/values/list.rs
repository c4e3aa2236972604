//! Lists a scope's values.

use axum::Json;
use axum::extract::State;
use common::extract::{Path, Query};
use common::page::{Cursor, Limit};
use common::problem::{self, Kind, Problem};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use state::StateValue;
use utoipa::{IntoParams, ToSchema};
use wire::Page;

use super::{VersionView, namespace};
use crate::app::Scope;
use crate::http::App;

/// The most values of a page; they are large.
const MOST: u32 = 100;
/// A page ends early behind the value with which it has this many bytes.
const PAGE_BYTES: usize = 8 << 20;

/// Names a scope.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ScopePath {
    /// The scope.
    #[param(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,62}$", example = "notes")]
    scope: Scope,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// How many values, 1 to 100; there may be fewer on a page that is not the last.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 100)]
    limit: Limit,
}

/// A stored value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ValueView {
    #[serde(flatten)]
    version: VersionView,
    /// The value.
    #[schema(value_type = serde_json::Value)]
    value: Box<RawValue>,
}

/// Why values cannot be listed.
pub(crate) struct ListStatesError;

impl utoipa::IntoResponses for ListStatesError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::InvalidCursor, Kind::Unavailable])
    }
}

/// Lists a scope's values by key. A scope without values is an empty list.
#[utoipa::path(get, path = "/states/{scope}", operation_id = "state_list", tag = "states",
    params(ScopePath, ListQuery),
    responses((status = 200, description = "A page", body = Page<ValueView>), ListStatesError))]
#[tracing::instrument(name = "http.state.list", skip_all)]
pub(crate) async fn list_states(
    State(app): State<App>,
    Path(path): Path<ScopePath>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ValueView>>, Problem> {
    let namespace = namespace();
    let list = ("states", &namespace, path.scope.as_str());
    let after = query.cursor.map(|cursor| cursor.after::<String>(&list)).transpose()?;
    let limit = query.limit.get().min(MOST);
    let page = app.values.list(&namespace, &path.scope, after.as_deref(), limit).await?;
    let (items, more) = fitting(page.items, page.more)?;
    let last = items.last().filter(|_| more).map(|view| &view.version.key);
    let next_cursor = last.map(|key| Cursor::new(&list, key).as_str().to_owned());
    Ok(Json(Page { items, next_cursor }))
}

/// The first values, as many as a page has room for, and whether others follow.
fn fitting(values: Vec<StateValue>, more: bool) -> Result<(Vec<ValueView>, bool), Problem> {
    let all = values.len();
    let mut items = Vec::with_capacity(all);
    let mut bytes = 0;
    for value in values {
        if bytes >= PAGE_BYTES {
            break;
        }
        let text =
            to_raw_value(&value.value).map_err(|error| Problem::new(Kind::Internal).detail(error.to_string()))?;
        bytes += text.get().len();
        items.push(ValueView { version: VersionView::from(&value), value: text });
    }
    let more = more || items.len() < all;
    Ok((items, more))
}
