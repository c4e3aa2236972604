//! The contract of the system of record, one test a rule, through a client and two servers before one store.

use std::sync::Arc;

use bus::{InprocBus, Requests};
use domain::{Clock, SystemIds};
use libtest_mimic::{Arguments, Trial};
use state::State;
use state::contract::{Case, World, cases};
use state_remote::{ClientOptions, RemoteState, ServerOptions, serve};
use state_sqlite::{SqliteOptions, SqliteState};

fn main() {
    let inproc = cases().into_iter().map(|case| {
        Trial::test(format!("in_process::{}", case.name), move || try_case(&case, Arc::new(InprocBus::default())))
    });
    let trials = inproc.collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn try_case(case: &Case, requests: Arc<dyn Requests>) -> Result<(), libtest_mimic::Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let clock = World::clock();
    let store = SqliteState::open(SqliteOptions::new(dir.path()), Arc::clone(&clock) as Arc<dyn Clock>)?;
    runtime.block_on(async {
        let store = store as Arc<dyn State>;
        let first = serve(&*requests, Arc::clone(&store), ServerOptions::default()).await?;
        let second = serve(&*requests, store, ServerOptions::default()).await?;
        let client = RemoteState::new(requests, Arc::new(SystemIds), ClientOptions::default());
        case.run(World::new(Arc::new(client), clock)).await;
        drop((first, second));
        Ok(())
    })
}
