//! The contract of the system of record, one test a rule, each on a database of its own in a real server.

use std::sync::Arc;
use std::time::Duration;

use domain::Clock;
use libtest_mimic::{Arguments, Trial};
use state::State as _;
use state::contract::{Case, World, cases};
use state_postgres::{PostgresOptions, PostgresState};

fn main() {
    let trials = cases().into_iter().map(|case| Trial::test(case.name, move || try_case(&case))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn try_case(case: &Case) -> Result<(), libtest_mimic::Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let server = testkit::servers::postgres().await;
        let mut options = PostgresOptions::from_url(&server.fresh_database().await)?;
        // Many cases migrate their databases at once.
        options.acquire_timeout = Duration::from_secs(20);
        let clock = World::clock();
        let store = PostgresState::open(options, Arc::clone(&clock) as Arc<dyn Clock>);
        // The first read waits until the schema is there; some cases begin with what does not wait.
        store.stats(None).await?;
        case.run(World::new(Arc::clone(&store) as _, clock)).await;
        store.close().await;
        Ok(())
    })
}
