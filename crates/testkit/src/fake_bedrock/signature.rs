//! AWS's Signature Version 4, calculated from its specification.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{KEY_ID, REGION, SECRET, STALE_KEY_ID, TOKEN, error};
use crate::fake_http::{Reply, Seen};

const SCHEME: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "bedrock";

/// Answers a request that is not properly signed.
pub(super) fn check(seen: &Seen) -> Option<Reply> {
    let Some(told) = seen.header("authorization").and_then(Told::read) else {
        return Some(error(403, "MissingAuthenticationTokenException", "Missing Authentication Token"));
    };
    if told.key_id == STALE_KEY_ID {
        let message = "The security token included in the request is expired";
        return Some(error(403, "ExpiredTokenException", message));
    }
    let token = seen.header("x-amz-security-token");
    if told.key_id != KEY_ID || token.is_some_and(|token| token != TOKEN) {
        let message = "The security token included in the request is invalid.";
        return Some(error(403, "UnrecognizedClientException", message));
    }
    let must_be_signed =
        ["content-type", "host", "x-amz-date"].into_iter().chain(token.map(|_| "x-amz-security-token"));
    let date = seen.header("x-amz-date").unwrap_or_default();
    let scope = format!("{}/{REGION}/{SERVICE}/aws4_request", date.get(..8).unwrap_or_default());
    let missing = must_be_signed.into_iter().any(|name| !told.signed_headers.split(';').any(|signed| signed == name));
    if missing || told.scope != scope {
        return Some(error(403, "IncompleteSignatureException", "headers or scope are missing"));
    }
    let canonical = canonical_request(seen, told.signed_headers);
    let right = signature(&canonical, date, &scope);
    // The real one tells its caller all that it has calculated with; a client must not repeat it.
    let message = format!("The request signature we calculated does not match. The Canonical String was '{canonical}'");
    (told.signature != right).then(|| error(403, "InvalidSignatureException", &message))
}

/// What an `Authorization` header says.
struct Told<'a> {
    key_id: &'a str,
    scope: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Told<'a> {
    fn read(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix(SCHEME)?.trim();
        let part = |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let (key_id, scope) = part("Credential")?.split_once('/')?;
        Some(Self { key_id, scope, signed_headers: part("SignedHeaders")?, signature: part("Signature")? })
    }
}

fn canonical_request(seen: &Seen, signed_headers: &str) -> String {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let mut canonical = format!("{}\n{}\n{query}\n", seen.method, encoded_again(path));
    for name in signed_headers.split(';') {
        let value = seen.header(name).unwrap_or_default();
        let value: Vec<&str> = value.split_ascii_whitespace().collect();
        let _ = writeln!(canonical, "{name}:{}", value.join(" "));
    }
    let _ = write!(canonical, "\n{signed_headers}\n{}", hex(&Sha256::digest(&seen.raw)));
    canonical
}

/// All services but S3 want the path, which is encoded already, encoded once more.
fn encoded_again(path: &str) -> String {
    path.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

fn signature(canonical: &str, date: &str, scope: &str) -> String {
    let to_sign = format!("{SCHEME}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let first = format!("AWS4{SECRET}").into_bytes();
    let key = scope.split('/').fold(first, |key, part| hmac(&key, part.as_bytes()).to_vec());
    hex(&hmac(&key, to_sign.as_bytes()))
}

/// HMAC of RFC 2104, for keys that are no longer than a block.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::new_with_prefix(pad(0x36)).chain_update(text).finalize();
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyed_hash_is_the_one_of_its_specification() {
        // RFC 4231, test case 2.
        let hash = hex(&hmac(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(hash, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
