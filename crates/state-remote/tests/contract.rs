//! The contract of the system of record, one test a rule, through a client and two servers before one store: in one
//! process, over NATS, and over a network that loses the first answer of what may be asked twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus::{InprocBus, Requests};
use bus_nats::{NatsBus, NatsOptions};
use domain::{Clock, SystemIds};
use libtest_mimic::{Arguments, Failed, Trial};
use state::State;
use state::contract::{Case, World, cases};
use state_remote::{ClientOptions, RemoteState, ServerOptions, serve};
use state_sqlite::{SqliteOptions, SqliteState};

use network::LosesAnswers;

mod network {
    //! A network that loses answers.

    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use async_trait::async_trait;
    use bus::{BusError, RequestHandler, Requests, ServeGuard};
    use bytes::Bytes;

    /// What is answered alike when it is asked twice; the others answer that the lease has ended, or are not repeated.
    const ALIKE: [&str; 14] = [
        "submit",
        "append",
        "renew",
        "task",
        "tasks",
        "answer",
        "journal",
        "threads",
        "thread_messages",
        "value",
        "values",
        "leases",
        "budget",
        "accounts",
    ];

    /// Loses the first answer of every request whose method is answered alike the second time.
    pub(crate) struct LosesAnswers {
        pub(crate) inner: Arc<dyn Requests>,
        pub(crate) lost: Mutex<HashSet<Bytes>>,
    }

    #[async_trait]
    impl Requests for LosesAnswers {
        async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
            let answer = self.inner.request(subject, body.clone(), timeout).await?;
            let method = subject.strip_prefix("state.").unwrap_or_default();
            // What follows the header: a repetition has less time left.
            let arguments = body.iter().position(|byte| *byte == b'\n').map_or(body.clone(), |end| body.slice(end..));
            if ALIKE.contains(&method) && self.lost.lock().expect("nobody panics with it").insert(arguments) {
                return Err(BusError::Timeout { subject: subject.to_owned(), millis: timeout.as_millis() as u64 });
            }
            Ok(answer)
        }

        async fn serve(&self, subject: &str, handler: Arc<dyn RequestHandler>) -> Result<ServeGuard, BusError> {
            self.inner.serve(subject, handler).await
        }
    }
}

#[derive(Clone, Copy)]
enum Network {
    InProcess,
    Nats,
    LosesAnswers,
}

fn main() {
    let mut trials = Vec::new();
    for (name, network) in
        [("in_process", Network::InProcess), ("nats", Network::Nats), ("answers_lost", Network::LosesAnswers)]
    {
        let cases = cases().into_iter().filter(|case| !matches!(network, Network::LosesAnswers) || is_short(case));
        trials
            .extend(cases.map(|case| Trial::test(format!("{name}::{}", case.name), move || try_case(&case, network))));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// The long ones make many thousand calls, each of which would wait for its repetition.
fn is_short(case: &Case) -> bool {
    !case.name.starts_with("ten_thousand") && !case.name.contains("program")
}

fn try_case(case: &Case, network: Network) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let clock = World::clock();
    let store = SqliteState::open(SqliteOptions::new(dir.path()), Arc::clone(&clock) as Arc<dyn Clock>)?;
    runtime.block_on(async {
        let nats = match network {
            Network::Nats => Some(testkit::servers::nats().await),
            _ => None,
        };
        let [ours, theirs]: [Arc<dyn Requests>; 2] = match (network, &nats) {
            (Network::Nats, Some(nats)) => {
                let options = nats_options(nats.url());
                [connected(options.clone()).await?, connected(options).await?]
            }
            (Network::LosesAnswers, _) => {
                let bus: Arc<dyn Requests> = Arc::new(InprocBus::default());
                [Arc::new(LosesAnswers { inner: bus.clone(), lost: std::sync::Mutex::default() }), bus]
            }
            _ => {
                let bus: Arc<dyn Requests> = Arc::new(InprocBus::default());
                [bus.clone(), bus]
            }
        };
        let store = store as Arc<dyn State>;
        let first = serve(&*theirs, Arc::clone(&store), ServerOptions::default()).await?;
        let second = serve(&*theirs, store, ServerOptions::default()).await?;
        let client = RemoteState::new(ours, Arc::new(SystemIds), ClientOptions::default());
        case.run(World::new(Arc::new(client), clock)).await;
        drop((first, second));
        Ok(())
    })
}

fn nats_options(url: String) -> NatsOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("sc{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    NatsOptions { servers: vec![url], prefix, name: "contract".to_owned(), ..NatsOptions::default() }
}

async fn connected(options: NatsOptions) -> Result<Arc<NatsBus>, Failed> {
    let bus = NatsBus::connect(options).await?;
    let ready = async {
        while bus.ready().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await?;
    Ok(Arc::new(bus))
}
