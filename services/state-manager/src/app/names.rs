//! Names of scopes and keys. What passes here is safe in a URL, a log line and a file name.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// Scopes that the platform keeps its own values in.
const RESERVED: [&str; 4] = ["agents", "config", "platform", "schedules"];
/// The longest key.
const KEY_MAX: usize = 200;

/// A name space of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope(String);

/// A value's name in its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Scope {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether only the platform writes to it.
    pub(crate) fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.as_str())
    }
}

impl Key {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = domain::Namespace::new(text).map_err(de::Error::custom)?;
        Ok(Self(name.as_str().to_owned()))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = (1..=KEY_MAX).contains(&text.len());
        // The platform's own keys have an `@` before a version.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'@' | b'-');
        if fits && text.bytes().all(plain) && !text.bytes().all(|byte| byte == b'.') {
            Ok(Self(text))
        } else {
            Err(de::Error::custom("must be 1 to 200 letters, digits, dots, underscores, colons, at signs and dashes"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_checked() {
        for key in ["a", "Run.2024-01_x:y", "writer@3", &"k".repeat(200)] {
            assert!(serde_json::from_value::<Key>(json!(key)).is_ok(), "{key}");
        }
        for key in ["", ".", "..", "a/b", "../x", "a b", "é", "a\0", "\u{202e}", &"k".repeat(201)] {
            assert!(serde_json::from_value::<Key>(json!(key)).is_err(), "{key}");
        }
        for scope in ["Notes", "", "-a", "a/b", &"s".repeat(64)] {
            assert!(serde_json::from_value::<Scope>(json!(scope)).is_err(), "{scope}");
        }
        assert!(serde_json::from_value::<Scope>(json!("agents")).unwrap().is_reserved());
        assert!(!serde_json::from_value::<Scope>(json!("agents2")).unwrap().is_reserved());
    }
}
