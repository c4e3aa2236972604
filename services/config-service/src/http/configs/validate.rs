//! Checks an agent's file without publishing it.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use common::extract::Query;
use common::problem::{self, Kind, Problem};
use common::trace::TraceContext;
use domain::AgentSpec;
use domain::agent::{FileProblem, MAX_FILE_BYTES, locate, parse_for};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::AgentSpecSchema;

use crate::http::App;
use crate::http::views::FileError;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the file is called.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ValidateQuery {
    /// The file's name in the errors.
    #[serde(default = "agent_yml")]
    #[param(default = "agent.yml")]
    file: String,
}

fn agent_yml() -> String {
    "agent.yml".to_owned()
}

/// A file that is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ValidConfig {
    /// Always true.
    valid: bool,
    /// What it says, defaults included.
    #[schema(value_type = AgentSpecSchema)]
    spec: AgentSpec,
    /// What would keep it from being published in this folder: agents that it refers to and that are not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<FileError>,
}

/// A file that is wrong: the problem `invalid-agent`, with places in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct InvalidConfig {
    /// Names the error for programs.
    #[serde(rename = "type")]
    #[schema(example = "/errors/invalid-agent")]
    kind: String,
    /// The error in words.
    title: String,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// The first error in words.
    detail: String,
    /// All errors, by their place in the file.
    errors: Vec<FileError>,
    /// The request's trace.
    trace_id: String,
}

/// Why a file cannot be checked.
pub(crate) struct ValidateError;

impl utoipa::IntoResponses for ValidateError {
    fn responses() -> problem::Responses {
        problem::responses(&[
            Kind::InvalidRequest,
            Kind::BodyTooLarge,
            Kind::UnsupportedMediaType,
            Kind::RequestTimeout,
        ])
    }
}

/// Checks an agent's file without publishing it.
///
/// All errors are told at once, each with line, column, field, reason and usually what was meant.
#[utoipa::path(post, path = "/configs/validate", operation_id = "config_validate", tag = "configs",
    params(ValidateQuery),
    request_body(content(
        (String = "application/yaml", example = "name: assistant\ninstructions: Be brief.\n"),
        (String = "text/plain"),
    ), description = "The file, at most 1 MiB"),
    responses(
        (status = 200, description = "The file is right", body = ValidConfig),
        (status = 422, description = "The file is wrong", body = InvalidConfig, content_type = "application/problem+json"),
        ValidateError))]
pub(crate) async fn validate_config(
    State(app): State<App>,
    Query(query): Query<ValidateQuery>,
    trace: TraceContext,
    request: Request,
) -> Result<Response, Problem> {
    check_type(request.headers())?;
    let text = read(request).await?;
    let (file, parsed, warnings) = tokio::task::spawn_blocking(move || {
        let parsed = parse_for(&query.file, &text, &app.servers);
        let warnings =
            parsed.as_ref().map_or_else(|_| Vec::new(), |spec| missing_agents(&app, &query.file, spec, &text));
        (query.file, parsed, warnings)
    })
    .await
    .map_err(|error| {
        tracing::error!(%error, "checking a file failed");
        Problem::new(Kind::Internal)
    })?;
    Ok(match parsed {
        Ok(spec) => Json(ValidConfig { valid: true, spec, warnings }).into_response(),
        Err(problems) => invalid(&file, &problems, &trace),
    })
}

fn invalid(file: &str, problems: &[FileProblem], trace: &TraceContext) -> Response {
    let kind = Kind::InvalidAgent;
    let body = InvalidConfig {
        kind: format!("/errors/{}", kind.slug()),
        title: kind.title().to_owned(),
        status: kind.status(),
        detail: problems.first().map_or_else(|| file.to_owned(), ToString::to_string),
        errors: problems.iter().map(FileError::from).collect(),
        trace_id: trace.trace_id(),
    };
    let headers = [(header::CONTENT_TYPE, "application/problem+json")];
    (StatusCode::UNPROCESSABLE_ENTITY, headers, Json(body)).into_response()
}

fn missing_agents(app: &App, file: &str, spec: &AgentSpec, text: &[u8]) -> Vec<FileError> {
    let view = app.catalogue.view();
    let delegates = spec.delegates.iter().enumerate().map(|(index, name)| (format!("delegates[{index}]"), name));
    let missing: Vec<_> = delegates.filter(|(_, name)| !view.agents.contains_key(*name)).collect();
    let places = locate(text, missing.iter().map(|(path, _)| path.as_str()));
    let problem = |((path, name), (line, column)): ((String, &domain::AgentName), (u32, u32))| FileProblem {
        file: file.to_owned(),
        line,
        column,
        path,
        reason: format!("there is no agent {name} yet"),
        hint: None,
    };
    missing.into_iter().zip(places).map(|missing| FileError::from(&problem(missing))).collect()
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    const TYPES: [&str; 5] = ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain"];
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if TYPES.contains(&media.as_str()) && !headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(());
    }
    Err(Problem::new(Kind::UnsupportedMediaType).detail("send the file with Content-Type: application/yaml"))
}

async fn read(request: Request) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        Problem::new(Kind::BodyTooLarge).detail(format!("an agent's file has at most {} KiB", MAX_FILE_BYTES / 1024))
    };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > MAX_FILE_BYTES as u64) {
        return Err(too_large());
    }
    let body = axum::body::to_bytes(request.into_body(), MAX_FILE_BYTES);
    match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => {
            let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Err(if text.contains("length limit exceeded") {
                too_large()
            } else {
                Problem::invalid("", "the body broke off")
            })
        }
        Err(_) => Err(Problem::new(Kind::RequestTimeout)),
    }
}
