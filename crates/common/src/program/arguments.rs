//! The few words that a service understands; everything else about it is a setting.

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Serve,
    PrintConfig,
    Version,
    Help,
    /// With the path to ask.
    HealthCheck(&'static str),
    Command(&'static str),
}

/// Understands the arguments, or returns what is not understood.
pub(super) fn parse(words: &[String], commands: &[&'static str]) -> Result<Asked, String> {
    let line = words.join(" ");
    match line.as_str() {
        "" => Ok(Asked::Serve),
        "--print-config" => Ok(Asked::PrintConfig),
        "--version" | "-V" => Ok(Asked::Version),
        "--help" | "-h" => Ok(Asked::Help),
        "healthcheck" | "healthcheck ready" => Ok(Asked::HealthCheck("/health/ready")),
        "healthcheck live" => Ok(Asked::HealthCheck("/health/live")),
        line => {
            commands.iter().find(|command| **command == line).map(|command| Asked::Command(command)).ok_or_else(|| {
                let known = |word: &str| commands.iter().any(|command| command.split(' ').any(|part| part == word));
                let first = words.iter().find(|word| !known(word)).map_or(line, String::as_str);
                first.chars().take(80).collect()
            })
        }
    }
}

/// What can be typed, in one line.
pub(super) fn usage(name: &str, commands: &[&str]) -> String {
    let mut words = vec!["--print-config", "--version", "healthcheck [ready|live]"];
    words.extend(commands);
    format!("usage: {name} [{}]", words.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 2] = ["migrate up", "migrate status"];

    fn asked(line: &str) -> Result<Asked, String> {
        let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        parse(&words, &COMMANDS)
    }

    #[test]
    fn a_service_without_arguments_serves() {
        assert_eq!(asked(""), Ok(Asked::Serve));
    }

    #[test]
    fn few_words_are_understood_and_the_unknown_one_is_named() {
        assert_eq!(asked("healthcheck live"), Ok(Asked::HealthCheck("/health/live")));
        assert_eq!(asked("migrate status"), Ok(Asked::Command("migrate status")));
        assert_eq!(asked("migrate sideways"), Err("sideways".to_owned()));
        assert_eq!(asked("migrate"), Err("migrate".to_owned()));
        assert_eq!(asked("--prnt-config"), Err("--prnt-config".to_owned()));
    }

    #[test]
    fn the_usage_names_the_commands() {
        assert!(usage("state-manager", &COMMANDS).contains("migrate status"));
    }
}
