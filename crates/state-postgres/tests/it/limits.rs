//! Limits that two processes share: each has a store of its own on one database.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::{
    AgentName, Amount, AmountLimit, BudgetAccount, BudgetWindow, Clock, Gate, GateLimit, Ids, Lease, ManualClock,
    Namespace, NewTask, OnLimit, SystemIds, TaskId, Terms, Timestamp, Wait, WaitFor,
};
use futures::future::join_all;
use state::{Claim, Finish, Park, Reserve, ReserveId, Reserved, State, StateError, Transition};
use state_postgres::PostgresState;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::{admin, database, new_task, options, success, until, worker};

const DEADLINE: Duration = Duration::from_secs(120);

/// Two stores on one database.
struct Two {
    url: String,
    clock: Arc<ManualClock>,
    stores: [Arc<PostgresState>; 2],
}

impl Two {
    async fn open() -> Self {
        let url = database().await;
        let start = Timestamp::from_timestamp_micros(1_770_000_000_123_456).expect("a valid time");
        let clock = Arc::new(ManualClock::at(start));
        let first = store(&url, &clock).await;
        let second = store(&url, &clock).await;
        Self { url, clock, stores: [first, second] }
    }

    fn of(&self, index: usize) -> Arc<PostgresState> {
        Arc::clone(&self.stores[index % 2])
    }

    async fn submit(&self, index: usize, terms: Terms) -> TaskId {
        let task = NewTask { created_at: self.clock.now(), terms, ..new_task() };
        self.stores[index % 2].submit(task).await.expect("submitted").task.id
    }

    async fn gated(&self, index: usize, gate: &Gate) -> TaskId {
        self.submit(index, Terms { gates: vec![gate.clone()], ..Terms::default() }).await
    }

    async fn claim(&self, index: usize, task: TaskId) -> Option<Lease> {
        let claim = claim(task, self.clock.now());
        self.stores[index % 2].claim(claim).await.expect("answered").map(|claimed| claimed.lease())
    }

    async fn finish(&self, index: usize, lease: Lease) -> Vec<TaskId> {
        let transition = self.stores[index % 2].finish(lease, success_at(self.clock.now())).await.expect("finished");
        ready(&transition)
    }

    async fn close(self) {
        for store in &self.stores {
            store.close().await;
        }
    }
}

async fn store(url: &str, clock: &Arc<ManualClock>) -> Arc<PostgresState> {
    let store = PostgresState::open(options(url), Arc::clone(clock) as Arc<dyn Clock>);
    until(|| store.ping()).await;
    store
}

fn claim(task: TaskId, now: Timestamp) -> Claim {
    Claim { task, worker: worker(), now, thread_messages: 0 }
}

fn success_at(at: Timestamp) -> Finish {
    Finish { at, ..success(Vec::new()) }
}

fn ready(transition: &Transition) -> Vec<TaskId> {
    transition.ready.iter().map(|ready| ready.task).collect()
}

fn running(max: u32) -> Gate {
    Gate { key: "agent/a".to_owned(), limit: GateLimit::Running { max } }
}

/// Who is at work, and who waits to be.
struct Crowd {
    holders: AtomicUsize,
    most: AtomicUsize,
    freed: Notify,
    /// Leases that somebody knows of; those of claims whose answer was lost are not among them.
    known: Mutex<BTreeSet<TaskId>>,
}

impl Crowd {
    fn new() -> Arc<Self> {
        let count = || AtomicUsize::new(0);
        Arc::new(Self { holders: count(), most: count(), freed: Notify::new(), known: Mutex::default() })
    }

    /// Claims a task, as often as it takes, and finishes it.
    async fn work(&self, store: &PostgresState, task: TaskId, clock: &ManualClock) {
        let lease = loop {
            let freed = self.freed.notified();
            self.known.lock().expect("whole").insert(task);
            if let Ok(Some(claimed)) = store.claim(claim(task, clock.now())).await {
                break claimed.lease();
            }
            self.known.lock().expect("whole").remove(&task);
            // Nobody is told when an announcement is lost together with its connection.
            let _ = timeout(Duration::from_millis(300), freed).await;
        };
        let holders = self.holders.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(holders, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.holders.fetch_sub(1, Ordering::SeqCst);
        loop {
            match store.finish(lease, success_at(clock.now())).await {
                Ok(_) => break,
                Err(error) if error.is_transient() => {}
                Err(error) => panic!("the lease was held: {error}"),
            }
        }
        self.known.lock().expect("whole").remove(&task);
        self.freed.notify_waiters();
    }

    /// Takes away the leases that nobody knows of, as a reaper does after a while.
    async fn reap(&self, store: &PostgresState, clock: &ManualClock) {
        let Ok(mut beats) = store.leases().await else { return };
        beats.retain(|beat| !self.known.lock().expect("whole").contains(&beat.lease.task));
        if store.reap(beats, 1_000, clock.now()).await.is_ok() {
            self.freed.notify_waiters();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_lets_no_more_through_than_its_limit_whoever_asks() {
    let two = Two::open().await;
    let crowd = Crowd::new();
    let mut work = Vec::new();
    for index in 0..64 {
        let task = two.gated(index, &running(3)).await;
        let (crowd, store, clock) = (Arc::clone(&crowd), two.of(index / 2), Arc::clone(&two.clock));
        work.push(tokio::spawn(async move { crowd.work(&store, task, &clock).await }));
    }
    for done in timeout(DEADLINE, join_all(work)).await.expect("all finish") {
        done.expect("no worker failed");
    }
    let most = crowd.most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at once");
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_lost_in_mid_flight_leave_the_limits_right() {
    let two = Two::open().await;
    let crowd = Crowd::new();
    let mut work = Vec::new();
    for index in 0..64 {
        let task = two.gated(index, &running(3)).await;
        let (crowd, store, clock) = (Arc::clone(&crowd), two.of(index / 2), Arc::clone(&two.clock));
        work.push(tokio::spawn(async move { crowd.work(&store, task, &clock).await }));
    }
    let all = join_all(work);
    tokio::pin!(all);
    let mut kills = 0;
    let done = timeout(DEADLINE, async {
        loop {
            match timeout(Duration::from_millis(60), &mut all).await {
                Ok(done) => break done,
                Err(_) if kills < 12 => {
                    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";
                    admin(&two.url, sql).await;
                    kills += 1;
                }
                Err(_) => crowd.reap(&two.stores[kills % 2], &two.clock).await,
            }
        }
    });
    for done in done.await.expect("all finish") {
        done.expect("no worker failed");
    }
    assert!(kills > 0, "all was over before anything was cut");
    assert!(crowd.most.load(Ordering::SeqCst) <= 3);
    // All places are free, for both, and no more than there are.
    let mut tasks = Vec::new();
    for index in 0..8 {
        tasks.push(two.gated(index, &running(3)).await);
    }
    let claims = join_all(tasks.iter().enumerate().map(|(index, task)| two.claim(index, *task))).await;
    assert_eq!(claims.iter().flatten().count(), 3);
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_are_counted_over_all_processes() {
    const MOST: usize = 5;
    let two = Two::open().await;
    let gate = Gate { key: "agent/a".to_owned(), limit: GateLimit::Starts { max: MOST as u32, per_ms: 60_000 } };
    let mut waiting = Vec::new();
    for index in 0..30 {
        waiting.push((index, two.gated(index, &gate).await));
    }
    let mut starts: Vec<Timestamp> = Vec::new();
    for _ in 0..200 {
        let now = two.clock.now();
        let claims = join_all(waiting.iter().map(|(index, task)| two.claim(index / 2, *task))).await;
        starts.extend(claims.iter().flatten().map(|_| now));
        let in_window = starts.iter().filter(|at| **at > now - Duration::from_secs(60)).count();
        assert!(in_window <= MOST, "{in_window} within a minute");
        let mut claims = claims.into_iter();
        waiting.retain(|_| claims.next().flatten().is_none());
        if waiting.is_empty() {
            break;
        }
        two.clock.advance(Duration::from_secs(7));
    }
    assert!(waiting.is_empty(), "{} were never let through", waiting.len());
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_both_draw_on_is_never_exceeded() {
    const LIMIT: u64 = 1_000;
    const ASKED: u64 = 30;
    let two = Two::open().await;
    let limit = AmountLimit { tokens: Some(LIMIT), ..AmountLimit::default() };
    let account =
        BudgetAccount { key: "namespace".to_owned(), window: BudgetWindow::Day, limit, on_limit: OnLimit::default() };
    let mut spenders = Vec::new();
    for index in 0..16 {
        let task = two.submit(index, Terms { accounts: vec![account.clone()], ..Terms::default() }).await;
        let lease = two.claim(index / 2, task).await.expect("claimed");
        let (store, now) = (two.of(index), two.clock.now());
        spenders.push(tokio::spawn(async move { spend(&store, lease, now, ASKED).await }));
    }
    let mut taken = 0;
    for spent in timeout(DEADLINE, join_all(spenders)).await.expect("all are refused in the end") {
        taken += spent.expect("no spender failed");
    }
    for store in &two.stores {
        let accounts = store.accounts(&Namespace::default(), two.clock.now()).await.expect("read");
        let [standing] = accounts.as_slice() else { panic!("one account: {accounts:?}") };
        let total = standing.spent.tokens + standing.reserved.tokens;
        assert_eq!(total, taken, "what was granted is what is counted");
        assert!((LIMIT - ASKED..=LIMIT).contains(&total), "{total}");
    }
    two.close().await;
}

/// Reserves until it is refused, and uses a third of every second call; returns what it took.
async fn spend(store: &PostgresState, lease: Lease, at: Timestamp, asked: u64) -> u64 {
    let mut taken = 0;
    for seq in 1..1_000 {
        let id = ReserveId::Model { seq };
        let amount = Amount { tokens: asked, ..Amount::default() };
        let reserve = Reserve { id, amount, grants: Vec::new(), at };
        match store.reserve(lease, Vec::new(), reserve).await.expect("answered") {
            Reserved::Refused(_) => return taken,
            Reserved::Granted { .. } if seq % 2 == 0 => {
                let spent = Amount { tokens: asked / 3, ..Amount::default() };
                store.settle(lease, id, spent).await.expect("settled");
                taken += asked / 3;
            }
            Reserved::Granted { .. } => taken += asked,
        }
    }
    panic!("it was never refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_decides_the_other_knows_in_order() {
    let two = Two::open().await;
    let gate = running(1);
    let mut line = Vec::new();
    for index in 0..6 {
        line.push(two.gated(index, &gate).await);
    }
    let mut lease = two.claim(0, line[0]).await.expect("claimed");
    for (index, task) in line.iter().enumerate().skip(1) {
        assert!(two.claim(index, *task).await.is_none());
    }
    for (place, (index, task)) in (1..).zip(line.iter().enumerate().skip(1)) {
        for store in &two.stores {
            let wait = store.gate(&Namespace::default(), *task, two.clock.now()).await.expect("read");
            let wait = wait.expect("held back");
            assert_eq!((wait.holders, wait.position), (vec![line[0]], place), "task {index}");
        }
    }
    for (index, task) in line.iter().enumerate().skip(1) {
        assert_eq!(two.finish(index, lease).await, [*task]);
        let newcomer = two.gated(index, &gate).await;
        assert!(two.claim(index, newcomer).await.is_none(), "the place is promised, whoever asks");
        two.stores[index % 2].cancel(&Namespace::default(), newcomer).await.expect("cancelled");
        lease = two.claim(index + 1, *task).await.expect("claimed");
    }
    assert_eq!(two.finish(1, lease).await, []);
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_comes_later_knows_the_promises_of_the_others() {
    let two = Two::open().await;
    let gate = running(1);
    let (holder, next) = (two.gated(0, &gate).await, two.gated(0, &gate).await);
    let lease = two.claim(0, holder).await.expect("claimed");
    assert!(two.claim(0, next).await.is_none());
    assert_eq!(two.finish(0, lease).await, [next]);
    let late = store(&two.url, &two.clock).await;
    let newcomer = two.gated(1, &gate).await;
    assert!(late.claim(claim(newcomer, two.clock.now())).await.expect("answered").is_none());
    let wait = late.gate(&Namespace::default(), newcomer, two.clock.now()).await.expect("read").expect("held back");
    assert_eq!((wait.holders, wait.position), (Vec::new(), 1));
    let lease = late.claim(claim(next, two.clock.now())).await.expect("answered").expect("its turn").lease();
    assert_eq!(two.finish(1, lease).await, [newcomer]);
    late.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_are_refused_in_mid_batch_give_no_place_away() {
    const PLACES: usize = 12;
    let two = Two::open().await;
    let gate = running(PLACES as u32);
    let mut leases = Vec::new();
    for index in 0..PLACES {
        let task = two.gated(index, &gate).await;
        leases.push(two.claim(index, task).await.expect("claimed"));
    }
    let waiting = two.gated(0, &gate).await;
    assert!(two.claim(1, waiting).await.is_none());
    // Half of them wait for a sub-task that does not exist; the other half are released and taken again meanwhile.
    let at = two.clock.now();
    let unknown = || {
        let agent = AgentName::new("helper").expect("a valid name");
        let on = WaitFor::Child { task: TaskId(SystemIds.uuid()), agent };
        let wait = Wait { call_id: "call-1".to_owned(), on, expires_at: None, default: None };
        Park { steps: Vec::new(), seq: 1, at, waits: vec![wait], children: Vec::new() }
    };
    let writes = join_all(leases.iter().enumerate().map(async |(index, lease)| {
        let store = two.of(index / 2);
        if index % 2 == 0 {
            let refused = store.park(*lease, unknown()).await;
            assert!(matches!(refused, Err(StateError::UnknownTask { .. })), "{refused:?}");
            Vec::new()
        } else {
            ready(&store.release(*lease).await.expect("released"))
        }
    }));
    let called: Vec<TaskId> = writes.await.into_iter().flatten().collect();
    assert!(called.contains(&waiting));
    let called: BTreeSet<TaskId> = called.into_iter().collect();
    let claims = join_all(called.iter().enumerate().map(|(index, task)| two.claim(index, *task)));
    let claims = claims.await.into_iter().flatten().count();
    // A claim announces nobody: whom it gave way to, because they are older, is told by the next round.
    let due = two.stores[0].due(at, Duration::from_secs(3_600), 100).await.expect("a round");
    let late = join_all(ready(&due.transition).into_iter().map(|task| two.claim(0, task))).await;
    assert_eq!(claims + late.into_iter().flatten().count(), PLACES / 2, "as many as were given back");
    two.close().await;
}
