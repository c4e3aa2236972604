//! The HTTP of the protocol, through the guard of outgoing requests.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::Response;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, InsufficientScopeError, SseError, StreamableHttpClient, StreamableHttpError,
    StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};
use tools::egress::{Admitted, Destination, Egress, EgressError};

use super::MAX_MESSAGE;
use crate::process::transport::{MAX_PARTS, parts};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";
/// How much of an error's body is read.
const MAX_ERROR: usize = 64 * 1024;
const MAX_REDIRECTS: u32 = 5;

type Failure = StreamableHttpError<EgressError>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// Sends the protocol's requests to one server, through the guard.
#[derive(Clone)]
pub(crate) struct Guarded {
    egress: Arc<Egress>,
    server: Arc<Destination>,
    /// What the server said when it refused last.
    challenge: Arc<Mutex<Option<String>>>,
}

impl Guarded {
    pub(crate) fn new(egress: Arc<Egress>, server: &Destination) -> Self {
        Self { egress, server: Arc::new(server.clone()), challenge: Arc::default() }
    }

    /// What the server said when it refused last, for want of a token or of a better one.
    pub(crate) fn challenge(&self) -> Option<String> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells whether it refused last because the token allows too little.
    pub(crate) fn wants_more(&self) -> bool {
        self.challenge().is_some_and(|challenge| challenge.contains("insufficient_scope"))
    }

    /// Sorts out answers that want a token, or a better one.
    fn refused(&self, response: &Response) -> Result<(), Failure> {
        let refused = refused(response);
        let challenge = match &refused {
            Err(StreamableHttpError::AuthRequired(error)) => &error.www_authenticate_header,
            Err(StreamableHttpError::InsufficientScope(error)) => &error.www_authenticate_header,
            _ => return refused,
        };
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge.clone());
        refused
    }

    async fn admit(&self, destination: &Destination) -> Result<Admitted, Failure> {
        self.egress.admit(destination, &[]).await.map_err(StreamableHttpError::Client)
    }

    /// Sends a request. A redirect is followed within the server only, and only where the message stays what it is.
    async fn send(
        &self,
        uri: &str,
        method: Method,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Response, Failure> {
        let blocked = |error| StreamableHttpError::Client(EgressError::Blocked(error));
        let mut destination = Destination::parse(uri).map_err(blocked)?;
        for _ in 0..=MAX_REDIRECTS {
            // Tokens and headers belong to the server that the operator named.
            if !destination.same_origin(&self.server) {
                return Err(StreamableHttpError::UnexpectedServerResponse("a redirect to another server".into()));
            }
            let admitted = self.admit(&destination).await?;
            let sent = self.egress.send(&admitted, method.clone(), headers.clone(), body.clone()).await;
            let response = sent.map_err(StreamableHttpError::Client)?;
            if !matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            destination = destination.redirect(location).map_err(blocked)?;
        }
        Err(StreamableHttpError::UnexpectedServerResponse("too many redirects".into()))
    }

    fn headers(
        token: Option<&str>,
        session: Option<&str>,
        last_event: Option<&str>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<HeaderMap, Failure> {
        let invalid = || StreamableHttpError::UnexpectedServerResponse("a header with forbidden characters".into());
        let mut headers: HeaderMap = custom.into_iter().collect();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        for (name, value) in [(SESSION, session), (LAST_EVENT, last_event)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::try_from(value).map_err(|_| invalid())?);
            }
        }
        Ok(headers)
    }
}

impl StreamableHttpClient for Guarded {
    type Error = EgressError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        self.post_message_with_max_sse_event_size(uri, message, session, token, custom, MAX_MESSAGE).await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
        max_event: usize,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let mut headers = Self::headers(token.as_deref(), session.as_deref(), None, custom)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        let body = Bytes::from(serde_json::to_vec(&message)?);
        let response = self.send(&uri, Method::POST, headers, Some(body)).await?;
        let status = response.status();
        self.refused(&response)?;
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && session.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        let is_request = matches!(message, JsonRpcMessage::Request(_));
        let kind = content_type(&response);
        if !status.is_success() {
            return failure(response, &message, session.is_some(), kind.starts_with(JSON)).await;
        }
        let new_session = response.headers().get(SESSION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if kind.starts_with(EVENTS) {
            return Ok(StreamableHttpPostResponse::Sse(events(response, max_event), new_session));
        }
        if !is_request {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if !kind.starts_with(JSON) {
            return Err(StreamableHttpError::UnexpectedContentType(Some(kind.chars().take(100).collect())));
        }
        let body = read(response, MAX_MESSAGE).await?;
        if parts(&body) > MAX_PARTS {
            return Err(StreamableHttpError::ResponseBodyTooLarge { max_size: MAX_MESSAGE });
        }
        let answer = serde_json::from_slice(&body)
            .map_err(|_| StreamableHttpError::UnexpectedServerResponse("the answer is no message".into()))?;
        Ok(StreamableHttpPostResponse::Json(answer, new_session))
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failure> {
        let headers = Self::headers(token.as_deref(), Some(&session), None, custom)?;
        // Many servers do not end sessions on request; they forget them by themselves.
        self.send(&uri, Method::DELETE, headers, None).await.map(drop)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, Failure> {
        self.get_stream_with_max_sse_event_size(uri, session, last_event, token, custom, MAX_MESSAGE).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
        max_event: usize,
    ) -> Result<Events, Failure> {
        let headers = Self::headers(token.as_deref(), session.as_deref(), last_event.as_deref(), custom)?;
        let response = self.send(&uri, Method::GET, headers, None).await?;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        self.refused(&response)?;
        if response.status() == StatusCode::NOT_FOUND && session.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !response.status().is_success() {
            return Err(status_error(&response));
        }
        let kind = content_type(&response);
        if !kind.starts_with(EVENTS) {
            return Err(StreamableHttpError::UnexpectedContentType(Some(kind.chars().take(100).collect())));
        }
        Ok(events(response, max_event))
    }
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_ascii_lowercase()
}

fn refused(response: &Response) -> Result<(), Failure> {
    let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let challenge = challenge.map(|value| value.chars().take(4_096).collect::<String>());
    match response.status() {
        StatusCode::UNAUTHORIZED => Err(StreamableHttpError::AuthRequired(AuthRequiredError::new(
            challenge.unwrap_or_else(|| "Bearer".to_owned()),
        ))),
        StatusCode::FORBIDDEN => match challenge {
            Some(challenge) => {
                let scope = rmcp::transport::WWWAuthenticateParams::parse(&challenge, response.url()).scope;
                Err(StreamableHttpError::InsufficientScope(InsufficientScopeError::new(challenge, scope)))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn status_error(response: &Response) -> Failure {
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    HttpStatusError::new(response.status().as_u16(), after).into()
}

/// Reads an answer that is an error. A server that does not know the current way of greeting refuses it in many ways:
/// all of them mean that it is an older one.
async fn failure(
    response: Response,
    message: &ClientJsonRpcMessage,
    had_session: bool,
    is_json: bool,
) -> Result<StreamableHttpPostResponse, Failure> {
    let (status, error) = (response.status(), status_error(&response));
    let body = read(response, MAX_ERROR).await.unwrap_or_default();
    let said = is_json.then(|| serde_json::from_slice::<ServerJsonRpcMessage>(&body).ok()).flatten();
    let said = said.and_then(|message| match message {
        JsonRpcMessage::Error(error) => Some(error),
        _ => None,
    });
    if let JsonRpcMessage::Request(request) = message
        && matches!(request.request, ClientRequest::DiscoverRequest(_))
        && !had_session
        && status.is_client_error()
        && status != StatusCode::FORBIDDEN
    {
        let why = said.map_or_else(|| ErrorData::invalid_request(format!("HTTP {status}"), None), |error| error.error);
        let answer = ServerJsonRpcMessage::error(why, Some(request.id.clone()));
        return Ok(StreamableHttpPostResponse::Json(answer, None));
    }
    match said {
        Some(error) if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS => {
            Ok(StreamableHttpPostResponse::Json(JsonRpcMessage::Error(error), None))
        }
        _ => Err(error),
    }
}

/// Reads a body to its end, or to its limit.
async fn read(response: Response, most: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| StreamableHttpError::UnexpectedServerResponse(Cow::Owned(cause(&error))))?;
        if body.len() + chunk.len() > most {
            return Err(StreamableHttpError::ResponseBodyTooLarge { max_size: most });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads events, none longer than `most`.
fn events(response: Response, most: usize) -> Events {
    let mut since_blank = Blank::default();
    let chunks = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(|error| std::io::Error::other(cause(&error)))?;
        if since_blank.add(&chunk) > most {
            return Err(std::io::Error::other("an event is longer than it may be"));
        }
        Ok(chunk)
    });
    // A stream that failed once is not asked again.
    let mut failed = false;
    let chunks = chunks.take_while(move |chunk| {
        let go_on = !failed;
        failed = chunk.is_err();
        std::future::ready(go_on)
    });
    SseStream::from_bytes_stream(chunks.boxed()).boxed()
}

/// Counts the bytes since the last blank line.
#[derive(Default)]
struct Blank {
    count: usize,
    at_line_start: bool,
}

impl Blank {
    /// Returns the longest that an event became within the chunk.
    fn add(&mut self, chunk: &[u8]) -> usize {
        let mut longest = self.count;
        for byte in chunk {
            match byte {
                b'\n' | b'\r' if self.at_line_start => self.count = 0,
                b'\n' | b'\r' => self.at_line_start = true,
                _ => {
                    self.at_line_start = false;
                    self.count += 1;
                }
            }
            longest = longest.max(self.count);
        }
        longest
    }
}

fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().chars().take(200).collect()
}
