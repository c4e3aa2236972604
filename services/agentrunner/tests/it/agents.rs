use serde_json::json;

use crate::home::Home;

#[test]
fn a_wrong_file_is_told_with_its_place_and_what_was_meant() {
    let home = Home::new();
    std::fs::write(home.path("bad.yml"), "name: bad\nmodel: default\ntoolz: [ask]\nlimits:\n  max_steps: 0\n").unwrap();
    let ran = home.run(&["agents", "validate", "bad.yml"]).code(2);
    assert!(ran.stdout.contains("bad.yml:3:1: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("tools"), "it says what was meant: {}", ran.stdout);
    assert!(ran.stdout.contains("bad.yml:5:"), "all problems are told: {}", ran.stdout);

    let told = home.run(&["agents", "validate", "bad.yml", "agents/writer.yml", "--output", "json"]).code(2).json();
    assert_eq!(told[0]["valid"], false);
    assert_eq!(told[0]["problems"][0]["line"], 3);
    assert_eq!((&told[1]["valid"], &told[1]["agent"]), (&json!(true), &json!("writer")));
}

#[test]
fn right_files_and_whole_folders_are_accepted() {
    let home = Home::new();
    let ran = home.run(&["agents", "validate", "agents"]).code(0);
    assert!(ran.stdout.lines().count() >= 5 && ran.stdout.lines().all(|line| line.contains(": ok (agent ")));
}

#[test]
fn what_is_no_file_is_told() {
    let home = Home::new();
    std::fs::create_dir(home.path("empty")).unwrap();
    assert!(home.run(&["agents", "validate", "nowhere.yml"]).code(2).stdout.contains("nowhere.yml: cannot be opened"));
    assert!(home.run(&["agents", "validate", "empty"]).code(2).stderr.contains("no agents' files"));
}

#[test]
fn agents_are_listed_and_shown_in_every_form() {
    let home = Home::new();
    std::fs::create_dir(home.path("data")).unwrap();
    let listed = home.run(&["agents", "list", "--output", "json"]).code(0).json();
    assert!(listed.as_array().unwrap().iter().any(|agent| agent["name"] == "demo-tools" && agent["status"] == "idle"));
    let table = home.run(&["agents", "list"]).code(0).stdout;
    assert!(table.starts_with("NAME") && table.contains("\ndemo-tools"), "{table}");
    let yaml = home.run(&["agents", "show", "demo-tools", "-o", "yaml"]).code(0).stdout;
    assert!(yaml.contains("name: demo-tools") && yaml.contains("config:"), "{yaml}");
    let unknown = home.run(&["agents", "show", "demo-tool"]).code(1);
    assert!(unknown.stderr.contains("demo-tools"), "it says what was meant: {}", unknown.stderr);
}
