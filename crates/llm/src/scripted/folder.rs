//! Dialogues in a folder: `NAME.yml` is the model `scripted/NAME`.
//!
//! A file is looked at each time it is asked for, and read again when its time or size changed, so that an edit is
//! played by the very next call.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::dialogue::{Dialogue, DialogueError, MAX_FILE_BYTES};
use super::player::Player;

pub(super) struct Folder {
    path: PathBuf,
    read: Mutex<HashMap<String, (Stamp, Arc<Player>)>>,
}

type Stamp = (Option<SystemTime>, u64);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// Finds a dialogue; the error says why it cannot be played.
    pub(super) async fn find(&self, name: &str) -> Result<Arc<Player>, String> {
        if !is_name(name) {
            return Err("the name of a dialogue consists of letters, digits, `-`, `_` and `.`".to_owned());
        }
        let path = self.path.join(format!("{name}.yml"));
        let metadata = tokio::fs::metadata(&path).await.map_err(|error| format!("{}: {error}", path.display()))?;
        let stamp = (metadata.modified().ok(), metadata.len());
        if let Some((known, player)) = self.read().get(name)
            && *known == stamp
        {
            return Ok(Arc::clone(player));
        }
        let told = |error: DialogueError| format!("{}: {error}", path.display());
        if stamp.1 > MAX_FILE_BYTES as u64 {
            return Err(told(DialogueError::TooBig));
        }
        let text = tokio::fs::read_to_string(&path).await.map_err(|error| format!("{}: {error}", path.display()))?;
        let player = Arc::new(Player::new(Dialogue::parse(&text).map_err(told)?));
        self.read().insert(name.to_owned(), (stamp, Arc::clone(&player)));
        Ok(player)
    }

    /// The names of the files that are there now.
    pub(super) fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix(".yml").map(str::to_owned))
            .filter(|name| is_name(name))
            .collect()
    }

    fn read(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Stamp, Arc<Player>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that stays within its folder.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
