//! JSON bodies, read strictly: what two parsers could understand differently is refused.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::{fault, json_scan};
use crate::problem::{Kind, Problem};

/// How large a body may be unless said otherwise: a prompt of 1 MiB with every character escaped once, and its envelope.
pub const DEFAULT_BODY_LIMIT: usize = (2 << 20) + (64 << 10);

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest body for the routes of a router: `router.layer(Extension(BodyLimit(n)))`, else the server's.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

/// A JSON body.
///
/// Refused are: another content type or an encoding (415), too many bytes (413, before all are read), repeated keys,
/// nesting deeper than 64, NUL characters, lone surrogates, rounded numbers, and what `T` does not take (400, with a JSON
/// pointer). Give `T` `deny_unknown_fields`.
#[derive(Debug, Clone, Copy)]
pub struct StrictJson<T>(pub T);

impl<T, S> FromRequest<S> for StrictJson<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_type(request.headers())?;
        let limit = request.extensions().get::<BodyLimit>().map_or(DEFAULT_BODY_LIMIT, |limit| limit.0);
        let declared =
            request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: u64| length > limit as u64) {
            return Err(too_large(limit));
        }
        let body = read(request.into_body(), limit).await?;
        parse_json(&body).map(Self)
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            // The limit's error has a source of its own kind; whatever else happens here is a connection that broke off.
            let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            if text.contains("length limit exceeded") {
                Err(too_large(limit))
            } else {
                Err(Problem::new(Kind::InvalidRequest).detail("the body broke off"))
            }
        }
        Err(_) => Err(Problem::new(Kind::RequestTimeout).detail(format!("more than {} s", PATIENCE.as_secs()))),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::BodyTooLarge).detail(format!("at most {limit} bytes are accepted"))
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail: &str| Err(Problem::new(Kind::UnsupportedMediaType).detail(detail));
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return unsupported("Content-Encoding is not accepted");
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next().and_then(|value| value.to_str().ok()), types.next()) else {
        return unsupported("Content-Type must be application/json");
    };
    let mut parts = value.split(';').map(str::trim);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return unsupported("Content-Type must be application/json");
    }
    let utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    if parts.all(utf8) { Ok(()) } else { unsupported("the character set must be UTF-8") }
}

/// Parses a JSON text as strictly as [`StrictJson`] does.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Problem::invalid("", format!("is not UTF-8 at byte {}", error.valid_up_to())))?;
    if text.starts_with('\u{feff}') {
        return Err(Problem::invalid("", "begins with a byte order mark"));
    }
    json_scan::scan(text).map_err(|found| Problem::invalid(found.pointer, found.reason))?;
    // The place of a mistake costs an allocation for every field, so it is only looked for when there is one.
    serde_json::from_str(text).or_else(|_| located(text))
}

fn located<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let inner = error.inner();
        if inner.is_data() {
            let fault = fault(pointer(error.path()), &without_position(inner));
            Problem { errors: vec![fault], ..Problem::new(Kind::InvalidRequest) }
        } else {
            Problem::invalid("", format!("is not JSON: {inner}"))
        }
    })?;
    deserializer.end().map_err(|error| Problem::invalid("", format!("is not JSON: {error}")))?;
    Ok(value)
}

/// Lines and columns of a body that a program wrote help nobody; the pointer does.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).map_or_else(|| text.clone(), ToOwned::to_owned)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")),
        // A variant is not a place in the text.
        Segment::Enum { .. } => pointer,
        Segment::Unknown => format!("{pointer}/?"),
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Order {
        item: String,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Part {
        count: u8,
    }

    fn refused(text: &str) -> (String, String, Option<String>) {
        let problem = parse_json::<Order>(text.as_bytes()).unwrap_err();
        assert_eq!(problem.kind, Kind::InvalidRequest);
        let fault = problem.errors.into_iter().next().unwrap();
        (fault.pointer, fault.reason, fault.hint)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_in_is_given_up() {
        let drops = futures::stream::unfold(0_u8, |sent| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b" ")), sent))
        });
        let request = Request::post("/").header("content-type", "application/json").body(Body::from_stream(drops));
        let refused = StrictJson::<Order>::from_request(request.unwrap(), &()).await.unwrap_err();
        assert_eq!(refused.kind, Kind::RequestTimeout);
    }

    #[test]
    fn what_fits_is_read() {
        let order: Order = parse_json(br#"{"item":"x","parts":[{"count":7}]}"#).unwrap();
        assert_eq!(order, Order { item: "x".to_owned(), parts: vec![Part { count: 7 }] });
    }

    #[test]
    fn a_mistake_has_a_pointer_a_reason_and_a_hint() {
        assert_eq!(refused(r#"{"item":1}"#).0, "/item");
        assert_eq!(refused(r#"{"item":"x","parts":[{"count":1},{"count":300}]}"#).0, "/parts/1/count");
        assert_eq!(refused(r#"{"item":"x","parts":[{"count":1.0}]}"#).0, "/parts/0/count");
        let (pointer, reason, hint) = refused(r#"{"itme":"x"}"#);
        assert_eq!(pointer, "/itme");
        assert_eq!(reason, "unknown field `itme`, expected `item` or `parts`");
        assert_eq!(hint.as_deref(), Some("did you mean `item`?"));
        let (pointer, reason, _) = refused("{}");
        assert_eq!((pointer.as_str(), reason.as_str()), ("", "missing field `item`"));
    }

    #[test]
    fn what_is_not_json_is_refused_as_a_whole() {
        for text in ["", "{", "{\"item\":\"x\"} x", "\u{feff}{\"item\":\"x\"}", "NaN", "{item:1}"] {
            let (pointer, reason, _) = refused(text);
            assert_eq!(pointer, "", "{text}: {reason}");
        }
        let problem = parse_json::<Order>(b"{\"item\":\"\xc0\xaf\"}").unwrap_err();
        assert_eq!(problem.errors[0].reason, "is not UTF-8 at byte 9");
    }
}
