//! What the tools around files have in common: names, media types, and what is answered.

use serde_json::{Value, json};

use super::invalid;
use crate::{ArtifactInfo, ToolError};

/// The longest name in bytes.
pub(super) const MAX_NAME: usize = 200;

/// The schema of a file's name.
pub(super) fn name_schema(description: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME, "description": description })
}

/// Checks a file's name: it becomes part of a URL and the name of a download, so it must mean the same everywhere.
pub(super) fn check_name(name: &str) -> Result<(), ToolError> {
    let sound = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.chars().any(|c| c.is_control() || c == '\\' || is_hidden(c))
        && name.split('/').all(|part| !part.trim().is_empty() && part != "." && part != "..");
    if sound {
        return Ok(());
    }
    Err(invalid(
        "name must be a relative path of at most 200 bytes such as report.md or data/2030.csv, without `..`, backslashes \
         and characters that cannot be seen",
    ))
}

/// Tells whether a character hides something or turns the direction of what follows.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The media type that a name suggests, else one for text or for bytes.
pub(super) fn media_type_of(name: &str, text: bool) -> &'static str {
    let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default();
    match end.as_str() {
        "csv" => "text/csv",
        "gif" => "image/gif",
        "htm" | "html" => "text/html",
        "jpg" | "jpeg" => "image/jpeg",
        "json" => "application/json",
        "md" => "text/markdown",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "xml" => "application/xml",
        "yaml" | "yml" => "application/yaml",
        "zip" => "application/zip",
        _ if text => "text/plain",
        _ => "application/octet-stream",
    }
}

/// Tells whether a text is a media type without parameters, such as `image/png`.
pub(super) fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    text.split_once('/').is_some_and(|(kind, rest)| token(kind) && token(rest))
}

/// A file as it is told to a model.
pub(super) fn told(info: &ArtifactInfo) -> Value {
    json!({ "name": info.name, "media_type": info.media_type, "size": info.size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_else_elsewhere_are_refused() {
        for name in ["report.md", "data/2030/q1.csv", "Bericht für März.txt", "日本語.txt", ".hidden", "a..b"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(201);
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "a\nb",
            "a\u{0}",
            " ",
            "a/ /b",
            "\u{202e}gpj.exe",
            "a\u{200b}b",
            &long,
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_media_type_is_two_words_and_nothing_more() {
        for good in ["text/plain", "application/vnd.ms-excel", "image/svg+xml"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "text", "text/", "/plain", "text/plain; charset=utf-8", "text/plain\r\nx: y", "a/b/c", "ä/b"] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
    }
}
