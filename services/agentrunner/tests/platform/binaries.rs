//! Where the services' programs are: beside what cargo built for this test.

use std::path::PathBuf;

use crate::service::Role;

/// The program of a service, built with its failpoints; `PLATFORM_BIN_DIR` names another folder.
pub(crate) fn program(role: Role) -> PathBuf {
    let folder = std::env::var_os("PLATFORM_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_agentrunner"));
        own.parent().expect("a program is in a folder").to_owned()
    });
    let program = folder.join(role.program());
    assert!(program.is_file(), "{} is not built: scripts/torture builds it", program.display());
    program
}
