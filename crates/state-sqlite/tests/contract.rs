//! The contract of the system of record, one test a rule, each on a fresh data directory.

use std::sync::Arc;

use domain::Clock;
use libtest_mimic::{Arguments, Trial};
use state::contract::{Case, World, cases};
use state_sqlite::{SqliteOptions, SqliteState};

fn main() {
    let trials = cases().into_iter().map(|case| Trial::test(case.name, move || try_case(&case))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn try_case(case: &Case) -> Result<(), libtest_mimic::Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let clock = World::clock();
    let store = SqliteState::open(SqliteOptions::new(dir.path()), Arc::clone(&clock) as Arc<dyn Clock>)?;
    runtime.block_on(case.run(World::new(store, clock)));
    Ok(())
}
