//! What is wrong with a file, said so that a person can mend it without looking anything up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProblem {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 when it is about the file as a whole.
    pub column: u32,
    /// The field, such as `limits.max_steps` or `tools[2].name`; empty when it is about no field.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl FileProblem {
    /// A problem of the file as a whole, such as one that cannot be read.
    pub fn of_file(file: impl Into<String>, reason: impl Into<String>) -> Self {
        let (path, reason) = (String::new(), reason.into());
        Self { file: file.into(), line: 0, column: 0, path, reason, hint: None }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Where in a file something is; lines and columns count from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A problem before it is known which file it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Position,
    pub(crate) path: String,
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
}

/// The way to a field, as people write it: `tools[2].name`.
#[derive(Debug, Default)]
pub(crate) struct FieldPath {
    text: String,
    ends: Vec<usize>,
}

impl FieldPath {
    pub(crate) fn field(&mut self, name: &str) {
        self.ends.push(self.text.len());
        if !self.text.is_empty() {
            self.text.push('.');
        }
        // A field's name comes from the file and may be a whole page.
        self.text.extend(name.chars().take(80));
    }

    pub(crate) fn item(&mut self, index: usize) {
        self.ends.push(self.text.len());
        self.text.extend(["[", &index.to_string(), "]"]);
    }

    pub(crate) fn up(&mut self) {
        self.text.truncate(self.ends.pop().unwrap_or(0));
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Finds what was probably meant by `text`.
pub(crate) fn closest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 80 {
        return None;
    }
    let folded = text.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_ascii_lowercase().replace('-', "_")), name))
        .filter(|(distance, name)| *distance * 3 <= name.len().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
