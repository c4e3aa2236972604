//! The contract of the system of record, one test a rule, each on a database of its own in a real server; and once more behind
//! PgBouncer in transaction mode.

use std::sync::Arc;
use std::time::Duration;

use domain::Clock;
use libtest_mimic::{Arguments, Failed, Trial};
use state::State as _;
use state::contract::{Case, World, cases};
use state_postgres::{PostgresOptions, PostgresState};

/// Rules that take minutes, because they do the same thousands of times: a pooler sees nothing new in it.
const LONG: &[&str] = &[
    "a_task_has_so_many_files_and_no_more",
    "no_program_of_operations_breaks_a_tasks_life",
    "no_program_of_operations_exceeds_a_budget_or_loses_a_reservation",
    "no_program_of_operations_exceeds_a_gate_or_leaves_somebody_waiting_for_ever",
    "ten_thousand_held_back_by_one_gate_finish_in_order",
];

fn main() {
    let direct = cases().into_iter().map(|case| Trial::test(case.name, move || try_case(&case, false)));
    let short = cases().into_iter().filter(|case| !LONG.contains(&case.name));
    let behind = short.map(|case| {
        let name = format!("behind_pgbouncer::{}", case.name);
        Trial::test(name, move || try_case(&case, true))
    });
    libtest_mimic::run(&Arguments::from_args(), direct.chain(behind).collect()).exit();
}

fn try_case(case: &Case, behind_pgbouncer: bool) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let database = testkit::servers::postgres().await.fresh_database().await;
        if !behind_pgbouncer {
            return try_on(case, PostgresOptions::from_url(&database)?).await;
        }
        let pooler = testkit::servers::pgbouncer().await;
        let mut options = PostgresOptions::from_url(&pooler.way_to(&database))?;
        options.prepared_statements = pooler.follows_statements().await;
        try_on(case, options).await
    })
}

async fn try_on(case: &Case, mut options: PostgresOptions) -> Result<(), Failed> {
    // Many cases migrate their databases at once.
    options.acquire_timeout = Duration::from_secs(20);
    let clock = World::clock();
    let store = PostgresState::open(options, Arc::clone(&clock) as Arc<dyn Clock>);
    // The first read waits until the schema is there; some cases begin with what does not wait.
    store.stats(None).await?;
    case.run(World::new(Arc::clone(&store) as _, clock)).await;
    store.close().await;
    Ok(())
}
