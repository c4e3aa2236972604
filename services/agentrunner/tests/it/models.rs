//! Looking at models and asking them, with and without a platform that runs.

use serde_json::Value;

use crate::home::{Home, Ran, finish, until};

const HELLO: &str = "turns:\n  - text: Hello.\n    usage: {input_tokens: 7, output_tokens: 2}\n";
const FILE: &str = "models:\n  scripted/hello: {price: {input: 1000, output: 5000}, context_window: 99}\n\
    routes:\n  greet: [scripted/hello, anthropic/x]\n\
    providers:\n  anthropic: {kind: anthropic, api_key: {env: ANTHROPIC_API_KEY}}\n";

fn home() -> Home {
    let home = Home::new();
    home.scripted("hello", "", HELLO);
    std::fs::create_dir_all(home.path("config")).unwrap();
    std::fs::write(home.path("config/models.yml"), FILE).unwrap();
    home
}

fn named(list: &Value, name: &str) -> Value {
    let found = list.as_array().unwrap().iter().find(|model| model["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("{name} is missing: {list}"))
}

#[test]
fn models_and_routes_are_listed_with_what_they_cost() {
    let home = home();
    let list = home.run(&["models", "list", "--output", "json"]).code(0).json();
    let hello = named(&list, "scripted/hello");
    assert_eq!(hello["price"]["input"], 1000.0);
    assert_eq!(hello["context_window"], 99);
    assert_eq!(named(&list, "scripted/demo-tools")["price"]["input"], 0.0);
    assert_eq!(named(&list, "scripted/demo-tools")["default"], true);
    let greet = named(&list, "greet");
    assert_eq!(greet["kind"], "route");
    assert_eq!(greet["targets"], serde_json::json!([["scripted/hello"], ["anthropic/x"]]));
    let table = home.run(&["models", "list"]).code(0).stdout;
    assert!(table.contains("1000/5000") && table.contains("free"), "{table}");
}

#[test]
fn a_test_asks_everything_behind_a_name() {
    let home = home();
    let told = home.run(&["models", "test", "scripted/hello", "--output", "json"]).code(0).json();
    assert_eq!((&told[0]["ok"], &told[0]["input_tokens"]), (&Value::Bool(true), &Value::from(7)));
    assert_eq!(told[0]["cost_usd"], 0.017);
    let told = home.run(&["models", "test", "greet", "-o", "json"]).code(1).json();
    assert_eq!((&told[0]["name"], &told[0]["ok"]), (&Value::from("scripted/hello"), &Value::Bool(true)));
    assert!(told[1]["error"].as_str().unwrap().contains("ANTHROPIC_API_KEY is not set"), "{told}");
    let ran: Ran = home.run(&["models", "test", "nowhere/x"]).code(1);
    assert!(ran.stdout.contains("known providers"), "{}", ran.stdout);
}

#[test]
fn a_wrong_file_is_told_with_its_place_and_nothing_starts() {
    let home = home();
    std::fs::write(home.path("config/models.yml"), "routes:\n  greet: [scriptd/hello]\n").unwrap();
    for args in [&["models", "list"][..], &["dev", "--ports", "random"], &["models", "test"]] {
        let ran = home.run(args).code(2);
        assert!(ran.stderr.contains("config/models.yml:2:11: routes.greet[0]"), "{}", ran.stderr);
        assert!(ran.stderr.contains("did you mean scripted/hello?"), "{}", ran.stderr);
    }
    let ran = home.run(&["doctor"]).code(1);
    assert!(ran.stdout.contains("config/models.yml:2:11"), "{}", ran.stdout);
    let mut command = home.command(&["models", "list"]);
    command.env("AGENTRUNNER_MODELS", "elsewhere.yml");
    let ran = finish(command.spawn().unwrap()).code(2);
    assert!(ran.stderr.contains("elsewhere.yml: cannot be read"), "{}", ran.stderr);
}

#[test]
fn a_platform_tells_what_models_did_and_follows_their_file() {
    let home = home();
    let dev = home.dev();
    home.run(&["run", "hello", "hi", "--url", &dev.url]).code(0);
    let list = || home.run(&["models", "list", "--url", &dev.url, "-o", "json"]).code(0);
    let hello = named(&list().json(), "scripted/hello");
    assert_eq!((&hello["calls"], &hello["health"]), (&Value::from(1), &Value::from("up")));
    assert_eq!(hello["spend_usd"], 0.017);
    let more = FILE.replace("routes:\n", "routes:\n  later: [scripted/hello]\n");
    std::fs::write(home.path("config/models.yml"), more).unwrap();
    let later = || list().json().as_array().unwrap().iter().any(|model| model["name"] == "later");
    until("the change is followed", || later().then_some(()));
    std::fs::write(home.path("config/models.yml"), "routes: 5\n").unwrap();
    until("the mistake is told", || list().stderr.contains("config/models.yml:1:9").then_some(()));
    assert!(later(), "the last good file counts");
    dev.stop();
}
