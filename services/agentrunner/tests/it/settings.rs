use crate::home::{Home, finish};

#[test]
fn wrong_settings_are_all_told_at_once() {
    let home = Home::new();
    let mut command = home.command(&["dev", "--ports", "random"]);
    command.env("AGENT_LEASE", "banana").env("ORCHESTRATOR_ADRESS", "x").env("TASK_RETENTION", "1s");
    let ran = finish(command.spawn().unwrap()).code(2);
    for name in ["AGENT_LEASE", "ORCHESTRATOR_ADRESS: unknown setting", "TASK_RETENTION"] {
        assert!(ran.stderr.contains(name), "{name}: {}", ran.stderr);
    }
}

#[test]
fn limits_that_are_not_understood_stop_the_start() {
    let home = Home::new();
    std::fs::write(home.path("limits.yml"), "namespaces:\n  default:\n    queue: {concurency: 2}\n").unwrap();
    for (file, reason) in [
        (home.path("limits.yml"), "unknown field; did you mean concurrency?"),
        (home.path("no-limits.yml"), "no-limits.yml cannot be read"),
    ] {
        let mut command = home.command(&["dev", "--ports", "random"]);
        command.env("AGENTRUNNER_LIMITS", &file);
        let ran = finish(command.spawn().unwrap()).code(2);
        assert!(ran.stderr.contains(reason) && ran.stderr.contains("AGENTRUNNER_LIMITS"), "{}", ran.stderr);
    }
}

#[test]
fn the_doctor_says_what_is_missing() {
    let home = Home::new();
    let told = home.run(&["doctor", "--output", "json"]).code(0).json();
    let names: Vec<&str> = told.as_array().unwrap().iter().map(|finding| finding["name"].as_str().unwrap()).collect();
    for name in ["settings", "platform", "data folder", "agents", "default model"] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
    assert!(!home.path("data").exists(), "looking changes nothing");

    std::fs::write(home.path("agents/bad.yml"), "name: bad\nmodell: x\n").unwrap();
    let mut command = home.command(&["doctor"]);
    command.env("AGENTRUNNER_MODEL", "nowhere/model");
    let ran = finish(command.spawn().unwrap()).code(1);
    assert!(ran.stdout.contains("bad.yml:2:1") && ran.stdout.contains("AGENTRUNNER_MODEL"), "{}", ran.stdout);
}

#[test]
fn the_doctor_finds_wrong_settings() {
    let home = Home::new();
    let mut command = home.command(&["doctor", "-o", "json"]);
    command.env("AGENT_LEASE", "banana");
    let told = finish(command.spawn().unwrap()).code(1).json();
    assert!(told.to_string().contains("AGENT_LEASE"), "{told}");
}
