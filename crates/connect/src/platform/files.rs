//! Files of tasks: a folder that all processes that need it share, as a volume.

use std::path::PathBuf;
use std::sync::Arc;

use blob::Blobs;
use common::config::Validate;
use serde::{Deserialize, Serialize};

/// Where files of tasks are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSettings {
    /// The folder of the files of tasks; the orchestrator and all pools must see the same one.
    pub blobs_dir: PathBuf,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self { blobs_dir: PathBuf::from("data/blobs") }
    }
}

impl Validate for FileSettings {
    fn problems(&self) -> Vec<String> {
        let empty = self.blobs_dir.as_os_str().is_empty();
        empty.then(|| "BLOBS_DIR must not be empty".to_owned()).into_iter().collect()
    }
}

/// Keeps the files of tasks in a folder.
pub fn files(settings: &FileSettings) -> Arc<dyn Blobs> {
    Arc::new(blob::Folder::new(&settings.blobs_dir))
}
