use crate::home::{Home, finish, signal, until};

const HANGS: &str = "turns:\n  - text: Working on it.\n    hang: true\n";

#[test]
fn a_task_runs_in_process_and_its_record_stays() {
    let home = Home::new();
    let ran = home.run(&["run", "demo-tools", "hello"]).code(0);
    assert_eq!(ran.stdout, "Done. You said: hello\n");
    for told in ["→ now\n", "→ echo ", "← echo in ", "… waiting until ", "succeeded in ", " steps · ", "tasks journal "]
    {
        assert!(ran.stderr.contains(told), "{told:?} is missing: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains('\u{1b}'), "no colours in a pipe: {:?}", ran.stderr);

    let listed = home.run(&["tasks", "list", "--output", "json"]).code(0).json();
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let journal = home.run(&["tasks", "journal", &id, "--output", "json"]).code(0).json();
    let kinds: Vec<&str> = journal.as_array().unwrap().iter().map(|step| step["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.first(), Some(&"input"));
    assert_eq!(kinds.last(), Some(&"model"));
    assert!(home.run(&["tasks", "show", &id]).code(0).stdout.contains("Done. You said: hello"));
    assert!(home.announced().is_none(), "nothing is left behind that looks like a platform");
}

#[test]
fn json_is_one_object_with_task_output_and_journal() {
    let home = Home::new();
    let ran = home.run(&["run", "demo-extract", "The lamp costs 20 EUR", "--json"]).code(0);
    let told = ran.json();
    assert_eq!(told["task"]["status"], "succeeded");
    assert!(told["output"]["price"].is_number());
    assert!(told["journal"].as_array().unwrap().len() >= 3);
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_prompt_comes_from_standard_input() {
    let home = Home::new();
    home.scripted("parrot", "", "turns:\n  - text: \"You said: {{prompt}}\"\n");
    let ran = home.run_with(&["run", "parrot", "-", "--stream"], "a long text\nof two lines").code(0);
    assert_eq!(ran.stdout, "You said: a long text\nof two lines\n");
}

#[test]
fn failures_have_their_own_exit_codes() {
    let home = Home::new();
    home.scripted("refused", "", "turns:\n  - fail: refused\n");
    let ran = home.run(&["run", "refused", "x"]).code(1);
    assert!(ran.stderr.contains("failed in ") && ran.stderr.contains("model_refused"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");

    let ran = home.run(&["run", "demo-toolz", "x"]).code(1);
    assert!(ran.stderr.contains("demo-tools"), "it says what was meant: {}", ran.stderr);
    home.run(&["run", "demo-tools", "x", "--data", "{"]).code(2);
    home.run(&["run", "Not A Name", "x"]).code(2);
    home.run(&["run"]).code(2);
    let ran = home.run(&["run", "demo-tools", "x", "--url", "http://127.0.0.1:9"]).code(3);
    assert!(ran.stderr.contains("no platform answers at http://127.0.0.1:9"), "{}", ran.stderr);
}

#[test]
fn a_task_that_takes_too_long_is_cancelled() {
    let home = Home::new();
    home.scripted("slow", "", HANGS);
    let ran = home.run(&["run", "slow", "x", "--timeout", "500ms"]).code(5);
    assert!(ran.stderr.contains("had not ended within 500 ms"), "{}", ran.stderr);
    let listed = home.run(&["tasks", "list", "-o", "json"]).code(0).json();
    assert_eq!(listed["items"][0]["status"], "cancelled");
}

#[test]
fn an_interrupt_cancels_and_a_stop_leaves_the_task() {
    let home = Home::new();
    home.scripted("slow", "", HANGS);
    for (name, code, status) in [("INT", 4, "cancelled"), ("TERM", 130, "queued")] {
        let child = home.command(&["run", "slow", "x"]).spawn().unwrap();
        let url = until("it listens", || home.announced()?["urls"]["agent-orchestrator"].as_str().map(str::to_owned));
        until("it runs", || {
            let listed = home.run(&["tasks", "list", "--url", &url, "-o", "json"]).code(0).json();
            (listed["items"][0]["status"] == "running").then_some(())
        });
        signal(&child, name);
        let ran = finish(child).code(code);
        assert!(ran.stderr.contains(if name == "INT" { "cancelled" } else { "it goes on with the next" }));
        let listed = home.run(&["tasks", "list", "-o", "json"]).code(0).json();
        assert_eq!(listed["items"][0]["status"], status, "{name}");
    }
}

#[test]
fn a_question_is_answered_from_another_process() {
    let home = Home::new();
    let child = home.command(&["run", "demo-approval", "Send it"]).spawn().unwrap();
    let task = until("it waits", || {
        home.announced()?;
        let listed = home.run(&["tasks", "list", "--status", "waiting", "-o", "json"]).json();
        listed["items"][0]["id"].as_str().map(str::to_owned)
    });
    assert!(home.run(&["tasks", "show", &task]).code(0).stdout.contains("[approve, reject]"));
    // Who runs agents must not do so beside another process that has the record.
    let second = home.run(&["run", "demo-tools", "x"]).code(3);
    assert!(second.stderr.contains("in use by another agentrunner command"), "{}", second.stderr);
    home.run(&["tasks", "signal", &task, "approve"]).code(0);
    let ran = finish(child).code(0);
    assert!(ran.stderr.contains(&format!("agentrunner tasks signal {task} 'approve'")), "{}", ran.stderr);
    assert!(ran.stdout.contains("approve"), "{}", ran.stdout);
}

#[test]
fn sub_tasks_are_told_as_they_happen() {
    let home = Home::new();
    let ran = home.run(&["run", "demo-delegate", "x"]).code(0);
    assert!(
        ran.stderr.contains("→ delegate demo-tools: ") && ran.stderr.contains("\n  demo-tools → now\n"),
        "{}",
        ran.stderr
    );
}
