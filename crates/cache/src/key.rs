//! Names of what is kept, made so that no namespace can reach another's.

use std::fmt;

use domain::Namespace;

use crate::CacheError;

/// The longest name within an area and namespace, in bytes.
const MAX_NAME: usize = 512;

/// The name of something that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// A key of one namespace. `area` says what it is for and contains no colon; `name` may be anything of up to 512 bytes,
    /// whoever chose it.
    pub fn new(area: &'static str, namespace: &Namespace, name: &str) -> Result<Self, CacheError> {
        Self::make(area, namespace.as_str(), name)
    }

    /// A key that all namespaces share.
    pub fn shared(area: &'static str, name: &str) -> Result<Self, CacheError> {
        // No namespace is called like that: their names are not empty.
        Self::make(area, "", name)
    }

    /// `area:namespace:name`. Neither areas nor namespaces contain a colon, so that two keys are never the same text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn make(area: &'static str, namespace: &str, name: &str) -> Result<Self, CacheError> {
        debug_assert!(!area.contains(':'), "an area has no colon");
        if name.len() > MAX_NAME {
            return Err(CacheError::TooLarge { what: "key", size: name.len(), limit: MAX_NAME });
        }
        Ok(Self(format!("{area}:{namespace}:{name}")))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_reaches_another_namespace() {
        let namespace = |name: &str| Namespace::new(name).unwrap();
        let honest = Key::new("area", &namespace("b"), "name").unwrap();
        let sly = Key::new("area", &namespace("a"), "b:name").unwrap();
        assert_ne!(honest, sly);
        assert_ne!(Key::shared("area", "b:name").unwrap(), honest);
        assert!(Namespace::new("a:b").is_err() && Namespace::new("").is_err());
    }

    #[test]
    fn a_name_has_a_limit() {
        assert!(Key::shared("area", &"x".repeat(512)).is_ok());
        assert!(matches!(Key::shared("area", &"x".repeat(513)), Err(CacheError::TooLarge { size: 513, .. })));
    }
}
