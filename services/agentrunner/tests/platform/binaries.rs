//! Where the services' programs are: beside what cargo built for this test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::service::Role;

/// The program of a service, built with its failpoints; `PLATFORM_BIN_DIR` names another folder.
pub(crate) fn program(role: Role) -> PathBuf {
    let beside = || {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_agentrunner"));
        own.parent().expect("a program is in a folder").to_owned()
    };
    let folder = std::env::var_os("PLATFORM_BIN_DIR").map_or_else(beside, PathBuf::from);
    let program = folder.join(role.program());
    assert!(program.is_file(), "{} is not built: scripts/torture builds it", program.display());
    assert_failpoints(&program);
    program
}

/// A program that was built for something else stands at the same place, and would pass every point unharmed.
fn assert_failpoints(program: &Path) {
    static SEEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.contains(program) {
        return;
    }
    let found = Command::new("grep").args(["-qaF", "FAILPOINT"]).arg(program).status().expect("grep runs");
    assert!(found.success(), "{} has no failpoints: scripts/torture builds it with them", program.display());
    seen.insert(program.to_owned());
}
