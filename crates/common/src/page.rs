//! Pages of lists: how many items, and where the next page begins.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::problem::{Kind, Problem};

/// How many items a page has: 1 to 1000, 100 unless asked. What lies outside is brought inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u32);

impl Limit {
    /// The most.
    pub const MAX: u32 = 1000;

    /// Brings a wish inside the bounds.
    pub fn clamped(wish: i64) -> Self {
        Self(wish.clamp(1, i64::from(Self::MAX)) as u32)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wish: f64 = text.trim().parse().map_err(|_| D::Error::custom("must be a number from 1 to 1000"))?;
        if wish.is_nan() {
            return Err(D::Error::custom("must be a number from 1 to 1000"));
        }
        Ok(Self::clamped(wish as i64))
    }
}

/// An opaque place in a list.
///
/// It carries a digest of the query that made it, so that a cursor of another list, of other filters or of another
/// namespace is refused: put everything that selects or orders the list into `query`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

#[derive(Serialize, Deserialize)]
struct Content<T> {
    #[serde(rename = "a")]
    after: T,
    #[serde(rename = "q")]
    seal: String,
}

impl Cursor {
    /// Makes the cursor that follows `after` in the list that `query` describes.
    pub fn new(query: &impl Serialize, after: &impl Serialize) -> Self {
        let seal = seal(query, after);
        let json = serde_json::to_vec(&Content { after, seal }).unwrap_or_default();
        Self(URL_SAFE_NO_PAD.encode(json))
    }

    /// Reads the place, or answers `invalid-cursor`.
    pub fn after<T: Serialize + DeserializeOwned>(&self, query: &impl Serialize) -> Result<T, Problem> {
        self.open(query).ok_or_else(|| Problem::new(Kind::InvalidCursor))
    }

    /// The text, as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn open<T: Serialize + DeserializeOwned>(&self, query: &impl Serialize) -> Option<T> {
        const LONGEST: usize = 4096;
        if self.0.len() > LONGEST {
            return None;
        }
        let json = URL_SAFE_NO_PAD.decode(&self.0).ok()?;
        let content: Content<T> = serde_json::from_slice(&json).ok()?;
        (content.seal == seal(query, &content.after)).then_some(content.after)
    }
}

impl IntoResponse for Cursor {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

fn seal(query: &impl Serialize, after: &impl Serialize) -> String {
    let text = serde_json::to_vec(&(query, after)).unwrap_or_default();
    let digest = blake3::derive_key("agentrunner list cursor v1", &text);
    URL_SAFE_NO_PAD.encode(&digest[..9])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_returns_the_place_to_the_same_query() {
        let cursor = Cursor::new(&("tasks", "default", "failed"), &("b", 7));
        assert_eq!(cursor.after::<(String, u32)>(&("tasks", "default", "failed")).unwrap(), ("b".to_owned(), 7));
    }

    #[test]
    fn a_cursor_of_another_query_is_refused() {
        let cursor = Cursor::new(&("tasks", "default"), &7);
        assert_eq!(cursor.after::<u32>(&("tasks", "other")).unwrap_err().kind, Kind::InvalidCursor);
    }

    #[test]
    fn a_changed_cursor_is_refused() {
        let cursor = Cursor::new(&"tasks", &"0190f1c2-0000-7000-8000-000000000000");
        for at in 0..cursor.0.len() {
            let mut bytes = cursor.0.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = Cursor(String::from_utf8(bytes).unwrap());
            assert!(changed.after::<String>(&"tasks").is_err(), "changed at {at}");
        }
        for text in ["", "x", "====", "e30", &"A".repeat(10_000)] {
            assert!(Cursor(text.to_owned()).after::<String>(&"tasks").is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_outside_its_bounds_is_brought_inside() {
        for (wish, limit) in [("-1", 1), ("0", 1), ("1", 1), ("250", 250), ("1000000000", 1000), ("1e9", 1000)] {
            assert_eq!(serde_json::from_value::<Limit>(wish.into()).unwrap().get(), limit, "{wish}");
        }
        assert!(serde_json::from_value::<Limit>("many".into()).is_err());
        assert_eq!(Limit::default().get(), 100);
    }
}
