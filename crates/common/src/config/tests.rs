use domain::HumanDuration;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    things_address: std::net::SocketAddr,
    things_count: u16,
    things_ratio: f64,
    things_names: Vec<String>,
    things_wait: HumanDuration,
    things_user: Option<String>,
    things_password: Secret,
    enable_api_auth: bool,
    log_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Text,
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            things_address: ([127, 0, 0, 1], 80).into(),
            things_count: 3,
            things_ratio: 0.5,
            things_names: vec!["a".to_owned()],
            things_wait: HumanDuration::from_secs(30),
            things_user: None,
            things_password: Secret::default(),
            enable_api_auth: false,
            log_format: Format::Text,
        }
    }
}

impl Validate for Settings {
    fn problems(&self) -> Vec<String> {
        if self.things_count == 0 { vec!["THINGS_COUNT: must be at least 1".to_owned()] } else { Vec::new() }
    }
}

fn options() -> LoadOptions {
    LoadOptions { section: "things", prefixes: &["THINGS_"], ..LoadOptions::default() }
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agentrunner.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn the_defaults_are_enough() {
    let settings: Settings = load(&options()).unwrap();
    assert_eq!(settings.things_count, 3);
}

#[test]
fn the_environment_is_read_into_every_type() {
    let options = options()
        .with("THINGS_ADDRESS", "[::1]:9000")
        .with("THINGS_COUNT", "17")
        .with("THINGS_RATIO", "1")
        .with("THINGS_NAMES", "x, y,z")
        .with("THINGS_WAIT", "1h30m")
        .with("THINGS_USER", "42")
        .with("THINGS_PASSWORD", "0123")
        .with("ENABLE_API_AUTH", "yes")
        .with("LOG_FORMAT", "json");
    let settings: Settings = load(&options).unwrap();
    assert_eq!(settings.things_address.to_string(), "[::1]:9000");
    assert_eq!(settings.things_count, 17);
    assert!((settings.things_ratio - 1.0).abs() < f64::EPSILON);
    assert_eq!(settings.things_names, ["x", "y", "z"]);
    assert_eq!(settings.things_wait.to_string(), "1h30m");
    assert_eq!(settings.things_user.as_deref(), Some("42"), "digits are text where text is wanted");
    assert_eq!(settings.things_password.expose(), "0123");
    assert!(settings.enable_api_auth);
    assert_eq!(settings.log_format, Format::Json);
}

#[test]
fn the_environment_counts_more_than_the_section_and_that_more_than_the_rest_of_the_file() {
    let (_folder, path) = file(
        "things_count = 1\nthings_ratio = 0.1\nthings_user = 'file'\n[things]\nthings_ratio = 0.2\nthings_user = 's'\n[other]\nx = 1\n",
    );
    let options = options().with("AGENTRUNNER_CONFIG", path.to_str().unwrap()).with("THINGS_USER", "environment");
    let settings: Settings = load(&options).unwrap();
    assert_eq!(settings.things_count, 1);
    assert!((settings.things_ratio - 0.2).abs() < f64::EPSILON);
    assert_eq!(settings.things_user.as_deref(), Some("environment"));
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let (_folder, path) =
        file("things_cuont = 1\nfrom_another_service = 1\nthings_names = 5\n[things]\nnonsense = 1\n");
    let options = LoadOptions {
        file: Some(path),
        known_elsewhere: BTreeSet::from(["from_another_service".to_owned()]),
        ..options()
            .with("THINGS_COUNT", "70000")
            .with("THINGS_WAIT", "soon")
            .with("THINGS_ADRESS", "x")
            .with("ENABLE_API_AUTH", "perhaps")
    };
    let error = load::<Settings>(&options).unwrap_err();
    let text = error.to_string();
    for expected in [
        "things_cuont in ",
        "did you mean things_count?",
        "things_names in ",
        "expected a sequence",
        "nonsense in section [things] of ",
        "THINGS_COUNT: invalid value: integer `70000`, expected u16",
        "THINGS_WAIT: must be a duration such as",
        "THINGS_ADRESS: unknown setting, did you mean THINGS_ADDRESS?",
        "ENABLE_API_AUTH: must be true or false",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in {text}");
    }
    assert_eq!(error.problems.len(), 7, "{text}");
}

#[test]
fn the_rules_of_the_struct_are_checked() {
    let error = load::<Settings>(&options().with("THINGS_COUNT", "0")).unwrap_err();
    assert_eq!(error.problems, ["THINGS_COUNT: must be at least 1"]);
}

#[test]
fn a_secret_can_come_from_a_file_and_is_trimmed() {
    let (_folder, path) = file(" s3cr3t\n");
    let options = options().with("THINGS_PASSWORD_FILE", path.to_str().unwrap()).with("THINGS_PASSWORD", "");
    assert_eq!(load::<Settings>(&options).unwrap().things_password.expose(), "s3cr3t");
}

#[test]
fn a_value_and_its_file_at_once_are_refused() {
    let options = options().with("THINGS_PASSWORD_FILE", "x").with("THINGS_PASSWORD", "y");
    let error = load::<Settings>(&options).unwrap_err();
    assert_eq!(error.problems, ["THINGS_PASSWORD and THINGS_PASSWORD_FILE are both set: keep one of them"]);
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<Settings>(&options().with("THINGS_USER_FILE", "/nowhere/user")).unwrap_err();
    assert!(error.problems[0].starts_with("THINGS_USER_FILE: /nowhere/user: cannot be read: "), "{error}");
    let error = load::<Settings>(&options().with("AGENTRUNNER_CONFIG", "/nowhere/c.toml")).unwrap_err();
    assert!(error.problems[0].starts_with("/nowhere/c.toml: cannot be read: "), "{error}");
}

#[test]
fn what_is_printed_hides_secrets_and_can_be_loaded_again() {
    let settings: Settings = load(&options().with("THINGS_PASSWORD", "s3cr3t")).unwrap();
    let printed = print_redacted(&settings);
    assert!(!printed.contains("s3cr3t") && !format!("{settings:?}").contains("s3cr3t"), "{printed}");
    assert!(printed.contains("things_password = \"***\"\n# ") || printed.contains("things_password = \"***\""));
    assert!(printed.contains("# things_user is not set"), "{printed}");

    let (_folder, path) = file(&printed);
    let error = load::<Settings>(&LoadOptions { file: Some(path), ..options() }).unwrap_err();
    assert!(error.problems[0].contains("redacted secret"), "{error}");
    let (_folder, path) = file(&printed.replace("***", "real"));
    assert_eq!(
        load::<Settings>(&LoadOptions { file: Some(path), ..options() }).unwrap().things_wait.to_string(),
        "30s"
    );
}
