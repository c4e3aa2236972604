//! What can stand in the file of the models, and what is said about what cannot.

use std::fmt::Write as _;

use connect::models::{Discovery, ModelSettings, ModelsFile, discover_with};
use domain::Usd;
use llm::{Models, NodeHealth};

fn problems(text: &str) -> String {
    match ModelsFile::parse("models.yml", text.as_bytes()) {
        Ok(file) => panic!("nothing is wrong with {text}: {file:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

/// Files that are wrong, and what is said of each.
const WRONG: [(&str, &[&str]); 37] = [
    ("[", &["models.yml:1:"]),
    ("just words", &["must be a mapping"]),
    ("provider: {}", &["models.yml:1:1: provider: unknown field", "did you mean providers?"]),
    ("providers: []", &["providers: must be a mapping"]),
    ("providers: {a: {}}", &["providers.a.kind: is required"]),
    ("providers: {a: {kind: opnai}}", &["providers.a.kind: must be one of", "did you mean openai?"]),
    ("providers: {a: {kind: openai-compatible}}", &["providers.a.base_url: is required for this kind"]),
    ("providers: {a: {kind: openai, base_url: localhost}}", &["providers.a.base_url: is no URL"]),
    ("providers: {a: {kind: openai, base_url: \"ftp://x/v1\"}}", &["must begin with http:// or https://"]),
    ("providers: {a: {kind: openai, base_url: \"https://me:pw@x/v1\"}}", &["must not contain credentials"]),
    ("providers: {a: {kind: openai, base_url: \"https://x/v1?key=1\"}}", &["without ? or #"]),
    ("providers: {a: {kind: openai, api_key: abc}}", &["providers.a.api_key: must be a mapping"]),
    ("providers: {a: {kind: openai, api_key: {env: sk-0123456789abcdefghijklmnop}}}", &["this looks like an API key"]),
    ("providers: {a: {kind: openai, api_key: {env: \"MY KEY\"}}}", &["api_key: names no variable"]),
    ("providers: {a: {kind: openai, api_key: {}}}", &["api_key: must say where the key is", "write {env: NAME}"]),
    ("providers: {a: {kind: openai, api_key: {env: A, file: b}}}", &["must have either env or file"]),
    ("providers: {a: {kind: openai, api_key: {value: A}}}", &["api_key.value: unknown field"]),
    ("providers: {a: {kind: openai, headers: {Authorization: Bearer x}}}", &["headers.Authorization: is secret"]),
    ("providers: {a: {kind: openai, headers: {x-a: {env: 9}}}}", &["headers.x-a.env: must be a text"]),
    ("providers: {A b: {kind: openai}}", &["providers.A b: must be a name of lower-case letters"]),
    ("providers: {local: {kind: openai}}", &["providers.local: runs in this process"]),
    ("providers: {a: {kind: bedrock, api_key: {env: A}}}", &["api_key: is not for this kind"]),
    ("providers: {a: {kind: openai, region: eu-west-1}}", &["region: is for the kind bedrock only"]),
    ("providers: {a: {kind: openai, limits: {max_concurrent: 0}}}", &["must be a whole number from 1 to 100000"]),
    ("providers: {a: {kind: openai, limits: {max_wait: 2m}}}", &["limits.max_wait: must be at most 1m"]),
    ("providers: {a: {kind: openai, limits: {rpm: 5}}}", &["limits.rpm: unknown field"]),
    ("providers: {a: {kind: openai, retries: 11}}", &["providers.a.retries: must be a whole number"]),
    ("providers: {a: {kind: openai, check_every: 100ms}}", &["check_every: must be from 1s to 1h"]),
    (
        "providers: {a: {kind: openai, breaker: {cool_down: 1m, max_cool_down: 5s}}}",
        &["max_cool_down: must not be shorter than cool_down"],
    ),
    ("models: {gpt-5: {}}", &["models.gpt-5: must be `provider/name`"]),
    ("models: {opnai/gpt-5: {}}", &["there is no provider opnai", "did you mean openai/gpt-5?"]),
    ("models: {openai/gpt-5: {price: {input: -1, output: 2}}}", &["price.input: must be a number, at least 0"]),
    ("models: {openai/gpt-5: {price: {output: 2}}}", &["price.input: is required"]),
    (
        "models: {openai/x: {context_window: 10, max_output_tokens: 20}}",
        &["max_output_tokens: must not be larger than context_window"],
    ),
    ("routes: {r: []}", &["routes.r: must ask at least one model"]),
    (
        "routes: {openai: [openai/a], default: [openai/a], r: [s, openai/a, openai/a, openai/*], s: [nowhere/x]}",
        &[
            "routes.openai: is the name of a provider",
            "routes.default: is taken",
            "routes.r[0]: a route asks models, not routes",
            "routes.r[2]: is asked twice",
            "routes.r[3]: must name one model",
            "routes.s[0]: there is no provider nowhere",
        ],
    ),
    (
        "default: samrt\nmodels: {openai/e: {embeddings: true}}\nroutes: {smart: [{nodes: [openai/e, bad]}]}",
        &[
            "default: must be `provider/name`; did you mean the route smart?",
            "routes.smart[0].nodes[0]: makes vectors",
            "routes.smart[0].nodes[1]: must be `provider/name`",
        ],
    ),
];

#[test]
fn everything_that_is_wrong_is_told_with_its_place_and_what_would_be_right() {
    let mut missing = String::new();
    for (text, expected) in WRONG {
        let told = problems(text);
        for part in expected.iter().filter(|part| !told.contains(*part)) {
            let _ = writeln!(missing, "{text}\n  lacks {part:?} in:\n{told}");
        }
        assert!(told.lines().all(|line| line.starts_with("models.yml")), "{told}");
    }
    assert!(missing.is_empty(), "{missing}");
}

#[test]
fn a_secret_in_the_file_is_never_repeated() {
    let told = problems("providers: {a: {kind: openai, api_key: sk-canary0123456789abcdefghij}}");
    assert!(told.contains("this looks like an API key") && !told.contains("canary"), "{told}");
}

#[test]
fn places_are_lines_and_columns() {
    let text = "providers:\n  a:\n    kind: openai\n    retires: 3\nroutes:\n  r:\n    - nodes: [a/m, b/m]\n";
    let told = problems(text);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(
        lines[0].starts_with("models.yml:4:5: providers.a.retires: unknown field; did you mean retries?"),
        "{told}"
    );
    assert!(lines[1].starts_with("models.yml:7:"), "{told}");
    assert!(lines[1].contains("routes.r[0].nodes[1]: there is no provider b"), "{told}");
}

#[test]
fn the_file_that_comes_with_the_project_is_right_and_free_of_doubt() {
    let text = include_bytes!("../../../../config/models.yml");
    let file = ModelsFile::parse("config/models.yml", text).unwrap();
    for (name, model) in &file.models {
        assert!(model.price.is_some(), "{name} has no price");
    }
    let price = file.models["anthropic/claude-haiku-4-5"].price.unwrap();
    assert_eq!((price.input, price.output), (Usd::from_dollars(1.0), Usd::from_dollars(5.0)));
    // What is commented out is right, too.
    let all = String::from_utf8_lossy(text).lines().map(uncommented).collect::<Vec<_>>().join("\n");
    let file = ModelsFile::parse("config/models.yml", all.as_bytes()).unwrap();
    assert!(file.routes.contains_key("infer") && file.providers.contains_key("infer-b"));
}

/// Lines of examples begin with two spaces and `# `, and words with a capital letter.
fn uncommented(line: &str) -> String {
    match line.strip_prefix("  # ") {
        Some(rest) if !rest.starts_with(|first: char| first.is_ascii_uppercase()) => format!("  {rest}"),
        _ => line.to_owned(),
    }
}

#[test]
fn an_empty_file_says_nothing() {
    for text in ["", "# nothing\n", "{}", "providers: {}\nroutes: {}\n"] {
        assert_eq!(ModelsFile::parse("models.yml", text.as_bytes()), Ok(ModelsFile::default()), "{text:?}");
    }
}

async fn discovered(
    text: &str,
    settings: ModelSettings,
    variables: &'static [(&'static str, &'static str)],
) -> Discovery {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("models.yml");
    std::fs::write(&path, text).unwrap();
    let settings = ModelSettings { agentrunner_models: path, agentrunner_probe: false, ..settings };
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    discover_with(&settings, Box::new(variable)).await
}

fn default_of(discovery: &Discovery) -> (Option<String>, Vec<&str>) {
    let chosen = discovery.findings.iter().filter(|finding| finding.chosen).map(|finding| finding.what.as_str());
    (discovery.models.default_name(), chosen.collect())
}

const TWO: &str = "
providers:
  claude: {kind: anthropic, api_key: {env: CLAUDE_KEY}, default_model: haiku}
  other: {kind: openai-compatible, base_url: \"http://127.0.0.1:9/v1\", api_key: {env: OTHER_KEY}}
models:
  claude/haiku: {price: {input: 1, output: 5}, context_window: 1000}
  claude/*: {price: {input: 100, output: 500}}
routes:
  both: [other/x, claude/haiku]
";

#[tokio::test]
async fn a_provider_whose_key_is_not_there_is_passed_over_and_says_which() {
    let found = discovered(TWO, ModelSettings::default(), &[("CLAUDE_KEY", "k-canary")]).await;
    assert!(found.problems.is_empty());
    let models = &found.models;
    let route = models.route("both").unwrap();
    assert_eq!(route.candidates.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["claude/haiku"]);
    let error = models.route("other/x").err().unwrap().to_string();
    assert!(error.contains("OTHER_KEY is not set"), "{error}");
    let told = format!("{:?} {:?}", found.findings, models.status());
    assert!(told.contains("OTHER_KEY is not set") && !told.contains("canary"), "{told}");
    assert_eq!(default_of(&found), (Some("claude/haiku".to_owned()), vec!["provider claude"]));

    let candidate = &route.candidates[0];
    assert_eq!(candidate.price.unwrap().input, Usd::from_dollars(1.0));
    assert_eq!(candidate.context_window, Some(1_000));
    let opus = &models.route("claude/opus").unwrap().candidates[0];
    assert_eq!(opus.price.unwrap().output, Usd::from_dollars(500.0), "what is not named has the price of the others");
    let routes: Vec<_> = models.status().into_iter().filter(|status| status.targets.is_some()).collect();
    assert_eq!((routes[0].name.as_str(), routes[0].health), ("both", NodeHealth::Up));
}

#[tokio::test]
async fn the_default_is_what_is_named_then_what_the_file_says_then_what_the_environment_has() {
    let with = |default: &str| format!("default: {default}\n{TWO}");
    let keys: &[_] = &[("CLAUDE_KEY", "k")];
    let key = || ModelSettings { openai_api_key: common::config::Secret::new("k"), ..ModelSettings::default() };
    let named = ModelSettings { agentrunner_model: "both".to_owned(), ..key() };
    let found = discovered(&with("claude/opus"), named, keys).await;
    assert_eq!(default_of(&found), (Some("both".to_owned()), vec!["AGENTRUNNER_MODEL"]));
    assert_eq!(found.models.route("default").unwrap().name, "both");
    let found = discovered(&with("both"), key(), keys).await;
    assert_eq!(default_of(&found), (Some("both".to_owned()), vec!["default of the file of the models"]));
    let found = discovered(&with("other/x"), key(), keys).await;
    assert_eq!(default_of(&found), (Some("openai/gpt-5-mini".to_owned()), vec!["OPENAI_API_KEY"]));
    let found = discovered(TWO, key(), keys).await;
    assert_eq!(default_of(&found), (Some("openai/gpt-5-mini".to_owned()), vec!["OPENAI_API_KEY"]));
}

#[tokio::test]
async fn keys_come_from_the_environment_or_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "k-in-a-file\n").unwrap();
    let provider = |key: &str| {
        format!("providers: {{p: {{kind: openai-compatible, base_url: \"http://127.0.0.1:9/v1\", api_key: {key}}}}}")
    };
    let usable = |found: Discovery| found.models.route("p/m").map(drop).map_err(|error| error.to_string());
    let in_file = provider(&format!("{{file: \"{}\"}}", path.display()));
    assert_eq!(usable(discovered(&in_file, ModelSettings::default(), &[]).await), Ok(()));
    let named: &'static str = Box::leak(path.display().to_string().into_boxed_str());
    let variables: &'static [(&str, &str)] = Box::leak(Box::new([("P_KEY_FILE", named)]));
    let by_name = provider("{env: P_KEY}");
    assert_eq!(usable(discovered(&by_name, ModelSettings::default(), variables).await), Ok(()));

    std::fs::write(&path, " \n").unwrap();
    let told = usable(discovered(&in_file, ModelSettings::default(), &[]).await).unwrap_err();
    assert!(told.contains("is empty"), "{told}");
    std::fs::remove_file(&path).unwrap();
    let told = usable(discovered(&in_file, ModelSettings::default(), &[]).await).unwrap_err();
    assert!(told.contains("cannot be read"), "{told}");
    let told = usable(discovered(&by_name, ModelSettings::default(), &[("P_KEY", "  ")]).await).unwrap_err();
    assert!(told.contains("P_KEY is not set"), "{told}");
    let told = usable(discovered(&by_name, ModelSettings::default(), &[("P_KEY", "k\u{7}canary")]).await).unwrap_err();
    assert!(told.contains("HTTP cannot carry") && !told.contains("canary"), "{told}");
}

#[tokio::test]
async fn a_file_that_is_not_understood_leaves_what_could_be_found() {
    let found = discovered("providers: 5", ModelSettings::default(), &[]).await;
    assert_eq!(found.problems.len(), 1);
    assert!(found.models.route("scripted/x").is_ok());
}

#[tokio::test]
async fn a_named_file_must_be_there_and_the_usual_one_need_not() {
    let settings = ModelSettings {
        agentrunner_models: "/nowhere/models.yml".into(),
        agentrunner_probe: false,
        ..ModelSettings::default()
    };
    let found = discover_with(&settings, Box::new(|_| None)).await;
    assert!(found.problems[0].to_string().contains("AGENTRUNNER_MODELS"), "{:?}", found.problems);
    // The tests run in the folder of the crate, which has no such file.
    let usual = ModelSettings { agentrunner_probe: false, ..ModelSettings::default() };
    assert!(discover_with(&usual, Box::new(|_| None)).await.problems.is_empty());
}

#[tokio::test]
async fn what_runs_here_is_free_and_unknown_models_have_no_price() {
    let found = discovered(TWO, ModelSettings::default(), &[("OTHER_KEY", "k")]).await;
    let price = |models: &Models, name: &str| models.route(name).unwrap().candidates[0].price;
    assert_eq!(price(&found.models, "scripted/x"), Some(llm::Price::FREE));
    assert_eq!(price(&found.models, "other/x"), None);
}
