//! `If-Match` and `If-None-Match` (RFC 9110), as far as a store with one strong tag a value needs them.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use common::problem::Problem;

use crate::app::Expected;

/// The tag of a version.
pub(super) fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What a write expects to find.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let if_match = single(headers, &header::IF_MATCH)?;
    let if_none_match = single(headers, &header::IF_NONE_MATCH)?;
    match (if_match, if_none_match) {
        (None, None) => Ok(Expected::Anything),
        (Some(_), Some(_)) => Err(Problem::invalid("header.if-none-match", "contradicts If-Match: send one of them")),
        (None, Some("*")) => Ok(Expected::Nothing),
        (None, Some(_)) => Err(Problem::invalid("header.if-none-match", "must be * for a write")),
        (Some("*"), None) => Ok(Expected::Something),
        (Some(tag), None) => version(tag).map(Expected::Version).ok_or_else(|| {
            Problem::invalid("header.if-match", "must be * or one ETag of this service, such as \"3\" with its quotes")
        }),
    }
}

/// Tells whether a reader has this version already.
pub(super) fn is_known(headers: &HeaderMap, current: u64) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
        // Weak comparison, as for every read.
        tag == "*" || version(tag.strip_prefix("W/").unwrap_or(tag)) == Some(current)
    })
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(Problem::invalid(format!("header.{name}"), "must be one value")),
    }
}

fn version(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    // The number as it is written in tags: `+3` and `03` were never one.
    digits.parse().ok().filter(|version: &u64| version.to_string() == digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn conditions_are_read_or_refused() {
        let read = |all: &[(&'static str, &'static str)]| expected(&headers(all)).ok();
        assert_eq!(read(&[]), Some(Expected::Anything));
        assert_eq!(read(&[("if-match", "\"3\"")]), Some(Expected::Version(3)));
        assert_eq!(read(&[("if-match", "*")]), Some(Expected::Something));
        assert_eq!(read(&[("if-none-match", "*")]), Some(Expected::Nothing));
        for tag in ["3", "\"+3\"", "\"03\"", "W/\"3\"", "\"1\", \"2\"", "", "\"-1\"", "\"18446744073709551616\""] {
            assert_eq!(read(&[("if-match", tag)]), None, "{tag}");
        }
        assert_eq!(read(&[("if-none-match", "\"3\"")]), None);
        assert_eq!(read(&[("if-match", "*"), ("if-none-match", "*")]), None);
    }

    #[test]
    fn a_reader_s_tags_are_compared_weakly() {
        assert!(is_known(&headers(&[("if-none-match", "\"1\", W/\"3\"")]), 3));
        assert!(is_known(&headers(&[("if-none-match", "*")]), 3));
        assert!(!is_known(&headers(&[("if-none-match", "\"1\"")]), 3));
    }
}
