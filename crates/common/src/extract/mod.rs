//! What comes in: extractors whose rejections are problems that name the place and the reason.

mod json_scan;
mod strict_json;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::config::did_you_mean;
use crate::problem::{Fault, Kind, Problem};

pub use strict_json::{BodyLimit, DEFAULT_BODY_LIMIT, StrictJson, parse_json};

/// The parameters of the path. What cannot be read is `invalid-request`, with `path.NAME` as the pointer.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.path().contains("%00") {
            return Err(Problem::invalid("path", "contains a NUL character"));
        }
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => match &rejection {
                // A type's own error does not say which parameter it was.
                PathRejection::FailedToDeserializePathParams(failure)
                    if matches!(failure.kind(), ErrorKind::Message(_)) =>
                {
                    let named = match RawPathParams::from_request_parts(parts, state).await {
                        Ok(parameters) => located::<T>(&parameters),
                        Err(_) => None,
                    };
                    Err(named.unwrap_or_else(|| path_problem(&rejection, parts)))
                }
                _ => Err(path_problem(&rejection, parts)),
            },
        }
    }
}

fn path_problem(rejection: &PathRejection, parts: &Parts) -> Problem {
    let PathRejection::FailedToDeserializePathParams(failure) = rejection else {
        tracing::error!(error = %rejection, "a handler asks for path parameters that its route does not have");
        return Problem::new(Kind::Internal);
    };
    match failure.kind() {
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
            Problem::invalid(format!("path.{key}"), format!("must be {expected_type}"))
        }
        ErrorKind::DeserializeError { key, message, .. } => Problem::invalid(format!("path.{key}"), message),
        ErrorKind::InvalidUtf8InPathParam { key } => Problem::invalid(format!("path.{key}"), "is not UTF-8"),
        ErrorKind::ParseErrorAtIndex { index, expected_type, .. } => {
            Problem::invalid(parameter(parts, *index), format!("must be {expected_type}"))
        }
        ErrorKind::ParseError { expected_type, .. } => {
            Problem::invalid(parameter(parts, 0), format!("must be {expected_type}"))
        }
        ErrorKind::Message(reason) => Problem::invalid(parameter(parts, 0), reason),
        kind @ (ErrorKind::WrongNumberOfParameters { .. } | ErrorKind::UnsupportedType { .. }) => {
            tracing::error!(error = %kind, "a handler asks for path parameters that its route does not have");
            Problem::new(Kind::Internal)
        }
        kind => Problem::invalid("path", kind.to_string()),
    }
}

/// Reads the parameters once more, as a query, to learn which one is wrong.
fn located<T: DeserializeOwned>(parameters: &RawPathParams) -> Option<Problem> {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters.iter()).finish();
    let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()));
    let error = serde_path_to_error::deserialize::<_, T>(pairs).err()?;
    let name = error.path().to_string();
    let known = parameters.iter().any(|(parameter, _)| parameter == name);
    known.then(|| Problem::invalid(format!("path.{name}"), error.inner().to_string()))
}

/// The pointer to a parameter that is known by its place only.
fn parameter(parts: &Parts, index: usize) -> String {
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let name = route.split('{').nth(index + 1).and_then(|rest| rest.split('}').next());
    name.map_or_else(|| "path".to_owned(), |name| format!("path.{}", name.trim_start_matches('*')))
}

/// The parameters of the query. What cannot be read is `invalid-request`, with `query.NAME` as the pointer.
///
/// Give the struct `deny_unknown_fields`, so that a misspelt filter does not silently list everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    if query.contains("%00") {
        return Err(Problem::invalid("query", "contains a NUL character"));
    }
    let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let name = error.path().to_string();
        let pointer = if name == "." { "query".to_owned() } else { format!("query.{name}") };
        Problem { errors: vec![fault(pointer, error.inner())], ..Problem::new(Kind::InvalidRequest) }
    })
}

/// A fault with what was probably meant, which is read from the words that serde uses for unknown names.
fn fault(pointer: String, error: &impl std::fmt::Display) -> Fault {
    let reason = error.to_string();
    let mut quoted = reason.split('`').skip(1).step_by(2);
    let hint = reason
        .starts_with("unknown ")
        .then(|| quoted.next().and_then(|name| did_you_mean(name, quoted)))
        .flatten()
        .map(|meant| format!("did you mean `{meant}`?"));
    Fault { pointer, reason, hint }
}
