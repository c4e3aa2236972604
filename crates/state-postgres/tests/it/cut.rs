//! Nobody knows whether a commit happened whose connection was cut: the operation finds out, and answers what is true.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::{Clock, Failure, FailureKind, Namespace, SystemClock, TaskStatus, Wait, WaitFor};
use state::{AttemptFailed, Park, PutCondition, State};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{database, model, new_task, open, running, submit, success, try_claim, worker};

/// Stands between a store and its server, and cuts a connection at a commit when it is told to.
struct Proxy {
    url: String,
    armed: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(url: &str) -> Self {
        let (before, after) = url.rsplit_once('@').expect("credentials");
        let (server, name) = after.split_once('/').expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let armed = Arc::new(AtomicBool::new(false));
        let (server, trigger) = (server.to_owned(), Arc::clone(&armed));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server listens");
                tokio::spawn(carry(client, server, Arc::clone(&trigger)));
            }
        });
        Self { url: format!("{before}@127.0.0.1:{port}/{name}"), armed }
    }

    /// The next commit is done, and its answer is lost.
    fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn has_cut(&self) -> bool {
        !self.armed.load(Ordering::SeqCst)
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut cutting = false;
    loop {
        tokio::select! {
            count = client.read(&mut asked) => {
                let Ok(count @ 1..) = count else { return };
                let commits = asked[..count].windows(7).any(|part| part == b"COMMIT\0");
                cutting |= commits && armed.swap(false, Ordering::SeqCst);
                if server.write_all(&asked[..count]).await.is_err() {
                    return;
                }
            }
            count = server.read(&mut answered) => {
                let Ok(count @ 1..) = count else { return };
                // The server has committed by now; nobody hears of it.
                if cutting || client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_whose_commit_was_cut_off_answers_what_it_did() {
    let proxy = Proxy::start(&database().await).await;
    let store = open(&proxy.url);
    let namespace = Namespace::default();
    submit(&store).await;

    proxy.arm();
    let submitted = store.submit(new_task()).await.expect("submitted");
    assert!(submitted.created && proxy.has_cut());

    let holder = worker();
    let lease = running(&store, holder).await;
    proxy.arm();
    store.append(lease, vec![model(1, "one")]).await.expect("appended");
    assert!(proxy.has_cut());
    proxy.arm();
    store.finish(lease, success(vec![model(2, "two")])).await.expect("finished");
    assert!(proxy.has_cut());
    let ended = store.task(&namespace, lease.task).await.expect("read").expect("kept");
    assert_eq!(
        (ended.status, store.journal(&namespace, lease.task, 0, 9).await.expect("read").len()),
        (TaskStatus::Succeeded, 3)
    );

    let lease = running(&store, holder).await;
    let now = SystemClock::default().now();
    let on = WaitFor::Signal { name: "go".to_owned(), question: "may I?".to_owned(), options: Vec::new() };
    let waits = vec![Wait { call_id: "a".to_owned(), on, expires_at: None, default: None }];
    proxy.arm();
    store.park(lease, Park { steps: Vec::new(), seq: 1, at: now, waits, children: Vec::new() }).await.expect("parked");
    assert!(proxy.has_cut());
    let parked = store.task(&namespace, lease.task).await.expect("read").expect("kept");
    assert_eq!(parked.status, TaskStatus::Waiting);

    let lease = running(&store, holder).await;
    proxy.arm();
    store.release(lease).await.expect("released");
    assert!(proxy.has_cut());

    let lease = running(&store, holder).await;
    let failure = Failure::new(FailureKind::ModelRefused, "no");
    proxy.arm();
    let failed = AttemptFailed { seq: 1, at: now, failure, retry_at: now };
    store.fail_attempt(lease, failed).await.expect("counted");
    assert!(proxy.has_cut());
    assert_eq!(store.task(&namespace, lease.task).await.expect("read").expect("kept").attempt, 1);

    proxy.arm();
    store.cancel(&namespace, lease.task).await.expect("cancelled");
    assert!(proxy.has_cut());
    proxy.arm();
    store.retry(&namespace, lease.task, true).await.expect("queued again");
    assert!(proxy.has_cut());

    proxy.arm();
    let value = serde_json::json!({"a": 1});
    let put = store.put_value(&namespace, "s", "k", value, None, PutCondition::Absent, now).await.expect("put");
    assert!(proxy.has_cut());
    assert_eq!(put.version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_commit_was_cut_off_is_given_to_nobody_until_it_is_reaped() {
    let proxy = Proxy::start(&database().await).await;
    let store = open(&proxy.url);
    let task = submit(&store).await;
    proxy.arm();
    assert!(try_claim(&store, task, worker()).await.expect("answered").is_none());
    let beats = store.leases().await.expect("listed");
    assert_eq!(beats.len(), 1);
    let reaped = store.reap(beats, 5, SystemClock::default().now()).await.expect("reaped");
    assert_eq!(reaped.ready.len(), 1);
    let lease = try_claim(&store, task, worker()).await.expect("answered").expect("claimed").lease();
    assert_eq!(lease.epoch, 2);
}
