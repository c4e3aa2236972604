//! Settings: defaults, over them a TOML file, over it the environment; read once and passed down.
//!
//! A settings struct is flat, derives `Default` (which works on a laptop with nothing installed), `Serialize` and
//! `Deserialize`, and carries `#[serde(default, deny_unknown_fields)]`. Each field is a key of the file and, in upper
//! case, a variable of the environment. Everything that is wrong is told at once.

mod parts;
mod secret;
mod text_value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

pub use parts::{Loaded, Parts, load_parts};
pub use secret::Secret;

use text_value::Setting;

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The service's section in the file, such as `state-manager`: its keys count more than those outside of sections.
    pub section: &'static str,
    /// The file; when `None`, the one that the variable `AGENTRUNNER_CONFIG` names, if any.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// A variable that begins with one of these and is no setting is refused, as it is surely misspelt: `STATE_MANAGER_`.
    pub prefixes: &'static [&'static str],
    /// Keys of other services that share the file, and so are not refused outside of sections; see [`names`].
    pub known_elsewhere: BTreeSet<String>,
    /// Keys of other structs of the same service, which share its section.
    pub beside: BTreeSet<String>,
}

impl LoadOptions {
    /// The process's own environment.
    pub fn from_process(section: &'static str) -> Self {
        // A variable that is not UTF-8 is none of ours.
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        Self { section, environment, ..Self::default() }
    }

    /// Adds or replaces a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// Rules that the types alone do not express.
pub trait Validate {
    /// Everything that is wrong, each naming its setting as the environment does; empty when all is well.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Why settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} problem(s):{}", .problems.len(), list(.problems))]
pub struct ConfigError {
    /// All of them, each with the place and the reason.
    pub problems: Vec<String>,
}

fn list(problems: &[String]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = write!(text, "\n  - {problem}");
        text
    })
}

/// Loads settings.
///
/// `NAME_FILE` names a file with the value of `NAME`, whose surrounding white space does not count. An empty variable is
/// one that is not set, as compose files cannot leave one out. In the environment lists are written `a,b` or as JSON.
pub fn load<T>(options: &LoadOptions) -> Result<T, ConfigError>
where
    T: Serialize + DeserializeOwned + Default + Validate,
{
    let names = names::<T>();
    let mut problems = Vec::new();
    let mut found = BTreeMap::new();
    from_file(options, &names, &mut found, &mut problems);
    from_environment(options, &names, &mut found, &mut problems);

    // One at a time, so that each failure has its setting's name and none hides the others.
    found.retain(|name, (source, setting)| {
        let alone = BTreeMap::from([(name.as_str(), setting.clone())]);
        match text_value::struct_from::<T>(&alone) {
            Ok(_) => true,
            Err(error) => {
                problems.push(format!("{source}: {error}"));
                false
            }
        }
    });
    let all: BTreeMap<&str, Setting> = found.iter().map(|(name, (_, value))| (name.as_str(), value.clone())).collect();
    match text_value::struct_from::<T>(&all) {
        Ok(settings) => {
            problems.extend(settings.problems());
            if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
        }
        Err(error) => {
            problems.push(error.to_string());
            Err(ConfigError { problems })
        }
    }
}

/// The names of a struct's settings, as they are written in the file.
pub fn names<T: Serialize + Default>() -> BTreeSet<String> {
    match serde_json::to_value(T::default()) {
        Ok(Json::Object(fields)) => fields.into_iter().map(|(name, _)| name).collect(),
        _ => BTreeSet::new(),
    }
}

/// Writes settings as a file that could be loaded again, but for its secrets, which are `***`.
pub fn print_redacted<T: Serialize>(settings: &T) -> String {
    let mut text = String::new();
    let Ok(Json::Object(fields)) = serde_json::to_value(settings) else { return text };
    for (name, value) in fields {
        let _ = match value {
            Json::Null => writeln!(text, "# {name} is not set"),
            value => match toml::Value::try_from(value) {
                Ok(value) => writeln!(text, "{name} = {value}"),
                Err(_) => writeln!(text, "# {name} cannot be written as TOML"),
            },
        };
    }
    text
}

/// Finds what was probably meant.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // To compare costs the product of both lengths, and no name of ours is as long.
    if name.len() > 128 {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    did_you_mean(name, known).map_or_else(String::new, |meant| format!(", did you mean {meant}?"))
}

type Found = BTreeMap<String, (String, Setting)>;

fn from_file(options: &LoadOptions, names: &BTreeSet<String>, found: &mut Found, problems: &mut Vec<String>) {
    let in_variable = options.environment.get("AGENTRUNNER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let Some(path) = options.file.clone().or(in_variable) else { return };
    let table = match read(&path).and_then(|text| text.parse::<toml::Table>().map_err(|error| error.to_string())) {
        Ok(table) => table,
        Err(reason) => {
            problems.push(format!("{}: {}", path.display(), reason.trim_end()));
            return;
        }
    };
    let file = path.display();
    for (name, value) in &table {
        if let toml::Value::Table(section) = value {
            if name != options.section {
                continue;
            }
            for (key, value) in section {
                if names.contains(key) {
                    let source = format!("{key} in section [{name}] of {file}");
                    found.insert(key.clone(), (source, Setting::file(value)));
                } else if !options.beside.contains(key) {
                    let hint = suggestion(key, names.iter().chain(&options.beside).map(String::as_str));
                    problems.push(format!("{key} in section [{name}] of {file}: unknown setting{hint}"));
                }
            }
        } else if names.contains(name) {
            // What the service's own section says counts more, wherever in the file it stands.
            let source = format!("{name} in {file}");
            found.entry(name.clone()).or_insert_with(|| (source, Setting::file(value)));
        } else if !options.known_elsewhere.contains(name) && !options.beside.contains(name) {
            let known = names.iter().chain(&options.known_elsewhere).chain(&options.beside).map(String::as_str);
            problems.push(format!("{name} in {file}: unknown setting{}", suggestion(name, known)));
        }
    }
}

fn from_environment(options: &LoadOptions, names: &BTreeSet<String>, found: &mut Found, problems: &mut Vec<String>) {
    let variables: BTreeMap<String, &String> = names.iter().map(|name| (name.to_uppercase(), name)).collect();
    for (variable, &name) in &variables {
        let direct = options.environment.get(variable).filter(|value| !value.is_empty());
        let file_variable = format!("{variable}_FILE");
        let file = (!variables.contains_key(&file_variable))
            .then(|| options.environment.get(&file_variable).filter(|path| !path.is_empty()))
            .flatten();
        let setting = match (direct, file) {
            (Some(_), Some(_)) => {
                problems.push(format!("{variable} and {file_variable} are both set: keep one of them"));
                continue;
            }
            (Some(text), None) => (variable.clone(), Setting::Text(text.clone())),
            (None, Some(path)) => match read(Path::new(path)) {
                Ok(text) => (file_variable, Setting::Text(text.trim().to_owned())),
                Err(reason) => {
                    problems.push(format!("{file_variable}: {path}: {reason}"));
                    continue;
                }
            },
            (None, None) => continue,
        };
        found.insert(name.clone(), setting);
    }
    for variable in options.environment.keys() {
        let ours = options.prefixes.iter().any(|prefix| variable.starts_with(prefix));
        let plain = variable.strip_suffix("_FILE").unwrap_or(variable);
        let known = |name: &str| variables.contains_key(name) || options.beside.contains(&name.to_lowercase());
        if ours && !known(variable) && !known(plain) {
            let beside: Vec<String> = options.beside.iter().map(|name| name.to_uppercase()).collect();
            let hint = suggestion(variable, variables.keys().chain(&beside).map(String::as_str));
            problems.push(format!("{variable}: unknown setting{hint}"));
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    // A setting is never large; a device or a wrong path may be.
    const LARGEST: u64 = 1 << 20;
    let meta = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !meta.is_file() {
        return Err("is not a file".to_owned());
    }
    if meta.len() > LARGEST {
        return Err("is larger than 1 MiB".to_owned());
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests;
