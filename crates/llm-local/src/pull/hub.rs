//! Models from a hub or any address: streamed to disk, resumed after a cut, limited in size, checked when a hash is known.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use url::{Host, Url};

use super::{Lock, OnProgress, Progress, PullError, off_runtime, publish, sha256_of};
use crate::cache::{Cache, DEFAULT_MODEL, check_name};

const REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// What every GGUF file begins with.
const MAGIC: &[u8] = b"GGUF";

/// Limits of a pull, and where the hub is.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Where `hf:` names are looked up.
    pub hub_url: String,
    /// The largest file that is taken.
    pub max_bytes: u64,
    /// How often a connection that broke is made again.
    pub retries: u32,
    /// The first pause before that; each further one is twice as long.
    pub pause: Duration,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            hub_url: "https://huggingface.co".to_owned(),
            max_bytes: 20 << 30,
            retries: 5,
            pause: Duration::from_secs(1),
        }
    }
}

impl PullOptions {
    /// The defaults, with the hub that `AGENTRUNNER_HUB_URL` names.
    pub fn from_env() -> Self {
        let hub = std::env::var("AGENTRUNNER_HUB_URL").ok().filter(|url| !url.is_empty());
        let defaults = Self::default();
        Self { hub_url: hub.unwrap_or_else(|| defaults.hub_url.clone()), ..defaults }
    }
}

/// Proposes a model's name for a source: its file's name, in lower case and without the ending.
pub fn name_for(source: &str) -> Option<String> {
    let path = source.split(['?', '#']).next()?;
    let name = path.rsplit(['/', ':']).next()?.strip_suffix(".gguf")?.to_lowercase();
    check_name(&name).ok().map(|()| name)
}

/// Fetches `source`, which is `hf:owner/repo/file.gguf` or an `https:` address, as the model `name`, and returns the file.
///
/// A file of that name is replaced when the new one is complete. What a broken connection or a killed process left is
/// kept beside it and continued by the next call for the same address. Without `sha256` the hash that the hub
/// announces is checked, if it announces one.
pub async fn pull_url(
    cache: &Cache,
    name: &str,
    source: &str,
    sha256: Option<&str>,
    options: &PullOptions,
    progress: &mut OnProgress<'_>,
) -> Result<PathBuf, PullError> {
    let invalid = |what: &str, reason: &str| PullError::Invalid { what: what.to_owned(), reason: reason.to_owned() };
    check_name(name).map_err(|reason| invalid(name, reason))?;
    if name == DEFAULT_MODEL {
        return Err(invalid(name, "this name belongs to the default model; choose another with --name"));
    }
    let expected = sha256.map(str::to_ascii_lowercase);
    if expected.as_deref().is_some_and(|hash| !is_sha256(hash)) {
        return Err(invalid("the SHA-256", "it must have 64 hexadecimal digits"));
    }
    let mut pull = Pull { url: resolve(source, options)?, part: Part::new(cache, name), expected, options };
    let _lock = Lock::take(cache, name, progress).await?;
    let client = client().map_err(|error| pull.network(&error))?;
    let mut pause = options.pause;
    for attempt in 0.. {
        match pull.attempt(&client, progress).await {
            Ok(()) => break,
            Err(Attempt::Broken(_)) if attempt < options.retries => {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
            Err(Attempt::Broken(error) | Attempt::Failed(error)) => return Err(error),
        }
    }
    pull.check(progress).await?;
    let target = cache.file(name);
    publish(&pull.part.path, &target)?;
    pull.part.forget();
    Ok(target)
}

/// One file on its way.
struct Pull<'a> {
    url: Url,
    part: Part,
    expected: Option<String>,
    options: &'a PullOptions,
}

/// How one connection ended without the whole file.
enum Attempt {
    /// Another one may bring the rest.
    Broken(PullError),
    /// None will.
    Failed(PullError),
}

impl From<PullError> for Attempt {
    fn from(error: PullError) -> Self {
        Self::Failed(error)
    }
}

impl Pull<'_> {
    async fn attempt(&mut self, client: &Client, progress: &mut OnProgress<'_>) -> Result<(), Attempt> {
        let note = self.part.note().filter(|note| note.url == self.url.as_str());
        let have = note.as_ref().map_or(0, |_| self.part.len());
        let validator = note.and_then(|note| note.etag);
        let response = self.request(client, have, validator.as_deref()).await?;
        let (start, total) = match response.status() {
            StatusCode::OK => (0, response.content_length()),
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((start, total)) if start == have => (have, total),
                _ => return Err(self.restart("it sent another part than was asked for")),
            },
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(self.restart("the file has changed meanwhile")),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Attempt::Broken(self.refused(status)));
            }
            status => return Err(Attempt::Failed(self.refused(status))),
        };
        if total.is_some_and(|total| total > self.options.max_bytes) {
            return Err(self.too_large());
        }
        let etag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let etag = etag.filter(|tag| !tag.starts_with("W/")).map(str::to_owned);
        self.part.remember(&Note { url: self.url.to_string(), etag })?;
        self.receive(response, start, total, progress).await
    }

    async fn receive(
        &mut self,
        response: Response,
        start: u64,
        total: Option<u64>,
        progress: &mut OnProgress<'_>,
    ) -> Result<(), Attempt> {
        let path = self.part.path.clone();
        let mut how = tokio::fs::OpenOptions::new();
        how.create(true).write(true).truncate(start == 0).append(start > 0);
        let mut file = how.open(&path).await.map_err(PullError::disk(&path, "opened"))?;
        let (mut done, mut body, mut broken) = (start, response.bytes_stream(), None);
        while let Some(piece) = body.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    broken = Some(Attempt::Broken(self.network(&error)));
                    break;
                }
            };
            done += piece.len() as u64;
            if done > self.options.max_bytes {
                return Err(self.too_large());
            }
            file.write_all(&piece).await.map_err(PullError::disk(&path, "written"))?;
            progress(Progress { done, total, what: "downloading" });
        }
        file.flush().await.map_err(PullError::disk(&path, "written"))?;
        match broken {
            Some(broken) => Err(broken),
            None if total.is_some_and(|total| total != done) => {
                Err(Attempt::Broken(self.network(&format!("it ended after {done} bytes"))))
            }
            None => Ok(()),
        }
    }

    /// Follows redirections by hand: they must stay encrypted, and the hub announces the file's hash on the first one.
    async fn request(&mut self, client: &Client, have: u64, validator: Option<&str>) -> Result<Response, Attempt> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS {
            let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            // Without a validator, a resumed file is only known to be of one piece if its hash is known.
            if have > 0 && (validator.is_some() || self.expected.is_some()) {
                request = request.header(RANGE, format!("bytes={have}-"));
                if let Some(validator) = validator {
                    request = request.header(IF_RANGE, validator);
                }
            }
            let response = request.send().await.map_err(|error| Attempt::Broken(self.network(&error)))?;
            if self.expected.is_none() {
                self.expected = announced_hash(response.headers());
            }
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let next = location.and_then(|to| url.join(to).ok()).filter(|to| allowed(to, &self.options.hub_url));
            url = next.ok_or_else(|| self.invalid("it redirects to an address that is not https"))?;
        }
        Err(self.invalid("it redirects in circles").into())
    }

    /// Checks the finished file and throws a wrong one away.
    async fn check(&self, progress: &mut OnProgress<'_>) -> Result<(), PullError> {
        let path = self.part.path.clone();
        progress(Progress { done: 0, total: None, what: "checking" });
        let wants_hash = self.expected.is_some();
        let checked = off_runtime(move || {
            let found = if wants_hash { sha256_of(&path)? } else { String::new() };
            Ok((begins_with(&path, MAGIC)?, found))
        });
        let (is_model, found) = checked.await.map_err(PullError::disk(&self.part.path, "read"))?;
        if let Some(expected) = self.expected.as_ref().filter(|expected| **expected != found) {
            self.part.forget();
            return Err(PullError::WrongHash { what: self.url.to_string(), expected: expected.clone(), found });
        }
        if !is_model {
            self.part.forget();
            return Err(self.invalid("what it sent is no GGUF file"));
        }
        Ok(())
    }

    fn restart(&self, reason: &str) -> Attempt {
        self.part.forget();
        Attempt::Broken(self.network(&reason))
    }

    fn too_large(&self) -> Attempt {
        self.part.forget();
        Attempt::Failed(PullError::TooLarge { url: self.url.to_string(), limit: self.options.max_bytes })
    }

    fn refused(&self, status: StatusCode) -> PullError {
        let advice = match status.as_u16() {
            401 | 403 => "the model may need a licence to be accepted; download it with your browser and name the file",
            404 => "check the owner, the repository and the file's name",
            429 | 500.. => "it is busy or broken; try again later",
            _ => "check the address",
        };
        PullError::Status { url: self.url.to_string(), status: status.as_u16(), advice }
    }

    fn network(&self, error: &dyn std::fmt::Display) -> PullError {
        PullError::Network { url: self.url.to_string(), reason: error.to_string() }
    }

    fn invalid(&self, reason: &str) -> PullError {
        PullError::Invalid { what: self.url.to_string(), reason: reason.to_owned() }
    }
}

/// What has come so far, and where from.
struct Part {
    path: PathBuf,
    note: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Note {
    url: String,
    etag: Option<String>,
}

impl Part {
    fn new(cache: &Cache, name: &str) -> Self {
        let file = |ending: &str| cache.dir().join(format!(".{name}.gguf.{ending}"));
        Self { path: file("part"), note: file("part.json") }
    }

    fn len(&self) -> u64 {
        self.path.metadata().map_or(0, |data| data.len())
    }

    fn note(&self) -> Option<Note> {
        serde_json::from_slice(&std::fs::read(&self.note).ok()?).ok()
    }

    fn remember(&self, note: &Note) -> Result<(), PullError> {
        // A part of another file must not be there when the note says that it belongs to this one.
        if self.note().is_none_or(|old| old.url != note.url) {
            let _ = std::fs::remove_file(&self.path);
        }
        let text = serde_json::to_vec(note).map_err(|error| PullError::disk(&self.note, "written")(error.into()))?;
        std::fs::write(&self.note, text).map_err(PullError::disk(&self.note, "written"))
    }

    fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(&self.note);
    }
}

fn client() -> reqwest::Result<Client> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have installed one in between, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    Client::builder()
        .user_agent(concat!("agentrunner/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .no_gzip()
        .build()
}

/// The address that a source stands for.
fn resolve(source: &str, options: &PullOptions) -> Result<Url, PullError> {
    let invalid = || PullError::Invalid {
        what: source.to_owned(),
        reason: "give `hf:owner/repo/file.gguf` or an https address".to_owned(),
    };
    let text = match source.strip_prefix("hf:") {
        None => source.to_owned(),
        Some(path) => {
            let mut parts = path.splitn(3, '/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
            let (owner, repo, file) = parts
                .next()
                .zip(parts.next())
                .zip(parts.next())
                .map(|((owner, repo), file)| (owner, repo, file))
                .filter(|(_, _, file)| file.strip_suffix(".gguf").is_some())
                .ok_or_else(invalid)?;
            format!("{}/{owner}/{repo}/resolve/main/{file}", options.hub_url.trim_end_matches('/'))
        }
    };
    Url::parse(&text).ok().filter(|url| allowed(url, &options.hub_url)).ok_or_else(invalid)
}

/// Only encrypted addresses; plain ones of this machine when the hub itself is one.
fn allowed(url: &Url, hub_url: &str) -> bool {
    let plain_and_here =
        |url: &Url| url.scheme() == "http" && matches!(url.host(), Some(Host::Ipv4(ip)) if ip.is_loopback());
    url.scheme() == "https" || (plain_and_here(url) && Url::parse(hub_url).is_ok_and(|hub| plain_and_here(&hub)))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The hub's own `ETag` of a large file is its SHA-256.
fn announced_hash(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get("x-linked-etag")?.to_str().ok()?.trim_matches('"');
    is_sha256(tag).then(|| tag.to_ascii_lowercase())
}

/// Reads `bytes 5-9/10`: where the part starts, and the size of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn begins_with(path: &Path, magic: &[u8]) -> std::io::Result<bool> {
    use std::io::Read;
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(magic.len() as u64).read_to_end(&mut start)?;
    Ok(start == magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_become_addresses() {
        let options = PullOptions::default();
        let of = |source: &str| resolve(source, &options).map(|url| url.to_string()).ok();
        assert_eq!(of("hf:o/r/m.gguf").as_deref(), Some("https://huggingface.co/o/r/resolve/main/m.gguf"));
        assert_eq!(of("hf:o/r/q4/m.gguf").as_deref(), Some("https://huggingface.co/o/r/resolve/main/q4/m.gguf"));
        assert_eq!(of("https://example.org/m.gguf").as_deref(), Some("https://example.org/m.gguf"));
        for wrong in
            ["hf:o/r", "hf:o/r/m.safetensors", "hf:../r/m.gguf", "http://example.org/m.gguf", "file:///m.gguf", "m"]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn plain_addresses_are_allowed_on_this_machine_when_the_hub_is_one() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(allowed(&url("http://127.0.0.1:9/x"), "http://127.0.0.1:8"));
        assert!(!allowed(&url("http://127.0.0.1:9/x"), "https://huggingface.co"));
        assert!(!allowed(&url("http://example.org/x"), "http://127.0.0.1:8"));
    }

    #[test]
    fn a_name_is_proposed_from_the_file() {
        assert_eq!(name_for("hf:o/r/q4/Foo-1B.Q4_K_M.gguf").as_deref(), Some("foo-1b.q4_k_m"));
        assert_eq!(name_for("https://example.org/a/b.gguf?download=true").as_deref(), Some("b"));
        assert_eq!(name_for("https://example.org/page.html"), None);
    }

    #[test]
    fn ranges_and_announced_hashes_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, "bytes 5-9/10".parse().unwrap());
        assert_eq!(content_range(&headers), Some((5, Some(10))));
        headers.insert("x-linked-etag", format!("\"{}\"", "AB".repeat(32)).parse().unwrap());
        assert_eq!(announced_hash(&headers), Some("ab".repeat(32)));
        headers.insert("x-linked-etag", "\"abc\"".parse().unwrap());
        assert_eq!(announced_hash(&headers), None);
    }
}
