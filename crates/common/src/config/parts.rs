//! Several settings structs that one process reads together: its own, and one for each backend that it speaks with.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ConfigError, LoadOptions, Validate, load, names, print_redacted};

/// Hands out settings structs, one after the other.
pub struct Parts {
    pass: Pass,
}

enum Pass {
    /// Learns which settings there are, as a name is only misspelt when no part knows it.
    Names(BTreeSet<String>),
    Values {
        options: LoadOptions,
        problems: BTreeSet<String>,
        printed: String,
    },
}

/// Settings and how they are printed.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// The settings.
    pub settings: S,
    /// All of them as a file that could be loaded again, but for its secrets, which are `***`.
    pub printed: String,
}

impl Parts {
    /// Loads one part; its default when something is wrong with it, which is told at the end.
    pub fn take<T>(&mut self) -> T
    where
        T: Serialize + DeserializeOwned + Default + Validate,
    {
        match &mut self.pass {
            Pass::Names(all) => {
                all.extend(names::<T>());
                T::default()
            }
            Pass::Values { options, problems, printed } => {
                let part = load::<T>(options).unwrap_or_else(|error| {
                    problems.extend(error.problems);
                    T::default()
                });
                printed.push_str(&print_redacted(&part));
                part
            }
        }
    }

    /// Tells that two parts do not fit together; `problem` names the settings as the environment does.
    pub fn refuse(&mut self, problem: impl Into<String>) {
        if let Pass::Values { problems, .. } = &mut self.pass {
            problems.insert(problem.into());
        }
    }
}

/// Loads all parts that `read` takes, which is called twice; everything that is wrong with any of them is told at once.
pub fn load_parts<S>(mut options: LoadOptions, read: impl Fn(&mut Parts) -> S) -> Result<Loaded<S>, ConfigError> {
    let mut parts = Parts { pass: Pass::Names(BTreeSet::new()) };
    read(&mut parts);
    if let Pass::Names(all) = parts.pass {
        options.beside.extend(all);
    }
    let mut parts = Parts { pass: Pass::Values { options, problems: BTreeSet::new(), printed: String::new() } };
    let settings = read(&mut parts);
    match parts.pass {
        Pass::Values { problems, printed, .. } if problems.is_empty() => Ok(Loaded { settings, printed }),
        Pass::Values { problems, .. } => Err(ConfigError { problems: problems.into_iter().collect() }),
        Pass::Names(_) => Ok(Loaded { settings, printed: String::new() }),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Door {
        door_width: u32,
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Lock {
        door_key: super::super::Secret,
        door_turns: u32,
    }

    impl Validate for Door {}
    impl Validate for Lock {}

    fn read(parts: &mut Parts) -> (Door, Lock) {
        (parts.take(), parts.take())
    }

    fn options() -> LoadOptions {
        LoadOptions { section: "house", prefixes: &["DOOR_"], ..LoadOptions::default() }
    }

    #[test]
    fn parts_share_an_environment_and_are_printed_together_without_secrets() {
        let options = options().with("DOOR_WIDTH", "3").with("DOOR_KEY", "canary").with("DOOR_TURNS", "2");
        let loaded = load_parts(options, read).unwrap();
        assert_eq!((loaded.settings.0.door_width, loaded.settings.1.door_turns), (3, 2));
        assert_eq!(loaded.printed, "door_width = 3\ndoor_key = \"***\"\ndoor_turns = 2\n");
    }

    #[test]
    fn what_no_part_knows_is_told_once_and_all_problems_come_together() {
        let options = options().with("DOOR_WIDTH", "wide").with("DOOR_TURN", "2").with("DOOR_TURNS", "many");
        let problems = load_parts(options, read).unwrap_err().problems;
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems.iter().any(|problem| problem.contains("did you mean DOOR_TURNS?")), "{problems:?}");
    }
}
