//! Starting, watching and ending the processes of one server.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, kill_process};

use super::kind::{Kind, Signal};
use super::place::Place;

/// A start that takes longer is a failure; a loaded machine needs some of it.
const TRIES: u32 = 3600;

/// The scripts that stop a server whose users are gone, whichever way they went.
const STOP: &str = include_str!("stop.sh");
const WATCH_USERS: &str = include_str!("watch_users.sh");
const WATCH_OWNER: &str = include_str!("watch_owner.sh");

/// Starts a server whose folder is prepared, and waits until it serves.
pub(super) fn start<K: Kind>(place: &Place) -> io::Result<Vec<Child>> {
    let mut children = K::launch(place)?;
    let groups: Vec<String> = children.iter().map(|child| format!("{} {}\n", K::AT_ONCE.name(), child.id())).collect();
    fs::write(place.path("groups"), groups.concat())?;
    for _ in 0..TRIES {
        if K::ready(place) {
            return Ok(children);
        }
        for child in &mut children {
            if let Some(status) = child.try_wait()? {
                return Err(failed::<K>(place, &format!("ended with {status}")));
            }
        }
        sleep(Duration::from_millis(25));
    }
    Err(failed::<K>(place, "does not serve"))
}

fn failed<K: Kind>(place: &Place, how: &str) -> io::Error {
    io::Error::other(format!("{} {how}: {}", K::NAME, place.last_words()))
}

/// A process of a server: no input, its words in the log of `place`, the leader of its own group, so that neither the end
/// of a test nor a signal for one reaches it.
pub(super) fn spawn(command: &mut Command, place: &Place) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(place.path("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    command.spawn().map_err(|source| io::Error::new(source.kind(), format!("{command:?} does not start: {source}")))
}

/// Runs a program to its end; an error has what it said.
pub(super) fn run(command: &mut Command) -> io::Result<()> {
    let done = command.stdin(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    Err(io::Error::other(format!("{command:?}: {}: {said}", done.status)))
}

/// Leaves a process that stops the server of `place` and removes its folder when no process has `users` locked for twenty
/// seconds, and then removes `record` if it still names this place.
pub(super) fn watch_users(place: &Place, users: &std::path::Path, record: &std::path::Path) -> io::Result<()> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{STOP}\n{WATCH_USERS}")).arg("watch").arg(&place.folder).arg(users).arg(record);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().map(drop)
}

/// Leaves a process that stops the server of `place` and removes its folder when this process ends, or drops the child.
pub(super) fn watch_owner(place: &Place) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{STOP}\n{WATCH_OWNER}")).arg("watch").arg(&place.folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn()
}

/// Stops what is left at a place, and removes it.
pub(super) fn clear(place: &Place) -> io::Result<()> {
    run(Command::new("sh").arg("-c").arg(format!("{STOP}\nstop")).arg("stop").arg(&place.folder))
}

/// Sends a signal to processes; those that are gone are none of our business.
pub(super) fn signal(pids: &BTreeSet<i32>, signal: rustix::process::Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, signal);
    }
}

/// Tells processes to end.
pub(super) fn end(children: &mut [Child], how: Signal) -> io::Result<()> {
    let signal_of = match how {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Int => rustix::process::Signal::INT,
        Signal::Quit => rustix::process::Signal::QUIT,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    for child in children.iter() {
        if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, signal_of);
        }
    }
    for child in children {
        child.wait()?;
    }
    Ok(())
}

/// Holds all processes of a family, those included that are born meanwhile, and tells which they are.
pub(super) fn freeze(children: &[Child]) -> BTreeSet<i32> {
    let roots: BTreeSet<i32> = children.iter().map(|child| child.id().cast_signed()).collect();
    let mut frozen = BTreeSet::new();
    loop {
        let found = family(&roots);
        if found.is_subset(&frozen) {
            return found;
        }
        signal(&found, rustix::process::Signal::STOP);
        frozen.extend(found);
    }
}

/// These processes and all that descend from them or belong to their groups.
pub(super) fn family(roots: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut found = roots.clone();
    let all: Vec<(i32, i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(parents)
        .collect();
    loop {
        let before = found.len();
        let kin = all.iter().filter(|(_, parent, group)| found.contains(parent) || roots.contains(group));
        let kin: Vec<i32> = kin.map(|(pid, ..)| *pid).collect();
        found.extend(kin);
        if found.len() == before {
            return found;
        }
    }
}

/// A process with its parent and its group.
fn parents(pid: i32) -> Option<(i32, i32, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything, also brackets.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace().skip(1);
    Some((pid, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
