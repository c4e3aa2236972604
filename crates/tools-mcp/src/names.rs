//! Which names are names.

/// The longest name of a server.
const SERVER_MAX: usize = 32;
/// The longest name of a tool.
const TOOL_MAX: usize = 64;

/// Tells whether a text can name a server.
pub(crate) fn is_server(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=SERVER_MAX).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['-', '_'])
}

/// Tells whether a text can name a tool of a server. Letters that only look like others are none.
pub(crate) fn is_tool(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=TOOL_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// Tells whether a variable or header of this name would hold a secret.
pub(crate) fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "passwd",
        "credential",
        "apikey",
        "api_key",
        "api-key",
    ];
    parts.iter().any(|part| name.contains(part))
}
