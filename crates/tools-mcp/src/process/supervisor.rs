//! A small process between us and a server's program: whatever becomes of us, the program's whole tree ends.
//!
//! A parent that is killed cannot clean up, and a program may have children, in other process groups too. So every
//! program has a supervisor, started from our own binary. It holds the pipe through which we speak; the pipe closes
//! with us, however we end. It adopts whatever the program leaves behind, and ends all of it within a second. The last
//! step before the program itself (`mcp-exec`) gives up privileges and ties the program to the supervisor's own life.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, kill_process, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, setrlimit,
};

/// The word that makes a process a supervisor.
pub const SUPERVISE: &str = "mcp-supervise";
/// The word that makes a process turn into the program.
const EXEC: &str = "mcp-exec";

/// How long a program may take to end by itself once nobody speaks to it any more, and then once it is asked to.
const GRACE: Duration = Duration::from_millis(250);
/// How often the remains are looked for.
const SWEEPS: u32 = 200;
/// How many files a program may have open.
const MAX_FILES: u64 = 4_096;

/// Runs what the arguments of the process ask for, if they ask for one of the helpers here.
///
/// To be called first in `main`, before there are threads.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let mode = args.next()?;
    if mode == SUPERVISE {
        let args: Vec<OsString> = args.collect();
        return Some(supervise(&args).unwrap_or_else(|error| complain(&error)));
    }
    if mode == EXEC {
        let args: Vec<OsString> = args.collect();
        return Some(complain(&exec(&args)));
    }
    None
}

fn complain(error: &io::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "the program could not be started: {error}");
    ExitCode::from(127)
}

enum Event {
    Ended(io::Result<ExitStatus>),
    Abandoned,
}

fn supervise(args: &[OsString]) -> io::Result<ExitCode> {
    // Whatever loses its parent below us becomes our child, so that nothing can leave the tree.
    set_child_subreaper(Some(getpid()))?;
    let mut command = Command::new(own_binary()?);
    command.arg(EXEC).args(args).stdin(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let group = Pid::from_child(&child);
    // Whoever reads what the program writes must see it close.
    rustix::stdio::dup2_stdout(std::fs::OpenOptions::new().write(true).open("/dev/null")?)?;
    let stdin = child.stdin.take();
    let (events, happened) = mpsc::channel();
    let abandoned = events.clone();
    thread::spawn(move || {
        forward(stdin);
        let _ = abandoned.send(Event::Abandoned);
    });
    thread::spawn(move || {
        let _ = events.send(Event::Ended(child.wait()));
    });
    let mut status = None;
    if let Ok(Event::Ended(ended)) = happened.recv() {
        status = ended.ok();
    } else {
        // Its standard input is closed by now: a server that behaves ends by itself.
        for signal in [None, Some(Signal::TERM)] {
            if let Some(signal) = signal {
                let _ = kill_process_group(group, signal);
            }
            match happened.recv_timeout(GRACE) {
                Ok(Event::Ended(ended)) => {
                    status = ended.ok();
                    break;
                }
                Ok(Event::Abandoned) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }
    end_all(group);
    let code = status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)));
    Ok(ExitCode::from(u8::try_from(code.unwrap_or(137)).unwrap_or(1)))
}

/// Hands on what we are sent until the sender is gone. The program's end of the pipe closes with it.
fn forward(stdin: Option<ChildStdin>) {
    let Some(mut to) = stdin else { return };
    let mut from = io::stdin().lock();
    let mut buffer = vec![0; 64 * 1024];
    let mut broken = false;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                // A program that reads no more may still be writing: only our sender's end ends this.
                broken = broken || to.write_all(&buffer[..read]).is_err();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Ends the group, and then everything that became our child because its parent ended.
fn end_all(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
    for _ in 0..SWEEPS {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = kill_process_group(child, Signal::KILL);
            let _ = kill_process(child, Signal::KILL);
            let _ = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::NOHANG);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The children of this process that have not been waited for.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero().get();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(own)).filter_map(Pid::from_raw).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the state and the parent follow the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Turns this process into the program; returns only when that fails.
fn exec(args: &[OsString]) -> io::Error {
    let Some((program, args)) = args.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program is named");
    };
    let prepared = || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The supervisor may have ended before it could be told of.
        if getppid().is_none_or(Pid::is_init) {
            return Err(io::Error::other("nobody supervises"));
        }
        rustix::thread::set_no_new_privs(true)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        let files = rustix::process::getrlimit(Resource::Nofile);
        let most = files.maximum.unwrap_or(MAX_FILES).min(MAX_FILES);
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
        Ok(())
    };
    if let Err(error) = prepared() {
        return error;
    }
    Command::new(program).args(args).exec()
}

/// Our own binary, even when its file has been replaced meanwhile.
fn own_binary() -> io::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() { Ok(link) } else { std::env::current_exe() }
}
