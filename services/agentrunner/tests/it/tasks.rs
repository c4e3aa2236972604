use crate::home::Home;

#[test]
fn looking_does_not_make_a_data_folder() {
    let home = Home::new();
    let ran = home.run(&["tasks", "list"]).code(3);
    assert!(ran.stderr.contains("no platform runs") && ran.stderr.contains("agentrunner dev"), "{}", ran.stderr);
    assert!(!home.path("data").exists());
}

#[test]
fn a_failed_task_is_retried_and_a_waiting_one_cancelled() {
    let home = Home::new();
    home.scripted(
        "once-wrong",
        "retry: {max_attempts: 1}\n",
        "turns:\n  - fail: unavailable\n    times: 1\n  - text: Right.\n",
    );
    let dev = home.dev();
    let told = home.run(&["run", "once-wrong", "x", "--json"]).code(1).json();
    assert_eq!(told["task"]["failure"]["kind"], "model_unavailable");
    let id = told["task"]["id"].as_str().unwrap().to_owned();
    home.run(&["tasks", "retry", &id]).code(0);
    assert_eq!(home.run(&["tasks", "watch", &id]).code(0).stdout, "Right.\n");
    home.run(&["tasks", "retry", &id]).code(1);

    let waiting = home.run(&["submit", "demo-approval", "x"]).code(0).stdout.trim().to_owned();
    let cancelled = home.run(&["tasks", "cancel", &waiting, "-o", "json"]).code(0).json();
    assert_eq!(cancelled[0]["id"], waiting.as_str());
    home.run(&["tasks", "watch", &waiting]).code(4);
    dev.stop().code(0);
}

#[test]
fn unknown_tasks_and_wrong_ids_are_told() {
    let home = Home::new();
    std::fs::create_dir(home.path("data")).unwrap();
    let unknown = "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10";
    assert!(home.run(&["tasks", "show", unknown]).code(1).stderr.contains(unknown));
    assert!(home.run(&["tasks", "journal", unknown]).code(1).stderr.contains(unknown));
    home.run(&["tasks", "show", "not-an-id"]).code(2);
    home.run(&["tasks", "list", "--status", "sleeping"]).code(2);
    assert_eq!(home.run(&["tasks", "list"]).code(0).stdout, "no tasks\n");
    assert_eq!(home.run(&["tasks", "list", "-o", "json"]).code(0).json(), serde_json::json!({ "items": [] }));
}
