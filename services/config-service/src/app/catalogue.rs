//! What the folder holds at the moment, for whoever asks in this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::AgentName;
use domain::agent::FileProblem;
use state::agents::AgentVersion;
use tokio::sync::watch;

/// The agents of the folder and what is wrong with its files. Clones share it.
#[derive(Debug, Clone)]
pub struct Catalogue {
    view: watch::Sender<Arc<View>>,
}

/// The folder at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// False until all that is right in the folder was recorded for the first time.
    pub loaded: bool,
    /// The agents that new tasks may use.
    pub agents: BTreeMap<AgentName, CatalogueEntry>,
    /// What is wrong with files, ordered by file and place.
    pub problems: Vec<FileProblem>,
}

/// One agent of the folder.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogueEntry {
    /// Its file's name within the folder.
    pub file: String,
    /// Its active version.
    pub version: Arc<AgentVersion>,
    /// Whether the file says what the version says.
    pub status: EntryStatus,
}

/// Whether an agent is as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryStatus {
    /// The active version is what the file says.
    Ok,
    /// The file is wrong: the last good version stays.
    Stale(Vec<FileProblem>),
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { view: watch::Sender::new(Arc::default()) }
    }
}

impl Catalogue {
    /// The folder as it was last seen.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The agents, by name.
    pub fn list(&self) -> Vec<CatalogueEntry> {
        self.view().agents.values().cloned().collect()
    }

    /// What is wrong with files.
    pub fn errors(&self) -> Vec<FileProblem> {
        self.view().problems.clone()
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    pub(crate) fn set(&self, view: View) {
        self.view.send_if_modified(|current| {
            let changed = **current != view;
            if changed {
                *current = Arc::new(view);
            }
            changed
        });
    }
}
