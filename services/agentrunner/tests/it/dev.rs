use std::net::TcpListener;

use crate::home::Home;

#[test]
fn a_platform_starts_works_and_stops_in_order() {
    let home = Home::new();
    let dev = home.dev();
    let ran = home.run(&["run", "demo-tools", "hello"]).code(0);
    assert_eq!(ran.stdout, "Done. You said: hello\n");
    let listed = home.run(&["tasks", "list", "--url", &dev.url, "-o", "json"]).code(0).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "the command used the platform that runs");

    let ran = dev.stop().code(0);
    assert!(ran.stdout.contains("agentrunner run") && ran.stdout.contains("model"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'));
    assert!(home.announced().is_none());
    home.dev().stop().code(0);
}

#[test]
fn a_folder_belongs_to_one_platform() {
    let home = Home::new();
    let dev = home.dev();
    let second = home.run(&["dev", "--ports", "random"]).code(3);
    let complaints: Vec<&str> = second.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(complaints.len(), 1, "{}", second.stderr);
    assert!(complaints[0].contains("in use by another agentrunner process"), "{}", second.stderr);
    assert!(home.announced().is_some(), "the first one is still found");
    dev.stop().code(0);
}

#[test]
fn a_taken_port_is_told_in_one_line() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = home.command(&["dev"]);
    for name in ["STATE_MANAGER_ADDRESS", "CONFIG_SERVICE_ADDRESS", "AGENT_POOL_ADDRESS"] {
        command.env(name, "127.0.0.1:0");
    }
    command.env("ORCHESTRATOR_ADDRESS", &address);
    let ran = crate::home::finish(command.spawn().unwrap()).code(3);
    let complaint = format!("error: agent-orchestrator cannot listen on {address}");
    assert!(ran.stderr.lines().any(|line| line.starts_with(&complaint)), "{}", ran.stderr);
    assert!(home.announced().is_none());
}
