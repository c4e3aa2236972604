//! Which headers a model may set, which survive a redirect, and which of an answer it is shown.

use std::collections::BTreeMap;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::ToolError;

/// What a model may not set: what belongs to the connection, to the platform or to a proxy, and what unlocks a
/// cloud's metadata.
const RESERVED: [&str; 25] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "metadata",
    "metadata-flavor",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-aws-ec2-metadata-token",
    "x-aws-ec2-metadata-token-ttl-seconds",
    "x-metadata-token",
    "x-real-ip",
];

/// What another server is still told after a redirect; everything else may be a secret of the first one.
const CROSS_ORIGIN: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::USER_AGENT];

/// What a model is shown of an answer. Not its date: every second it would make the same answer look like news to the
/// loop detector.
const SHOWN: [HeaderName; 8] = [
    header::ALLOW,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::RETRY_AFTER,
];

const MAX_SHOWN: usize = 1_024;

/// The header under which the other side recognizes a repetition.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Reads the headers that a model wrote.
pub(super) fn read(given: BTreeMap<String, String>) -> Result<HeaderMap, ToolError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) || lower.starts_with("x-forwarded-") {
            return Err(invalid(format!("the header {shown} may not be set")));
        }
        let name = HeaderName::from_bytes(lower.as_bytes())
            .map_err(|_| invalid(format!("{shown} is not the name of a header")))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| invalid(format!("the value of the header {shown} has characters that are not allowed")))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Drops what another server than the first must not see.
pub(super) fn keep_for_another_origin(headers: &mut HeaderMap) {
    let kept = headers.drain().filter_map(|(name, value)| name.map(|name| (name, value)));
    let kept: Vec<_> = kept.filter(|(name, _)| CROSS_ORIGIN.contains(name) || *name == IDEMPOTENCY_KEY).collect();
    headers.extend(kept);
}

/// Picks what a model is shown.
pub(super) fn shown(headers: &HeaderMap) -> Map<String, Value> {
    SHOWN
        .iter()
        .filter_map(|name| {
            let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
            Some((name.to_string(), value.chars().take(MAX_SHOWN).collect::<String>().into()))
        })
        .collect()
}

fn invalid(message: String) -> ToolError {
    ToolError::new("invalid_header", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<HeaderMap, ToolError> {
        read(BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn ordinary_headers_may_be_set() {
        for (name, value) in [("Accept", "text/html"), ("Authorization", "Bearer x"), ("X-Api-Key", "a b")] {
            assert_eq!(one(name, value).expect(name).len(), 1);
        }
    }

    #[test]
    fn headers_of_the_connection_and_of_the_platform_may_not() {
        for name in RESERVED.iter().copied().chain(["X-Forwarded-For", "HOST", "Content-Length", "Idempotency-Key"]) {
            let error = one(name, "x").expect_err(name);
            assert_eq!(error.code, "invalid_header");
        }
    }

    #[test]
    fn a_line_break_in_a_name_or_a_value_is_refused() {
        for (name, value) in [
            ("X-A", "b\r\nX-C: d"),
            ("X-A", "b\nc"),
            ("X-A", "b\0"),
            ("X-A\r\nX-C", "b"),
            ("X-A: b", "c"),
            ("", "b"),
            ("X A", "b"),
            ("X-Ä", "b"),
        ] {
            let error = one(name, value).expect_err(name);
            assert_eq!(error.code, "invalid_header");
            assert!(!error.message.contains(['\r', '\n', '\0']));
        }
    }

    #[test]
    fn the_same_answer_looks_the_same_a_second_later() {
        let answered = |date: &'static str| {
            HeaderMap::from_iter([
                (header::DATE, HeaderValue::from_static(date)),
                (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
            ])
        };
        let first = shown(&answered("Sat, 21 Nov 2026 13:43:30 GMT"));
        assert_eq!(first, shown(&answered("Sat, 21 Nov 2026 13:43:31 GMT")));
        assert_eq!(first["content-type"], "text/plain");
    }

    #[test]
    fn the_value_of_a_refused_header_is_not_repeated() {
        let error = one("X-Api-Key", "hunter2\n").expect_err("refused");
        assert!(!error.message.contains("hunter2"));
    }
}
