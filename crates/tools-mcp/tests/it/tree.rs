//! A server's processes: what they are given, and that none of them outlives us.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tools::servers::ToolServers as _;

use crate::support::{FAKE, SUPERVISOR, World};

/// The processes whose ancestor is `root`, itself among them.
fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let above = found[next];
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[expect(clippy::disallowed_methods, reason = "a deadline for what other processes do")]
fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[tokio::test]
async fn a_server_gets_the_declared_variables_and_no_others() {
    let world = World::fake("normal", json!({ "env": { "GREETING": "hello" } })).await;
    assert_eq!(world.text("fake.env").await, "GREETING PATH");
}

#[tokio::test]
async fn the_whole_tree_ends_with_the_connection() {
    for mode in ["children", "stubborn"] {
        let world = World::fake(mode, json!({})).await;
        let pid: u32 = world.text("fake.pid").await.parse().unwrap();
        let supervisor = parent(pid).unwrap();
        let all = || tree(supervisor);
        if mode == "children" {
            assert!(within(Duration::from_secs(10), || all().len() >= 4), "{:?}", all());
        }
        let all = all();
        world.tools.shutdown().await;
        assert!(within(Duration::from_secs(2), || !all.iter().any(|pid| alive(*pid))), "{mode}");
    }
}

#[test]
fn the_whole_tree_ends_within_a_second_of_a_parent_that_is_killed() {
    // A parent that holds the pipe, as the platform does, and can be killed without asking anybody.
    let script = "import subprocess, sys, time\n\
        p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n\
        print(p.pid, flush=True)\n\
        time.sleep(600)\n";
    for mode in ["children", "stubborn"] {
        let mut parent = Command::new("python3")
            .args(["-c", script, SUPERVISOR, "mcp-supervise", FAKE, mode])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let supervisor: u32 = line.trim().parse().unwrap();
        let wanted = if mode == "children" { 4 } else { 2 };
        assert!(within(Duration::from_secs(10), || tree(supervisor).len() >= wanted));
        let all = tree(supervisor);
        parent.kill().unwrap();
        let gone = within(Duration::from_secs(5), || !all.iter().any(|pid| alive(*pid)));
        parent.wait().unwrap();
        assert!(gone, "{mode}: {:?}", all.iter().filter(|pid| alive(**pid)).collect::<Vec<_>>());
    }
}

#[test]
fn a_program_ends_with_its_supervisor_and_may_gain_no_rights() {
    let mut supervisor =
        Command::new(SUPERVISOR).args(["mcp-supervise", "/bin/sleep", "600"]).stdin(Stdio::piped()).spawn().unwrap();
    let id = supervisor.id();
    let program = || tree(id).into_iter().find(|pid| *pid != id && name(*pid) == "sleep");
    assert!(within(Duration::from_secs(10), || program().is_some()));
    let pid = program().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"));
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")));
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    assert!(within(Duration::from_secs(2), || !alive(pid)));
}

fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
