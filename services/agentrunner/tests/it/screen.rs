//! What a person at a real terminal sees.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::home::{Home, finish, until};

/// A terminal with a command in it.
struct Screen {
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Option<std::process::Child>,
}

impl Screen {
    fn open(home: &Home, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let side = || File::options().read(true).write(true).open(&name).unwrap();
        let mut command = home.command(args);
        command.stdin(Stdio::from(side())).stdout(Stdio::from(side())).stderr(Stdio::from(side()));
        let child = command.env("TERM", "xterm").spawn().unwrap();
        drop(command);
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails when the command has ended and nobody else has the terminal open.
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self { keyboard, shown, child: Some(child) }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, text: &str) {
        until(&format!("{text:?} is shown"), || self.shown().contains(text).then_some(()));
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        finish(self.child.take().unwrap()).code
    }
}

#[test]
fn a_person_is_asked_and_answers() {
    let home = Home::new();
    let mut screen = Screen::open(&home, &["run", "demo-approval", "Send it"]);
    screen.wait_for("your answer (nothing: reject): ");
    screen.type_line("perhaps");
    screen.wait_for("the answer must be one of: approve, reject");
    screen.type_line("1");
    assert_eq!(screen.end(), Some(0));
    screen.wait_for("The decision was: approve");
    screen.wait_for("tasks journal");
    assert!(screen.shown().contains("\u{1b}[32msucceeded"), "there are colours on a terminal");
}

#[test]
fn a_person_allows_a_call_after_seeing_all_of_it() {
    let home = Home::new();
    let mut screen = Screen::open(&home, &["run", "demo-payments", "ACME \u{1b}[2J"]);
    screen.wait_for("approve, deny (with a reason), or other arguments as JSON: ");
    assert!(screen.shown().contains("Pay 20 dollars: ACME \\u001b[2J"), "{:?}", screen.shown());
    screen.type_line("sure");
    screen.wait_for("type approve, deny, deny and a reason, or other arguments as JSON");
    screen.type_line("{\"text\": \"Pay 5 dollars\"}");
    assert_eq!(screen.end(), Some(0));
    screen.wait_for("tasks journal");
    assert!(screen.shown().contains("allowed the call with other arguments"), "{:?}", screen.shown());
}

#[test]
fn a_person_raises_a_budget() {
    let home = Home::new();
    let settings = "tools: [{name: echo, cost_usd: 20}]\nbudget: {usd: 10, on_limit: ask}\n";
    let dialogue = "turns:\n  - tool_calls: [{name: echo, arguments: {text: hi}}]\n  - text: Done.\n";
    home.scripted("spender", settings, dialogue);
    let mut screen = Screen::open(&home, &["run", "spender", "x"]);
    screen.wait_for("allows $10.00");
    screen.wait_for("(0 stops it): ");
    screen.type_line("15");
    assert_eq!(screen.end(), Some(0));
    screen.wait_for("granted $15.00 more");
}

#[test]
fn a_decision_is_confirmed_on_a_terminal() {
    let home = Home::new();
    let dev = home.dev();
    let id = home.run(&["submit", "demo-payments", "ACME"]).code(0).stdout.trim().to_owned();
    until("the task waits", || home.run(&["tasks", "approvals"]).code(0).stdout.contains(&id).then_some(()));
    let approve = ["tasks", "approve", &id, "--by", "kim"];
    for (typed, code) in [("", 1), ("y", 0)] {
        let mut screen = Screen::open(&home, &approve);
        screen.wait_for("approve this call? [y/N]");
        screen.type_line(typed);
        assert_eq!(screen.end(), Some(code));
    }
    drop(dev);
}

#[test]
fn what_a_model_says_does_not_act_on_the_terminal() {
    let home = Home::new();
    let hostile = "turns:\n  - text: \"\\e]0;owned\\a \\e[2J \\u202Ereversed \\U000E0041hidden\"\n";
    home.scripted("hostile", "", hostile);
    let mut screen = Screen::open(&home, &["run", "hostile", "\u{1b}]0;mine\u{7}", "--no-color"]);
    assert_eq!(screen.end(), Some(0));
    screen.wait_for("tasks journal");
    let shown = screen.shown();
    assert!(shown.contains("␛]0;owned␇") && shown.contains("<U+202E>reversed"), "{shown:?}");
    let mut screen = Screen::open(&home, &["tasks", "list", "-o", "json", "--no-color"]);
    assert_eq!(screen.end(), Some(0));
    let mut all = shown + &screen.shown();
    let listed = home.run(&["tasks", "list", "-o", "json"]).code(0).json();
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    for args in [["tasks", "journal", &id, "--no-color"], ["tasks", "show", &id, "--no-color"]] {
        let mut screen = Screen::open(&home, &args);
        assert_eq!(screen.end(), Some(0));
        screen.wait_for("owned");
        all += &screen.shown();
    }
    for acting in ['\u{1b}', '\u{7}', '\u{202e}', '\u{e0041}'] {
        assert!(!all.contains(acting), "{acting:?} reached the terminal: {all:?}");
    }
}

#[test]
fn words_are_spoken_as_they_come() {
    let home = Home::new();
    home.scripted("talks", "", "turns:\n  - text: one two\n    chunk_delay: 10ms\n    tool_calls: [{name: ask, arguments: {question: \"Go on?\"}}]\n  - text: three\n");
    std::fs::write(home.path("agents/talks.yml"), "name: talks\nmodel: scripted/talks\ntools: [ask]\n").unwrap();
    let mut screen = Screen::open(&home, &["run", "talks", "x"]);
    screen.wait_for("one two");
    screen.wait_for("your answer: ");
    assert!(!screen.shown().contains("three"));
    screen.type_line("yes");
    screen.wait_for("three");
    assert_eq!(screen.end(), Some(0));
}
