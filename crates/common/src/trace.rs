//! W3C trace context: which request, message or task a piece of work belongs to, across process borders.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use domain::Ids;
use http::HeaderMap;
use http::request::Parts;

/// The trace that a request belongs to, and this service's own part of it.
///
/// An extractor: `trace: TraceContext`. Behind [`crate::http::serve`] it is the request's own; elsewhere a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: bool,
}

impl TraceContext {
    /// Begins a new trace.
    pub fn new(ids: &dyn Ids) -> Self {
        let uuid = ids.uuid();
        Self { trace_id: *uuid.as_bytes(), span_id: span_of(uuid), sampled: true }
    }

    /// Continues the trace that a `traceparent` names, with a new span; `None` when it is malformed.
    pub fn continued(traceparent: &str, ids: &dyn Ids) -> Option<Self> {
        let parent = Self::parse(traceparent)?;
        Some(Self { span_id: span_of(ids.uuid()), ..parent })
    }

    /// Continues the trace of a request's headers, or begins one.
    ///
    /// Two `traceparent` headers are as good as none: nobody can tell which one is right.
    pub fn from_headers(headers: &HeaderMap, ids: &dyn Ids) -> Self {
        let mut values = headers.get_all("traceparent").iter();
        let single = values.next().filter(|_| values.next().is_none());
        single
            .and_then(|value| value.to_str().ok())
            .and_then(|text| Self::continued(text, ids))
            .unwrap_or_else(|| Self::new(ids))
    }

    /// Reads a `traceparent` as it is.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let version = *bytes.first_chunk::<2>()?;
        let dashes = [2, 35, 52].iter().all(|&at| bytes.get(at) == Some(&b'-'));
        // Version 0 has exactly this length; later ones may only append.
        let length = bytes.len() == 55 || (&version != b"00" && bytes.get(55) == Some(&b'-'));
        if !dashes || !length || &version == b"ff" {
            return None;
        }
        let [_] = hex::<1>(&version)?;
        let trace_id = hex::<16>(bytes.get(3..35)?)?;
        let span_id = hex::<8>(bytes.get(36..52)?)?;
        let [flags] = hex::<1>(bytes.get(53..55)?)?;
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The `traceparent` to send with messages, requests and tasks that follow from this one.
    pub fn traceparent(&self) -> String {
        self.to_string()
    }

    /// The trace's id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        Hex(&self.trace_id).to_string()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", Hex(&self.trace_id), Hex(&self.span_id), u8::from(self.sampled))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<S: Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(match parts.extensions.get::<Self>() {
            Some(context) => *context,
            None => Self::from_headers(&parts.headers, &domain::SystemIds),
        })
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The last eight bytes of a UUIDv7 are random.
fn span_of(uuid: uuid::Uuid) -> [u8; 8] {
    let mut span = [0; 8];
    span.copy_from_slice(&uuid.as_bytes()[8..]);
    span
}

/// Lower-case digits only, as the specification demands.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_written_as_it_was_read() {
        assert_eq!(TraceContext::parse(EXAMPLE).unwrap().traceparent(), EXAMPLE);
    }

    #[test]
    fn a_continued_trace_keeps_its_id_and_has_its_own_span() {
        let context = TraceContext::continued(EXAMPLE, &domain::SystemIds).unwrap();
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(!context.traceparent().contains("00f067aa0ba902b7"));
    }

    #[test]
    fn a_malformed_traceparent_is_no_traceparent() {
        let zero_trace = EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let longer = format!("{EXAMPLE}-00");
        let upper = EXAMPLE.to_uppercase();
        let future = EXAMPLE.replacen("00", "ff", 1);
        for text in ["", "00", &EXAMPLE[..54], &zero_trace, &longer, &upper, &future, "é0-"] {
            assert!(TraceContext::parse(text).is_none(), "{text}");
        }
        assert!(TraceContext::parse(&longer.replacen("00", "01", 1)).is_some(), "later versions may append");
    }
}
