//! Values that a file names instead of containing them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest file that a value is read from.
const MAX_FILE: u64 = 64 * 1024;

/// A text, or where it is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Setting {
    /// The text itself, for what is no secret.
    Text(String),
    /// Where it is found.
    Ref(SettingRef),
}

/// Where a value is found: exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SettingRef {
    /// The variable of the platform's own environment that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The file that holds it; spaces and line breaks around it are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// Why a value is not there. Names where it should be, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The file could not be read.
    #[error("the file {0} could not be read: {1}")]
    File(String, String),
}

impl Setting {
    /// Finds the value.
    pub fn find(&self) -> Result<String, SecretError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Ref(SettingRef { env: Some(name), .. }) => {
                std::env::var(name).map_err(|_| SecretError::Unset(name.clone()))
            }
            Self::Ref(SettingRef { file, .. }) => {
                let path = file.clone().unwrap_or_default();
                let wrong = |why: String| SecretError::File(path.display().to_string(), why);
                let size = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?;
                if !size.is_file() || size.len() > MAX_FILE {
                    return Err(wrong("it must be a file of at most 64 KiB".to_owned()));
                }
                let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
                Ok(text.trim().to_owned())
            }
        }
    }

    /// Tells whether the value is found elsewhere, as a secret must be.
    pub fn is_reference(&self) -> bool {
        matches!(self, Self::Ref(_))
    }
}
