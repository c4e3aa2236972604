//! The contract of blob stores, one test a rule, each on a fresh folder.

use std::sync::Arc;

use blob::Folder;
use blob::contract::{Case, cases};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let trials = cases().into_iter().map(|case| Trial::test(case.name, move || try_case(&case))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn try_case(case: &Case) -> Result<(), libtest_mimic::Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    runtime.block_on(case.run(Arc::new(Folder::new(dir.path().join("blobs")))));
    Ok(())
}
