//! How an endpoint's errors get into its OpenAPI description.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use utoipa::PartialSchema as _;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

use super::{Fault, Kind, Problem, ProblemBody};

/// Responses by status, as `utoipa::IntoResponses` wants them.
pub type Responses = BTreeMap<String, RefOr<Response>>;

/// Describes the kinds of problem that an endpoint answers with, one response a status.
///
/// An endpoint's error enum implements `utoipa::IntoResponses` with it and is then named in `responses(…)`.
pub fn responses(kinds: &[Kind]) -> Responses {
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for &kind in kinds {
        by_status.entry(kind.status()).or_default().push(kind);
    }
    by_status.into_iter().map(|(status, kinds)| (status.to_string(), RefOr::T(response(&kinds)))).collect()
}

fn response(kinds: &[Kind]) -> Response {
    let mut description = String::new();
    for kind in kinds {
        if !description.is_empty() {
            description.push_str("; ");
        }
        let _ = write!(description, "{} (`/errors/{}`)", kind.title(), kind.slug());
    }
    let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
    if let [kind] = kinds {
        content = content.example(serde_json::to_value(Problem::new(*kind).body()).ok());
    }
    ResponseBuilder::new().description(description).content("application/problem+json", content.build()).build()
}

/// Adds the schemas that [`responses`] refers to, and to every operation the answer that any of them can give.
pub(crate) fn complete(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    components.schemas.insert("Fault".to_owned(), Fault::schema());
    components.schemas.insert("Problem".to_owned(), ProblemBody::schema());
    for item in api.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch, &mut item.head];
        for operation in operations.into_iter().flatten() {
            operation
                .responses
                .responses
                .entry("default".to_owned())
                .or_insert_with(|| RefOr::T(response(&[Kind::Internal, Kind::Timeout, Kind::Unavailable])));
        }
    }
}
