//! The bodies of requests and answers: bounded, and as text wherever they are text.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::ToolError;

/// The longest body of a request.
pub(super) const MAX_REQUEST: usize = 1 << 20;

/// How much of an answer is read, after decompression.
pub(super) const MAX_RESPONSE: usize = 1 << 20;

/// Makes the body of a request: a string as it is, anything else as JSON. Sets the content type unless the model did.
pub(super) fn write(body: Option<Value>, headers: &mut HeaderMap) -> Result<Option<Bytes>, ToolError> {
    let (text, json) = match body {
        None | Some(Value::Null) => return Ok(None),
        // Models write JSON as a string as often as not; the other side must be told what it gets.
        Some(Value::String(text)) => {
            let json = text.trim_start().starts_with(['{', '['])
                && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            (text, json)
        }
        Some(value) => (value.to_string(), true),
    };
    if text.len() > MAX_REQUEST {
        return Err(ToolError::new("body_too_large", "the body of a request must be at most 1 MiB"));
    }
    let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
    Ok(Some(Bytes::from(text)))
}

/// What was read of an answer.
pub(super) struct Body {
    /// The text, or the bytes in base64.
    pub(super) text: String,
    /// Tells that it is base64.
    pub(super) base64: bool,
    /// Tells that there was more.
    pub(super) truncated: bool,
}

/// Reads an answer's body, and stops at the limit however much there is.
pub(super) async fn read(mut response: Response) -> Result<Body, reqwest::Error> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    let mut truncated = false;
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_RESPONSE - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            truncated = true;
            break;
        }
    }
    let text = decode(&bytes, content_type.as_deref(), truncated);
    Ok(match text {
        Some(text) => Body { text, base64: false, truncated },
        None => Body { text: BASE64_STANDARD.encode(&bytes), base64: true, truncated },
    })
}

/// Reads bytes as text; `None` when they are none. A NUL counts as no text: not every store can keep one.
fn decode(bytes: &[u8], content_type: Option<&str>, truncated: bool) -> Option<String> {
    let encoding = content_type.and_then(charset).unwrap_or(UTF_8);
    let text = if encoding == UTF_8 {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(error) if truncated && error.error_len().is_none() => {
                String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned()
            }
            Err(_) => return None,
        }
    } else {
        encoding.decode(bytes).0.into_owned()
    };
    (!text.contains('\0')).then_some(text)
}

fn charset(content_type: &str) -> Option<&'static Encoding> {
    let value = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })?;
    Encoding::for_label(value.trim().trim_matches('"').as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(body: Value) -> (Option<Bytes>, Option<String>) {
        let mut headers = HeaderMap::new();
        let bytes = write(Some(body), &mut headers).expect("small");
        (bytes, headers.get(CONTENT_TYPE).map(|value| value.to_str().expect("ASCII").to_owned()))
    }

    #[test]
    fn a_body_says_what_it_is() {
        let json_type = Some("application/json".to_owned());
        let text_type = Some("text/plain; charset=utf-8".to_owned());
        assert_eq!(written(json!({ "a": 1 })), (Some(Bytes::from(r#"{"a":1}"#)), json_type.clone()));
        assert_eq!(written(json!(r#" {"a":1}"#)), (Some(Bytes::from(r#" {"a":1}"#)), json_type));
        assert_eq!(written(json!("{a")), (Some(Bytes::from("{a")), text_type));
        assert_eq!(written(Value::Null), (None, None));
    }

    #[test]
    fn the_content_type_that_a_model_set_stays() {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/csv"))]);
        write(Some(json!("a,b")), &mut headers).expect("small");
        assert_eq!(headers[CONTENT_TYPE], "text/csv");
    }

    #[test]
    fn a_body_over_the_limit_is_refused() {
        let error = write(Some(json!("a".repeat(MAX_REQUEST + 1))), &mut HeaderMap::new()).expect_err("too large");
        assert_eq!(error.code, "body_too_large");
    }

    #[test]
    fn text_is_read_in_its_charset_and_bytes_are_not_text() {
        assert_eq!(decode("ä".as_bytes(), None, false).as_deref(), Some("ä"));
        assert_eq!(decode(b"\xef\xbb\xbfa", None, false).as_deref(), Some("a"));
        assert_eq!(decode(b"\xe4", Some("text/html; charset=\"ISO-8859-1\""), false).as_deref(), Some("ä"));
        assert_eq!(decode(b"\xe4", Some("text/html"), false), None);
        assert_eq!(decode(b"a\0b", Some("text/plain"), false), None);
    }

    #[test]
    fn a_character_that_the_limit_cut_in_two_is_left_out() {
        assert_eq!(decode(b"a\xc3", None, true).as_deref(), Some("a"));
        assert_eq!(decode(b"a\xc3", None, false), None);
    }
}
