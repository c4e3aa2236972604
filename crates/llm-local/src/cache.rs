//! Where model files live: one folder of the user, one `NAME.gguf` a model.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The model that is fetched when nothing else is configured.
pub const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// A model whose file is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// The name after `local/`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The folder of model files, and at most one file elsewhere that the user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    dir: PathBuf,
    named: Option<PathBuf>,
}

impl Cache {
    /// Uses `dir`, which need not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), named: None }
    }

    /// Uses the folder and the file that the environment names: `AGENTRUNNER_CACHE`, else
    /// `XDG_CACHE_HOME/agentrunner/models`, else `~/.cache/agentrunner/models`; and `AGENTRUNNER_LOCAL_MODEL`.
    pub fn from_env() -> Self {
        Self::from_lookup(
            |name| std::env::var_os(name).filter(|value| !value.is_empty()),
            std::env::home_dir().as_deref(),
        )
    }

    fn from_lookup(get: impl Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Self {
        let in_home = || home.map_or_else(std::env::temp_dir, Path::to_owned).join(".cache");
        let dir = get("AGENTRUNNER_CACHE").map_or_else(
            || get("XDG_CACHE_HOME").map_or_else(in_home, PathBuf::from).join("agentrunner").join("models"),
            PathBuf::from,
        );
        Self { dir, named: get("AGENTRUNNER_LOCAL_MODEL").map(PathBuf::from) }
    }

    /// Adds a `.gguf` file outside the folder; its name is the file's, without the ending.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.named = Some(path.into());
        self
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that the user named, whether it exists or not, with the name of its model.
    pub fn named(&self) -> Option<(String, &Path)> {
        let path = self.named.as_deref()?;
        Some((path.file_stem()?.to_string_lossy().into_owned(), path))
    }

    /// Where the file of this model belongs in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.gguf"))
    }

    /// Finds the file of a model.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        if let Some((named, path)) = self.named()
            && named == name
            && path.is_file()
        {
            return Some(path.to_owned());
        }
        check_name(name).ok()?;
        Some(self.file(name)).filter(|path| path.is_file())
    }

    /// Lists the models whose files are here, by name.
    pub fn list(&self) -> Vec<CachedModel> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut models: Vec<CachedModel> = entries
            .chain(self.named.clone())
            .filter_map(|path| {
                let name = path.file_stem()?.to_str()?.to_owned();
                let size = path.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
                let is_model = path.extension()? == "gguf" && !name.starts_with('.');
                is_model.then_some(CachedModel { name, path, bytes: size })
            })
            .collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models.dedup_by(|a, b| a.name == b.name);
        models
    }
}

/// Accepts names that are safe as a file's name and in `local/NAME`.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 128 || !name.chars().all(plain) || !name.starts_with(char::is_alphanumeric) {
        return Err("use up to 128 letters, digits, dots, dashes and underscores, beginning with a letter or digit");
    }
    Ok(())
}

/// The folder that the environment names.
pub fn cache_dir() -> PathBuf {
    Cache::from_env().dir
}

/// Finds the file of a model where the environment says.
pub fn find(name: &str) -> Option<PathBuf> {
    Cache::from_env().find(name)
}

/// Lists the models where the environment says.
pub fn list() -> Vec<CachedModel> {
    Cache::from_env().list()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_of(vars: &[(&str, &str)]) -> PathBuf {
        let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Cache::from_lookup(get, Some(Path::new("/home/ada"))).dir
    }

    #[test]
    fn the_environment_chooses_the_folder() {
        assert_eq!(dir_of(&[]), Path::new("/home/ada/.cache/agentrunner/models"));
        assert_eq!(dir_of(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/agentrunner/models"));
        assert_eq!(dir_of(&[("XDG_CACHE_HOME", "/x"), ("AGENTRUNNER_CACHE", "/models")]), Path::new("/models"));
    }

    #[test]
    fn models_are_found_by_name_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("cache")).with_file(dir.path().join("mine.gguf"));
        assert_eq!(cache.list(), []);
        std::fs::create_dir(cache.dir()).unwrap();
        for file in ["cache/b.gguf", "cache/.a.gguf.part", "cache/a.lock", "mine.gguf", "secret.gguf"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        let names: Vec<_> = cache.list().into_iter().map(|model| model.name).collect();
        assert_eq!(names, ["b", "mine"]);
        assert_eq!(cache.find("b"), Some(cache.file("b")));
        assert_eq!(cache.find("mine"), Some(dir.path().join("mine.gguf")));
        assert_eq!(cache.find("../secret"), None);
        assert_eq!(cache.find("absent"), None);
    }
}
