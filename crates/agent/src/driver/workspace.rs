//! What the platform does for the tools of one task: memory, files, colleagues, progress.
//!
//! It is bound to the task: no argument of a tool, and so no word of a model, can name another task, agent, conversation
//! or namespace.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{AgentSpec, EventBody, Lease, Task};
use serde_json::Value;
use state::{Artifact, PutCondition, StateError};
use tools::{AgentBrief, ArtifactInfo, MemoryScope, ToolError, Workspace};

use super::DriverParts;

/// The longest key of a remembered value, and the longest name of a file, in bytes.
const MAX_NAME: usize = 200;
/// The largest remembered value, as JSON.
const MAX_VALUE: usize = 64 * 1024;
/// The most keys of one agent, and of one conversation.
const MAX_KEYS: usize = 1_000;
/// How many values are read at once to count or list keys.
const PAGE: u32 = 100;
/// The largest file that a tool may write.
const MAX_FILE: usize = 16 * 1024 * 1024;
/// How often a call may tell how far it is.
const PROGRESS_A_SECOND: u32 = 10;
/// The longest message of a call that is at work, in characters.
const MAX_MESSAGE: usize = 500;

/// The platform, bound to one task.
pub(super) struct TaskWorkspace<'a> {
    parts: &'a DriverParts,
    task: &'a Task,
    agent: &'a AgentSpec,
    lease: Lease,
    /// When the second began that a call last told something in, and how often it did in it.
    told: Mutex<HashMap<String, (Duration, u32)>>,
}

impl<'a> TaskWorkspace<'a> {
    pub(super) fn new(parts: &'a DriverParts, task: &'a Task, agent: &'a AgentSpec, lease: Lease) -> Self {
        Self { parts, task, agent, lease, told: Mutex::default() }
    }

    /// Where the values of a scope are kept, and how their keys begin.
    fn place(&self, scope: MemoryScope) -> Result<(&'static str, String), ToolError> {
        match scope {
            MemoryScope::Agent => Ok(("memory-agent", format!("{}:", self.task.agent))),
            MemoryScope::Thread => match self.task.thread {
                Some(thread) => Ok(("memory-thread", format!("{thread}:"))),
                None => Err(ToolError::new("no_thread", "this task belongs to no conversation")),
            },
        }
    }

    /// The keys under an owner that begin with `prefix`, at most `most`, as they are stored.
    async fn stored_keys(
        &self,
        place: &'static str,
        owner: &str,
        prefix: &str,
        most: usize,
    ) -> Result<Vec<String>, ToolError> {
        let begin = format!("{owner}{prefix}");
        let mut after = owner.to_owned();
        let mut found = Vec::new();
        loop {
            let now = self.parts.clock.now();
            let page = self.parts.state.values(&self.task.namespace, place, Some(&after), PAGE, now).await;
            let page = page.map_err(|error| unavailable(&error))?;
            for value in &page.items {
                if !value.key.starts_with(owner) {
                    return Ok(found);
                }
                if value.key.starts_with(&begin) {
                    found.push(value.key.clone());
                    if found.len() >= most {
                        return Ok(found);
                    }
                }
            }
            match page.items.last() {
                Some(last) if page.more => after.clone_from(&last.key),
                _ => return Ok(found),
            }
        }
    }

    async fn kept(&self, name: &str) -> Result<Option<Artifact>, ToolError> {
        check_file_name(name)?;
        let kept = self.parts.state.artifacts(&self.task.namespace, self.task.id).await;
        Ok(kept.map_err(|error| unavailable(&error))?.into_iter().find(|artifact| artifact.name == name))
    }

    /// Tells whether a call may tell something now.
    fn may_tell(&self, call_id: &str) -> bool {
        let now = self.parts.clock.monotonic();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (begin, count) = told.entry(call_id.to_owned()).or_insert((now, 0));
        if now.saturating_sub(*begin) >= Duration::from_secs(1) {
            (*begin, *count) = (now, 0);
        }
        *count += 1;
        *count <= PROGRESS_A_SECOND
    }
}

#[async_trait]
impl Workspace for TaskWorkspace<'_> {
    async fn recall(&self, scope: MemoryScope, key: &str) -> Result<Option<Value>, ToolError> {
        let (place, owner) = self.place(scope)?;
        let key = owner + &encoded(key)?;
        let found = self.parts.state.value(&self.task.namespace, place, &key, self.parts.clock.now()).await;
        Ok(found.map_err(|error| unavailable(&error))?.map(|found| found.value))
    }

    async fn remember(&self, scope: MemoryScope, key: &str, value: Option<Value>) -> Result<(), ToolError> {
        let (place, owner) = self.place(scope)?;
        let (state, namespace, now) = (&self.parts.state, &self.task.namespace, self.parts.clock.now());
        let stored = format!("{owner}{}", encoded(key)?);
        let Some(value) = value else {
            state.delete_value(namespace, place, &stored).await.map_err(|error| unavailable(&error))?;
            return Ok(());
        };
        let bytes = value.to_string().len();
        if bytes > MAX_VALUE {
            let message = format!("a remembered value has at most {MAX_VALUE} bytes as JSON; this one has {bytes}");
            return Err(ToolError::new("too_large", message));
        }
        match state.value(namespace, place, &stored, now).await.map_err(|error| unavailable(&error))? {
            Some(known) if known.value == value => return Ok(()),
            Some(_) => {}
            None => {
                if self.stored_keys(place, &owner, "", MAX_KEYS).await?.len() >= MAX_KEYS {
                    let message = format!("{MAX_KEYS} keys are remembered, and no more may be; forget some first");
                    return Err(ToolError::new("too_many", message));
                }
            }
        }
        let put = state.put_value(namespace, place, &stored, value, None, PutCondition::Always, now).await;
        put.map(|_| ()).map_err(|error| unavailable(&error))
    }

    async fn remembered(&self, scope: MemoryScope, prefix: &str) -> Result<Vec<String>, ToolError> {
        let (place, owner) = self.place(scope)?;
        let prefix = if prefix.is_empty() { String::new() } else { encoded(prefix)? };
        let stored = self.stored_keys(place, &owner, &prefix, MAX_KEYS).await?;
        let mut keys: Vec<String> = stored.iter().filter_map(|key| decoded(key.strip_prefix(&owner)?)).collect();
        keys.sort();
        Ok(keys)
    }

    async fn write_artifact(&self, name: &str, media_type: &str, bytes: Bytes) -> Result<ArtifactInfo, ToolError> {
        check_file_name(name)?;
        check_media_type(media_type)?;
        if bytes.len() > MAX_FILE {
            let message = format!("a file has at most {MAX_FILE} bytes; this one has {}", bytes.len());
            return Err(ToolError::new("too_large", message));
        }
        let size = bytes.len() as u64;
        // The record refers to bytes only once they are durable.
        let digest = self.parts.blobs.put(bytes).await.map_err(|error| unavailable(&error))?;
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        let info = ArtifactInfo { name: name.clone(), media_type: media_type.clone(), size };
        let artifact = Artifact { name, media_type, size, digest, at: self.parts.clock.now() };
        match self.parts.state.put_artifact(self.lease, artifact).await {
            Ok(()) => Ok(info),
            Err(StateError::TooLarge(why)) => Err(ToolError::new("too_large", why)),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn read_artifact(&self, name: &str) -> Result<Option<(ArtifactInfo, Bytes)>, ToolError> {
        let Some(artifact) = self.kept(name).await? else { return Ok(None) };
        match self.parts.blobs.get(&artifact.digest).await {
            Ok(Some(bytes)) => Ok(Some((info(artifact), bytes))),
            Ok(None) => Err(ToolError::new("unavailable", "the bytes of the file are gone")),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn artifacts(&self) -> Result<Vec<ArtifactInfo>, ToolError> {
        let kept = self.parts.state.artifacts(&self.task.namespace, self.task.id).await;
        Ok(kept.map_err(|error| unavailable(&error))?.into_iter().map(info).collect())
    }

    async fn agents(&self) -> Result<Vec<AgentBrief>, ToolError> {
        let mut briefs = Vec::with_capacity(self.agent.delegates.len());
        for name in &self.agent.delegates {
            let active = self.parts.agents.active(&self.task.namespace, name).await;
            if let Some(version) = active.map_err(|error| unavailable(&error))? {
                briefs.push(AgentBrief { name: name.clone(), description: version.spec.description.clone() });
            }
        }
        Ok(briefs)
    }

    fn progress(&self, call_id: &str, message: &str, fraction: Option<f64>) {
        if !self.may_tell(call_id) {
            return;
        }
        let message = message.chars().take(MAX_MESSAGE).map(|c| if is_plain(c) { c } else { ' ' }).collect();
        let fraction = fraction.filter(|part| part.is_finite()).map(|part| part.clamp(0.0, 1.0));
        let call_id = call_id.to_owned();
        let body = EventBody::ToolProgress { task: self.task.id, call_id, message, fraction };
        self.parts.announcer.progress(&self.task.namespace, body);
    }
}

fn info(artifact: Artifact) -> ArtifactInfo {
    ArtifactInfo { name: artifact.name, media_type: artifact.media_type, size: artifact.size }
}

fn unavailable(error: &dyn std::fmt::Display) -> ToolError {
    tracing::warn!(%error, "a tool could not use the record");
    ToolError::new("unavailable", "this does not work at the moment")
}

/// A key as the record can keep it and every interface of the record can name it: what is no letter, digit, dot, dash or
/// underscore becomes `@` and two hexadecimal digits. What one key begins with, its encoding begins with, too.
fn encoded(key: &str) -> Result<String, ToolError> {
    if key.is_empty() || key.len() > MAX_NAME || key.chars().any(char::is_control) {
        let message = format!("a key has 1 to {MAX_NAME} bytes and no control characters");
        return Err(ToolError::new("invalid_key", message));
    }
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('@');
            text.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or_default()));
        }
    }
    Ok(text)
}

/// The key that was encoded; none for one that somebody else put there in another form.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'@' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// A name that is safe as a path below a folder, in a URL, and in a log line.
fn check_file_name(name: &str) -> Result<(), ToolError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let part = |part: &str| !part.is_empty() && part.bytes().all(plain) && !part.bytes().all(|byte| byte == b'.');
    if name.len() <= MAX_NAME && name.split('/').all(part) {
        return Ok(());
    }
    let message = format!(
        "a file's name has 1 to {MAX_NAME} letters, digits, dots, dashes and underscores, in parts with slashes between them"
    );
    Err(ToolError::new("invalid_name", message))
}

fn check_media_type(media_type: &str) -> Result<(), ToolError> {
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let (essence, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
    let fits = media_type.len() <= 127 && parameters.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if fits && essence.trim_end().split_once('/').is_some_and(|(kind, form)| token(kind) && token(form)) {
        return Ok(());
    }
    Err(ToolError::new("invalid_media_type", "a media type looks like text/plain or application/json"))
}

/// Tells whether a character is harmless in a terminal and changes no text around it.
fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were_and_keep_their_beginnings() {
        for key in ["a", "notes/2024", "my favourite colour", "größe", "a@b:c", "..", "@41"] {
            let stored = encoded(key).expect("it fits");
            assert!(stored.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte)), "{stored}");
            assert_eq!(decoded(&stored).as_deref(), Some(key));
            assert!(encoded(&format!("{key}/more")).expect("it fits").starts_with(&stored));
        }
        for key in ["", "a\0", "a\nb", &"k".repeat(201)] {
            assert_eq!(encoded(key).expect_err("refused").code, "invalid_key");
        }
        assert_eq!(decoded("@4"), None);
        assert_eq!(decoded("@zz"), None);
        assert_eq!(decoded("@ff"), None, "no text");
    }

    #[test]
    fn names_of_files_lead_nowhere_else() {
        for name in ["a", "report.md", "out/2024/a-b_c.json", "...x", &"n".repeat(200)] {
            assert!(check_file_name(name).is_ok(), "{name}");
        }
        for name in
            ["", "/a", "a/", "a//b", "..", "a/../b", ".", "a/./b", "a\\b", "a b", "é", "a\0", "C:x", &"n".repeat(201)]
        {
            assert_eq!(check_file_name(name).expect_err("refused").code, "invalid_name", "{name}");
        }
    }

    #[test]
    fn media_types_have_their_form() {
        for media_type in ["text/plain", "text/plain; charset=utf-8", "image/svg+xml", "application/vnd.a-b.c+json"] {
            assert!(check_media_type(media_type).is_ok(), "{media_type}");
        }
        for media_type in ["", "text", "text/", "/plain", "a/b\r\nX: y", "a b/c", &format!("text/{}", "x".repeat(200))]
        {
            assert!(check_media_type(media_type).is_err(), "{media_type}");
        }
    }
}
