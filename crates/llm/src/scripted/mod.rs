//! A model that plays a dialogue from a file, for tests, demonstrations and benchmarks.
//!
//! ```yaml
//! turns:
//!   - text: "Let me look."                 # spoken word by word
//!     chunk_delay: 20ms
//!     tool_calls:
//!       - name: http_request
//!         arguments: { url: "https://example.org/{{prompt}}" }
//!     usage: { input_tokens: 10, output_tokens: 5 }
//!   - fail: rate_limited                   # before the next answer, twice
//!     times: 2
//!     retry_after: 1s
//!   - text: "The answer is {{last_tool_result}}."
//! ```
//!
//! The keys of a turn that answers:
//! - `text`: what it says. `delay` before the first piece, `chunk_delay` between pieces, `chunks`: how many pieces (else
//!   one a word).
//! - `tool_calls`: a list of `name` and `arguments`. Call ids are `call-TURN-INDEX`, both from 0.
//! - `usage`: `input_tokens` and `output_tokens`; else they are estimated.
//! - `finish`: `length` or `content_filter` for an answer that was cut off.
//! - `repeat: true` on the last answer, or alone after it: it is played for ever.
//!
//! Two kinds of turn do not answer, and come before the next answer: `fail: rate_limited | timeout | unavailable | invalid
//! | refused | cut | context_too_long` and `hang: true`. Each may have a `text`, spoken first, and `times`; without it the
//! conversation never gets past. They count per process, turn and prompt.
//!
//! `{{prompt}}`, `{{last_tool_result}}` and `{{turn}}` (from 0) are filled in texts and in the strings of arguments.
//!
//! `obeys: true` beside `turns:` makes a hijacked model: every line `CALL {"name": …, "arguments": …}` in what its tools
//! answered (also within JSON) is called (`times` times) instead of the turn that is due; orders are answers of their own,
//! and the turns go on after them. It is for tests of what the platform prevents.
//!
//! **Which answer is played** depends on the conversation alone: it is the number of assistant messages after the prompt,
//! and the prompt is the last user message that is not a repair note (`REPAIR_NOTE`). So a call repeated after a crash
//! gets the same answer, a retried task begins anew when its journal does, an answer that was sent back is followed by
//! the next one, and each message of a thread begins the dialogue anew.

mod dialogue;
mod folder;
mod orders;
mod player;
mod template;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

pub use dialogue::{Dialogue, DialogueError, MAX_FILE_BYTES};

use crate::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, LlmError};
use folder::Folder;
use player::Player;

/// Plays dialogues: those that were added, then those of its folder.
#[derive(Default)]
pub struct Scripted {
    added: RwLock<HashMap<String, Arc<Player>>>,
    folder: Option<Folder>,
}

impl Scripted {
    /// Plays what will be added.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plays the files `NAME.yml` of a folder as well; each is looked at when it is asked for.
    pub fn from_dir(dir: impl Into<PathBuf>) -> Self {
        Self { added: RwLock::default(), folder: Some(Folder::new(dir.into())) }
    }

    /// Adds a dialogue; one of the same name is replaced, and its failures are counted anew.
    pub fn add(&self, name: impl Into<String>, dialogue: Dialogue) {
        let player = Arc::new(Player::new(dialogue));
        self.added.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), player);
    }

    /// The names of the dialogues that are there now. Reads the folder.
    pub fn names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> =
            self.added.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        names.extend(self.folder.iter().flat_map(Folder::names));
        names.into_iter().collect()
    }

    async fn find(&self, name: &str) -> Result<Arc<Player>, LlmError> {
        if let Some(player) = self.added.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Arc::clone(player));
        }
        let found = match &self.folder {
            Some(folder) => folder.find(name).await,
            None => Err("no dialogue of this name was added".to_owned()),
        };
        found.map_err(|reason| LlmError::Unknown { model: format!("scripted/{name}"), reason })
    }
}

#[async_trait]
impl ChatModel for Scripted {
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        self.find(&request.model).await?.play(request, on_delta).await
    }
}
