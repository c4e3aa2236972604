//! Where the keys of providers are: in the environment or in files, never in the settings themselves.

use std::path::PathBuf;

use llm_http::ApiKey;
use schemars::JsonSchema;
use serde::Deserialize;

/// A key is never longer.
const LONGEST: u64 = 64 * 1024;

/// Where a secret is: in a variable of the environment, or in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeySource {
    /// The variable's name. Its value may also be in the file that `NAME_FILE` names.
    pub env: Option<String>,
    /// The file's path; white space around its content does not count.
    pub file: Option<PathBuf>,
}

impl KeySource {
    /// Tells what is wrong with it, before anything is looked for.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match (&self.env, &self.file) {
            (Some(name), None) => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                let begins = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
                if begins && name.bytes().all(allowed) { Ok(()) } else { Err("names no variable of an environment") }
            }
            (None, Some(path)) if path.as_os_str().is_empty() => Err("names no file"),
            (None, Some(_)) => Ok(()),
            (None, None) => Err("must say where the key is"),
            (Some(_), Some(_)) => Err("must have either env or file"),
        }
    }

    /// Reads the secret; `variable` looks a variable up. The error says what to do and nothing of the secret.
    pub(super) fn read(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<ApiKey, String> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let (path, what) = match (&self.env, &self.file) {
            (Some(name), _) => {
                if let Some(value) = set(name) {
                    return Ok(ApiKey::new(value));
                }
                let in_file = format!("{name}_FILE");
                let Some(path) = set(&in_file) else { return Err(format!("{name} is not set")) };
                (PathBuf::from(path), format!("{in_file} names a file that"))
            }
            (None, Some(path)) => (path.clone(), format!("the key's file {}", path.display())),
            (None, None) => return Err("it is not said where the key is".to_owned()),
        };
        let meta = std::fs::metadata(&path).map_err(|error| format!("{what} cannot be read: {error}"))?;
        if !meta.is_file() || meta.len() > LONGEST {
            return Err(format!("{what} is no small file"));
        }
        let key = std::fs::read_to_string(&path).map_err(|error| format!("{what} cannot be read: {error}"))?;
        if key.trim().is_empty() { Err(format!("{what} is empty")) } else { Ok(ApiKey::new(key)) }
    }
}
