//! SIGTERM and SIGINT, which only a process of its own can be sent.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::lifecycle::Lifecycle;
use rustix::process::{Pid, Signal, kill_process};

use crate::service::PATIENCE;

/// What the process is told to be; without it the test below is an empty one.
const ROLE: &str = "COMMON_SIGNAL_TEST";

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::the_process_that_is_sent_signals", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { child, lines };
        process.says("ready");
        process
    }

    fn says(&mut self, what: &str) {
        assert!(self.lines.any(|line| line.unwrap().ends_with(what)), "the process ended without saying {what}");
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn exit_code(mut self) -> Option<i32> {
        let exit = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, exit).await.expect("the process exits")
    }
}

#[tokio::test]
async fn the_process_that_is_sent_signals() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let lifecycle = Lifecycle::new();
    lifecycle.listen_to_signals().unwrap();
    let soft = lifecycle.soft().clone();
    lifecycle.spawn("worker", async move {
        println!("ready");
        soft.cancelled().await;
        println!("stopping");
        if role == "busy" {
            std::future::pending::<()>().await;
        }
    });
    std::process::exit(lifecycle.wait(Duration::from_hours(1)).await.code());
}

#[tokio::test]
async fn one_signal_stops_the_process_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start("idle");
        process.send(signal);
        process.says("stopping");
        assert_eq!(process.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut process = Process::start("busy");
    process.send(Signal::TERM);
    process.says("stopping");
    process.send(Signal::TERM);
    assert_eq!(process.exit_code().await, Some(143));
}
