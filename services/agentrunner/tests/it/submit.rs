use crate::home::{Home, finish, signal, until};

const LINES: &str = r#"{"agent": "parrot", "prompt": "one"}
this is no JSON

{"agent": "nobody", "prompt": "two"}
{"agent": "parrot", "promt": "three"}
{"agent": "parrot", "prompt": "four", "metadata": {"team": "finance"}}
"#;

fn home() -> Home {
    let home = Home::new();
    home.scripted("parrot", "", "turns:\n  - text: \"You said: {{prompt}}\"\n");
    home
}

#[test]
fn bad_lines_are_told_by_number_and_nothing_else_is_lost() {
    let home = home();
    let dev = home.dev();
    let ran = home.run_with(&["submit", "-", "--wait"], LINES).code(1);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.stdout);
    assert!(lines.iter().all(|line| line.ends_with(" succeeded")));
    for told in ["line 2: ", "line 4: ", "line 5: ", "2 succeeded, 3 not"] {
        assert!(ran.stderr.contains(told), "{told} is missing: {}", ran.stderr);
    }
    dev.stop().code(0);
}

#[test]
fn the_same_file_makes_the_same_tasks() {
    let home = home();
    let lines = "{\"prompt\": \"one\"}\n{\"prompt\": \"two\"}\n";
    std::fs::write(home.path("tasks.jsonl"), lines).unwrap();
    let args = ["submit", "parrot", "--file", "tasks.jsonl", "--key-prefix", "monday", "-o", "json"];
    let first = home.run(&args).code(0).json();
    let second = home.run(&args).code(0).json();
    let ids = |told: &serde_json::Value| -> Vec<String> {
        told.as_array().unwrap().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&first), ids(&second));
    assert_eq!((&first[0]["created"], &second[0]["created"]), (&true.into(), &false.into()));
    let listed = home.run(&["tasks", "list", "--status", "queued", "-o", "json"]).code(0).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "without a platform they are recorded");
}

#[test]
fn what_was_recorded_is_run_by_the_next_platform() {
    let home = home();
    let ran = home.run(&["submit", "parrot", "hello"]).code(0);
    assert!(ran.stderr.contains("no platform runs"), "{}", ran.stderr);
    let id = ran.stdout.trim().to_owned();
    let dev = home.dev();
    let ran = home.run(&["tasks", "watch", &id]).code(0);
    assert!(ran.stdout.contains("You said: hello"), "{}", ran.stdout);
    dev.stop().code(0);
}

#[test]
fn an_interrupt_stops_waiting_and_tells_what_was_submitted() {
    let home = home();
    home.scripted("slow", "", "turns:\n  - hang: true\n");
    let dev = home.dev();
    std::fs::write(home.path("tasks.jsonl"), "{\"prompt\": \"one\"}\n".repeat(3)).unwrap();
    let child = home.command(&["submit", "slow", "--file", "tasks.jsonl", "--wait"]).spawn().unwrap();
    until("all run", || {
        let listed = home.run(&["tasks", "list", "--status", "running", "-o", "json"]).code(0).json();
        (listed["items"].as_array().unwrap().len() == 3).then_some(())
    });
    signal(&child, "INT");
    let ran = finish(child).code(130);
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    for id in ran.stdout.lines().filter_map(|line| line.split(' ').next()) {
        home.run(&["tasks", "cancel", id]).code(0);
    }
    dev.stop().code(0);
}

#[test]
fn a_missing_prompt_is_a_wrong_command_line() {
    let home = home();
    assert!(home.run(&["submit", "parrot"]).code(2).stderr.contains("a prompt is missing"));
    home.run(&["submit"]).code(2);
    home.run(&["submit", "--file", "nowhere.jsonl"]).code(2);
}
