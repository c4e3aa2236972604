//! The schema as operators move it, with the program, beneath tasks that must survive it.

use std::process::Stdio;
use std::sync::Arc;

use common::config::Secret;
use connect::platform::{self, NatsSettings};
use domain::{
    Clock, FinishReason, Gate, GateLimit, Ids, Lease, ModelStep, Namespace, NewTask, StepBody, SystemClock, SystemIds,
    TaskId, TaskInput, TaskStatus, Terms, Usage, WorkerId,
};
use state::{Claim, Finish, NewStep, Outcome, State, StateError};
use tempfile::{TempDir, tempdir};
use testkit::servers::query;

use crate::operations;
use crate::process::{PATIENCE, Process, command, finish, free_address, parts};

const BINARY: &str = env!("CARGO_BIN_EXE_state-manager");
const LATEST: &str = "0003_gates";

/// An empty database, and a prefix of NATS that nobody else uses.
struct Scene {
    database: String,
    settings: Vec<(&'static str, String)>,
    nats: NatsSettings,
    logs: TempDir,
}

impl Scene {
    async fn set() -> Self {
        let (postgres, nats) = (testkit::servers::postgres().await, testkit::servers::nats().await);
        let database = postgres.fresh_database().await;
        let [user, password, host, port, name] = parts(&database);
        let [nats_user, nats_password, nats_host, nats_port, _] = parts(&nats.url());
        let nats_url = format!("nats://{nats_host}:{nats_port}");
        let nats_prefix = format!("m{}", &SystemIds.uuid().simple().to_string()[..24]);
        let settings = vec![
            ("POSTGRES_HOST", host),
            ("POSTGRES_PORT", port),
            ("POSTGRES_DB", name),
            ("POSTGRES_USER", user),
            ("POSTGRES_PASSWORD", password),
            ("NATS_URL", nats_url.clone()),
            ("NATS_USER", nats_user.clone()),
            ("NATS_PASSWORD", nats_password.clone()),
            ("NATS_PREFIX", nats_prefix.clone()),
        ];
        let nats = NatsSettings { nats_url, nats_user, nats_password: Secret::new(nats_password), nats_prefix };
        Self { database, settings, nats, logs: tempdir().unwrap() }
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Runs `state-manager migrate …`; its exit code, and what it printed on both outputs.
    fn migrate(&self, word: &str) -> (Option<i32>, String, String) {
        finish(BINARY, &["migrate", word], &self.settings())
    }

    /// The same, for what must succeed.
    fn migrated(&self, word: &str) -> String {
        let (code, stdout, stderr) = self.migrate(word);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        stdout
    }

    /// Starts a copy of the service, and waits until it is ready.
    async fn service(&self) -> Process {
        let address = own_address();
        let mut settings = self.settings();
        settings.push(("STATE_MANAGER_ADDRESS", &address));
        let log = self.logs.path().join(address.replace(':', "-"));
        let process = Process::start(BINARY, &address, &settings, &log).await;
        process.until("/health/ready", |status, _| status == 200).await;
        process
    }

    /// The record, as pools reach it: whichever copy answers.
    async fn record(&self) -> Arc<dyn State> {
        platform::remote_record(&platform::messages(&self.nats, "test").await.unwrap()).0
    }

    fn query(&self, sql: &str) -> String {
        query(&self.database, sql).unwrap()
    }
}

impl Drop for Scene {
    /// What the copies of the service logged is gone with the scene, and wanted when it went wrong.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in std::fs::read_dir(self.logs.path()).into_iter().flatten().flatten() {
                eprintln!("{}:\n{}", log.path().display(), std::fs::read_to_string(log.path()).unwrap_or_default());
            }
        }
    }
}

/// A loopback address of its own: a port that was free a moment ago may be another test's by now.
fn own_address() -> String {
    let [.., a, b, c] = SystemIds.uuid().into_bytes();
    format!("127.{a}.{b}.{}:8001", c.clamp(1, 254))
}

fn new_task(gates: &[Gate]) -> NewTask {
    NewTask {
        input: TaskInput::new("say something".to_owned()),
        terms: Terms { gates: gates.to_vec(), ..Terms::default() },
        ..operations::new_task(SystemIds.uuid().as_u128(), SystemClock::default().now())
    }
}

fn model(seq: u32) -> NewStep {
    let body = StepBody::Model(ModelStep {
        model: "scripted/test".to_owned(),
        text: "thinking".to_owned(),
        tool_calls: Vec::new(),
        finish: FinishReason::Stop,
        usage: Usage::default(),
        structured: false,
        duration_ms: 1,
        reasoning: Vec::new(),
        tries: Vec::new(),
    });
    NewStep { seq, at: SystemClock::default().now(), body }
}

async fn submit(record: &Arc<dyn State>, gates: &[Gate]) -> TaskId {
    let task = new_task(gates);
    until(|| record.submit(task.clone())).await.task.id
}

async fn claim(record: &Arc<dyn State>, task: TaskId) -> Option<Lease> {
    let claim =
        Claim { task, worker: WorkerId(SystemIds.uuid()), now: SystemClock::default().now(), thread_messages: 0 };
    until(|| record.claim(claim.clone())).await.map(|claimed| claimed.lease())
}

/// Ends a task after a step; whom that called.
async fn succeed(record: &Arc<dyn State>, lease: Lease) -> Vec<TaskId> {
    let finish = Finish {
        steps: vec![model(1)],
        outcome: Outcome::Succeeded,
        usage: Usage::default(),
        messages: Vec::new(),
        at: SystemClock::default().now(),
    };
    let transition = until(|| record.finish(lease, finish.clone())).await;
    transition.ready.iter().map(|ready| ready.task).collect()
}

async fn assert_ended(record: &Arc<dyn State>, task: TaskId) {
    let namespace = Namespace::default();
    let ended = until(|| record.task(&namespace, task)).await.expect("kept");
    assert_eq!(ended.status, TaskStatus::Succeeded);
    let steps = until(|| record.journal(&namespace, task, 0, 9)).await;
    assert_eq!(steps.iter().map(|step| step.seq).collect::<Vec<_>>(), [0, 1]);
}

/// Tries until the record answers.
async fn until<T, F: Future<Output = Result<T, StateError>>>(mut attempt: impl FnMut() -> F) -> T {
    let trying = async {
        loop {
            match attempt().await {
                Ok(answer) => return answer,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("it answers before the deadline")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_back_and_forth_keeps_what_the_schema_before_knows() {
    let scene = Scene::set().await;
    let told = scene.migrated("up");
    assert_eq!(told.matches("changed").count(), 3, "{told}");
    let record = scene.record().await;
    let before = scene.service().await;
    let gates = [Gate { key: "one".to_owned(), limit: GateLimit::Running { max: 1 } }];
    let ended = submit(&record, &[]).await;
    let lease = claim(&record, ended).await.expect("granted");
    succeed(&record, lease).await;
    let holder = submit(&record, &gates).await;
    let lease = claim(&record, holder).await.expect("granted");
    let (held_back, queued) = (submit(&record, &gates).await, submit(&record, &[]).await);
    assert!(claim(&record, held_back).await.is_none(), "there is one place");
    assert_eq!(before.stop().await, Some(0));

    let told = scene.migrated("down");
    assert!(told.starts_with(&format!("changed  {LATEST}\n")), "{told}");
    let told = scene.migrated("status");
    assert!(told.trim_end().ends_with(&format!("missing  {LATEST}")), "{told}");
    assert_eq!(told.matches("applied").count(), 2, "{told}");
    let told = scene.migrated("up");
    assert!(told.starts_with(&format!("changed  {LATEST}\n")) && !told.contains("missing"), "{told}");

    let after = scene.service().await;
    assert_ended(&record, ended).await;
    assert!(claim(&record, held_back).await.is_none(), "the place is still taken");
    assert_eq!(succeed(&record, lease).await, [held_back]);
    for task in [held_back, queued] {
        let lease = claim(&record, task).await.expect("granted");
        succeed(&record, lease).await;
    }
    for task in [ended, holder, held_back, queued] {
        assert_ended(&record, task).await;
    }
    assert_eq!(after.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_back_and_forth_beneath_a_running_service_costs_no_task() {
    let scene = Scene::set().await;
    let (service, record) = (scene.service().await, scene.record().await);
    let gates = [Gate { key: "one".to_owned(), limit: GateLimit::Running { max: 1 } }];
    let (gated, plain) = (submit(&record, &gates).await, submit(&record, &[]).await);
    let leases = [claim(&record, gated).await.expect("granted"), claim(&record, plain).await.expect("granted")];
    scene.migrated("down");
    // What the schema before knows goes on; what it does not is refused for the time being.
    let meanwhile = submit(&record, &[]).await;
    scene.migrated("up");
    for lease in leases {
        succeed(&record, lease).await;
    }
    let later = submit(&record, &gates).await;
    for task in [meanwhile, later] {
        let lease = claim(&record, task).await.expect("granted");
        succeed(&record, lease).await;
    }
    for task in [gated, plain, meanwhile, later] {
        assert_ended(&record, task).await;
    }
    service.until("/health/ready", |status, _| status == 200).await;
    assert_eq!(service.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_that_bring_it_up_at_once_take_turns() {
    let scene = Scene::set().await;
    let settings = scene.settings();
    let start = |_| {
        let mut command = command(BINARY, &settings);
        command.args(["migrate", "up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let processes: Vec<_> = (0..4).map(start).collect();
    let mut changed = 0;
    for process in processes {
        let done = process.wait_with_output().unwrap();
        let told = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!((told.matches("applied").count(), told.contains("missing")), (3, false), "{told}");
        changed += told.matches("changed").count();
    }
    assert_eq!(changed, 3, "each step is made by one of them");
    assert_eq!(scene.query("SELECT count(*) FROM schema_migrations"), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_before_runs_on_what_the_next_one_added_and_cannot_take_it_back() {
    let scene = Scene::set().await;
    let (here, record) = (scene.service().await, scene.record().await);
    let begun = submit(&record, &[]).await;
    let lease = claim(&record, begun).await.expect("granted");
    // All that migrations/postgres/README.md lets the next version do, beneath this one.
    scene.query(
        "BEGIN; ALTER TABLE tasks ADD COLUMN next_text text; ALTER TABLE tasks ADD COLUMN next_count bigint NOT NULL DEFAULT 0; \
         ALTER TABLE steps ADD COLUMN next_text text; ALTER TABLE state_values ADD COLUMN next_text text; \
         CREATE TABLE next_rows (key bigint PRIMARY KEY); CREATE INDEX tasks_next ON tasks (next_count) WHERE next_count > 0; \
         INSERT INTO schema_migrations (number, name, checksum) VALUES (4, '0004_next', 'of another version'); COMMIT",
    );
    succeed(&record, lease).await;
    let there = scene.service().await;
    for _ in 0..8 {
        let task = submit(&record, &[]).await;
        let lease = claim(&record, task).await.expect("granted");
        succeed(&record, lease).await;
        assert_ended(&record, task).await;
    }
    assert_ended(&record, begun).await;

    let told = scene.migrated("status");
    assert!(told.contains("unknown  0004") && !told.contains("missing"), "{told}");
    assert!(!scene.migrated("up").contains("changed"));
    let (code, stdout, stderr) = scene.migrate("down");
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    assert!(stderr.contains("migration 4 was made by a newer version, which must take it back"), "{stderr}");
    assert_eq!(scene.query("SELECT count(*) FROM schema_migrations"), "4");
    for service in [here, there] {
        service.until("/health/ready", |status, _| status == 200).await;
        assert_eq!(service.stop().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_says_what_it_cannot_do() {
    let mut scene = Scene::set().await;
    let told = scene.migrated("down");
    assert_eq!((told.contains("changed"), told.matches("missing").count()), (false, 3), "{told}");
    scene.migrated("up");

    // Something that the operator made depends on what would go.
    scene.query("CREATE VIEW mine AS SELECT * FROM gate_log");
    let (code, stdout, stderr) = scene.migrate("down");
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("gate_log") && stderr.contains("depend"), "{stderr}");
    assert!(!scene.migrated("status").contains("missing"), "a step is taken back as a whole or not at all");
    scene.query("DROP VIEW mine");

    let nowhere = free_address();
    let port = nowhere.split_once(':').unwrap().1.to_owned();
    let setting = scene.settings.iter_mut().find(|(name, _)| *name == "POSTGRES_PORT").unwrap();
    setting.1 = port;
    let (code, _, stderr) = scene.migrate("down");
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains(&nowhere), "{stderr}");
}
