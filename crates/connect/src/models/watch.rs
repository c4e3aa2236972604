//! Keeping the models as their file says while the process runs, and looking at nodes that share work.
//!
//! The file is read again and again: that sees every way in which a file can change (a mounted one that is replaced as
//! well), costs nothing beside a model call, and needs no library. Keys that it names are looked at with it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use llm::Models;
use tokio_util::sync::CancellationToken;

use super::file::{HeaderSpec, ModelsFile};
use super::{Base, Environment, LARGEST_FILE, is_usual};

/// How often the file is read.
const EVERY: Duration = Duration::from_secs(2);

/// Where the models' file and its keys come from.
pub(super) struct Source {
    path: PathBuf,
    variable: Box<Environment>,
}

impl Source {
    pub(super) fn new(path: &Path, variable: Box<Environment>) -> Self {
        Self { path: path.to_owned(), variable }
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn variable(&self) -> &Environment {
        self.variable.as_ref()
    }

    /// Reads the file. The usual one may be missing.
    pub(super) async fn read(&self) -> Result<Option<Vec<u8>>, String> {
        match tokio::fs::metadata(&self.path).await {
            Ok(meta) if !meta.is_file() => return Err("is not a file".to_owned()),
            Ok(meta) if meta.len() > LARGEST_FILE => return Err("is larger than 1 MiB".to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_usual(&self.path) => return Ok(None),
            Err(error) => return Err(format!("cannot be read: {error}; AGENTRUNNER_MODELS names it")),
        }
        tokio::fs::read(&self.path).await.map(Some).map_err(|error| format!("cannot be read: {error}"))
    }
}

/// What the models were made of; a change of it makes them anew.
type Inputs = (Result<Option<Vec<u8>>, String>, u64);

/// Keeps models as their file says.
pub struct Watch {
    base: Base,
    source: Source,
    inputs: Inputs,
    /// The last file that was understood, for its keys.
    file: ModelsFile,
}

impl Watch {
    pub(super) fn new(base: Base, source: Source, read: Result<Option<Vec<u8>>, String>) -> Self {
        let file = understood(&source, &read).unwrap_or_default();
        let keys = keys(&file, &source);
        Self { base, source, inputs: (read, keys), file }
    }

    /// Follows the file and looks at nodes until it is told to stop.
    pub async fn run(mut self, models: Models, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = async {
                    self.follow(&models).await;
                    models.look().await;
                } => {}
            }
        }
    }

    /// Reads the file once, and changes the models if it has changed. A file that is not understood changes nothing and
    /// is told as the models' problem.
    pub async fn follow(&mut self, models: &Models) {
        let read = self.source.read().await;
        let inputs = (read, keys(&self.file, &self.source));
        if inputs == self.inputs {
            return;
        }
        self.inputs = inputs;
        let name = self.source.name();
        match understood(&self.source, &self.inputs.0) {
            Ok(file) => {
                let made = self.base.with(&file, self.source.variable()).await;
                models.replace(made.catalogue);
                self.inputs.1 = keys(&file, &self.source);
                self.file = file;
                tracing::info!(file = %name, "the file of the models was read anew");
            }
            Err(problem) => {
                tracing::warn!(file = %name, %problem, "the file of the models is not understood; the models stay as they were");
                models.set_problem(Some(problem));
            }
        }
    }
}

fn understood(source: &Source, read: &Result<Option<Vec<u8>>, String>) -> Result<ModelsFile, String> {
    match read {
        Ok(Some(text)) => ModelsFile::parse(&source.name(), text)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        Ok(None) => Ok(ModelsFile::default()),
        Err(reason) => Err(format!("{}: {reason}", source.name())),
    }
}

/// A fingerprint of all keys that a file names, so that a new key is taken without a change of the file.
fn keys(file: &ModelsFile, source: &Source) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, provider) in &file.providers {
        let headers = provider.headers.values().filter_map(|header| match header {
            HeaderSpec::Secret(key) => Some(key),
            HeaderSpec::Plain(_) => None,
        });
        for key in provider.api_key.iter().chain(headers) {
            name.hash(&mut hasher);
            key.read(source.variable()).ok().map(|key| key.expose().to_owned()).hash(&mut hasher);
        }
    }
    hasher.finish()
}
