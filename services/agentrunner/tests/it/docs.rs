use clap::CommandFactory as _;

use agentrunner::cli::Cli;
use agentrunner::exit::CODES;

use crate::home::Home;

fn documentation() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    std::fs::read_to_string(path).unwrap()
}

/// Every command with its options, as `agentrunner tasks list` and `--status`.
fn commands(command: &clap::Command, path: &str, to: &mut Vec<(String, Vec<String>)>) {
    let options = command.get_arguments().filter_map(|argument| argument.get_long().map(|long| format!("--{long}")));
    to.push((path.to_owned(), options.filter(|option| option != "--help" && option != "--version").collect()));
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        commands(child, &format!("{path} {}", child.get_name()), to);
    }
}

#[test]
fn every_command_and_option_is_documented() {
    let docs = documentation();
    let mut all = Vec::new();
    commands(&Cli::command(), "agentrunner", &mut all);
    for (command, options) in all {
        assert!(docs.contains(&format!("`{command}")), "docs/cli.md does not name `{command}`");
        for option in options {
            assert!(docs.contains(&option), "docs/cli.md does not name {option} of `{command}`");
        }
    }
}

#[test]
fn every_exit_code_is_documented() {
    let docs = documentation();
    for line in CODES.lines().skip(1) {
        let code = line.split_whitespace().next().unwrap();
        assert!(docs.contains(&format!("| {code} |")), "docs/cli.md does not explain exit code {code}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let mut all = Vec::new();
    commands(&Cli::command(), "agentrunner", &mut all);
    let home = Home::new();
    for (command, _) in all {
        let words: Vec<&str> = command.split(' ').skip(1).chain(["--help"]).collect();
        let help = home.run(&words).code(0).stdout;
        let group = help.contains("Commands:") && command != "agentrunner";
        assert!(group || help.contains("Example"), "`{command} --help` has no example");
        assert!(!help.contains('\u{1b}'));
    }
}

#[test]
fn shells_get_completions() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.run(&["completions", shell]).code(0).stdout.contains("agentrunner"));
    }
    home.run(&["completions", "cobol"]).code(2);
}
