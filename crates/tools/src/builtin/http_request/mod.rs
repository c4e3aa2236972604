//! `http_request`: calls an API or reads a page, through the egress guard alone.

mod body;
mod headers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{AgentSpec, Effect, HumanDuration, ToolSpec};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::egress::{Blocked, Destination, Egress, EgressError, MAX_URL, root_cause};
use crate::{CallContext, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "http_request";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: u32 = 5;

pub(super) struct HttpRequest {
    egress: Arc<Egress>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
}

impl HttpRequest {
    pub(super) fn new(egress: Arc<Egress>) -> Self {
        Self { egress }
    }

    async fn run(&self, context: &CallContext<'_>, arguments: Arguments) -> Result<ToolReply, ToolError> {
        let mut method = arguments
            .method
            .parse::<Method>()
            .map_err(|_| ToolError::new("invalid_arguments", "method must be one of the schema's"))?;
        let mut headers = headers::read(arguments.headers)?;
        let mut body = body::write(arguments.body, &mut headers)?;
        if !method.is_safe() {
            let key = HeaderValue::from_str(&context.idempotency_key)
                .map_err(|_| ToolError::new("invalid_header", "the call's key cannot be sent as a header"))?;
            headers.insert(headers::IDEMPOTENCY_KEY, key);
        }
        let allow = context.agent.tools.iter().find(|tool| tool.name == NAME).map_or(&[][..], |tool| &tool.allow);
        let mut destination = Destination::parse(&arguments.url).map_err(EgressError::from)?;
        let mut redirects = 0;
        loop {
            let admitted = self.egress.admit(&destination, allow).await?;
            let response = self.egress.send(&admitted, method.clone(), headers.clone(), body.clone()).await?;
            let Some(next) = redirect_of(&response, &destination)? else {
                return reply(response, (redirects > 0).then_some(&destination)).await;
            };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(ToolError::new("too_many_redirects", "the server redirected more than 5 times"));
            }
            if becomes_get(response.status().as_u16(), &method) {
                method = Method::GET;
                body = None;
                headers.remove(CONTENT_TYPE);
                headers.remove(headers::IDEMPOTENCY_KEY);
            }
            if !next.same_origin(&destination) {
                headers::keep_for_another_origin(&mut headers);
            }
            destination = next;
        }
    }
}

#[async_trait]
impl Tool for HttpRequest {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({
            "type": "object",
            "properties": {
                "method": { "type": "string", "enum": ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] },
                "url": { "type": "string", "minLength": 1, "maxLength": MAX_URL, "description": "An http or https URL." },
                "headers": {
                    "type": "object",
                    "propertyNames": { "maxLength": 128 },
                    "additionalProperties": { "type": "string", "maxLength": 8_192 },
                    "maxProperties": 32,
                    "description": "Headers by name."
                },
                "body": {
                    "type": ["string", "object", "array", "number", "boolean", "null"],
                    "maxLength": body::MAX_REQUEST,
                    "description": "Text, or a value that is sent as JSON; at most 1 MiB."
                }
            },
            "required": ["method", "url"],
            "additionalProperties": false
        });
        let description = "Calls a web address and answers with its status, headers and body. Redirects are followed; \
            what is longer than 1 MiB is cut.";
        Some(ToolSpec { effect: Effect::Keyed, ..ToolSpec::new(NAME, description, parameters, DEFAULT_TIMEOUT) })
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let arguments = super::read(arguments)?;
        let settings = context.agent.tools.iter().find(|tool| tool.name == NAME);
        let timeout = settings.and_then(|tool| tool.timeout).map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
        tokio::time::timeout(timeout, self.run(context, arguments)).await.unwrap_or_else(|_| {
            Err(ToolError::new("timeout", format!("no complete answer within {}", HumanDuration(timeout))).unknown())
        })
    }
}

/// Where an answer sends the request, if it does.
fn redirect_of(response: &Response, from: &Destination) -> Result<Option<Destination>, EgressError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
    let location = location.to_str().map_err(|_| Blocked::Form)?;
    Ok(Some(from.redirect(location)?))
}

/// Tells whether a redirect turns the request into a plain look at another page, as browsers have it.
fn becomes_get(status: u16, method: &Method) -> bool {
    match status {
        301 | 302 => *method == Method::POST,
        303 => *method != Method::HEAD,
        _ => false,
    }
}

async fn reply(response: Response, moved_to: Option<&Destination>) -> Result<ToolReply, ToolError> {
    let status = response.status().as_u16();
    let headers: HeaderMap = response.headers().clone();
    let body = body::read(response).await.map_err(|error| {
        let reason = root_cause(&error.without_url());
        ToolError::new("connection_failed", format!("the answer broke off: {reason}")).unknown()
    })?;
    let mut answer = json!({
        "status": status,
        "headers": headers::shown(&headers),
        "body": body.text,
        "truncated": body.truncated,
    });
    if body.base64 {
        answer["encoding"] = json!("base64");
    }
    if let Some(destination) = moved_to {
        answer["url"] = json!(destination.url());
    }
    Ok(ToolReply::Done(answer))
}

impl From<EgressError> for ToolError {
    fn from(error: EgressError) -> Self {
        let code = match &error {
            EgressError::Blocked(_) => "blocked_destination",
            EgressError::Unresolved { .. } => "unknown_host",
            EgressError::Unavailable { .. } => "unavailable",
            EgressError::Connection { .. } => "connection_failed",
        };
        let unknown = matches!(error, EgressError::Connection { sent: true, .. });
        Self { unknown, ..Self::new(code, error.to_string()) }
    }
}
