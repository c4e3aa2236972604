//! The provider `local`: a thread a model, which loads it when it is first asked and answers one conversation at a time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use llm::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, LlmError};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use crate::cache::Cache;
use crate::engine::{Engine, Unfinished};
use crate::pull;

/// No answer is waited for longer.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// How the provider behaves.
#[derive(Debug, Clone, Copy)]
pub struct LocalOptions {
    /// Where randomness starts; the n-th call of a process draws from `seed + n`.
    pub seed: u64,
    /// A model that nobody asked for so long gives its memory back.
    pub unload_after: Duration,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self { seed: 42, unload_after: Duration::from_mins(10) }
    }
}

/// The models of this process, by the names of their files.
///
/// A call that is dropped, or runs out of time, stops its generation at the next token. Calls for one model wait for
/// each other, in order, and their waiting counts towards their time-out.
pub struct Local {
    cache: Cache,
    options: LocalOptions,
    calls: AtomicU64,
    threads: Mutex<HashMap<String, Sender<Job>>>,
}

struct Job {
    request: ChatRequest,
    seed: u64,
    reports: UnboundedSender<Report>,
}

enum Report {
    Said(String),
    Done(Result<ChatAnswer, LlmError>),
}

impl Local {
    /// Makes the provider; nothing is loaded before the first call.
    pub fn new(cache: Cache, options: LocalOptions) -> Self {
        Self { cache, options, calls: AtomicU64::new(0), threads: Mutex::default() }
    }

    /// Hands a job to the model's thread, starting the thread if there is none or the last one broke down.
    fn submit(&self, mut job: Job) -> std::io::Result<()> {
        let model = job.request.model.clone();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = threads.get(&model) {
            match thread.send(job) {
                Ok(()) => return Ok(()),
                Err(SendError(returned)) => job = returned,
            }
        }
        let (sender, jobs) = channel();
        let (cache, unload_after, name) = (self.cache.clone(), self.options.unload_after, model.clone());
        std::thread::Builder::new()
            .name("local-model".to_owned())
            .spawn(move || work(&name, &cache, unload_after, &jobs))?;
        // The receiver lives as long as the new thread, so this cannot fail before the thread has had its first job.
        let _ = sender.send(job);
        threads.insert(model, sender);
        Ok(())
    }
}

#[async_trait]
impl ChatModel for Local {
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        let model = full_name(&request.model);
        let gone = |reason: String| LlmError::Unavailable { model: model.clone(), reason, retry_after: None };
        let end = Instant::now() + request.timeout.min(LONGEST_WAIT);
        let seed = self.options.seed.wrapping_add(self.calls.fetch_add(1, Ordering::Relaxed));
        let (reports, mut inbox) = unbounded_channel();
        self.submit(Job { request: request.clone(), seed, reports })
            .map_err(|error| gone(format!("no thread could be started for it: {error}")))?;
        let (mut until, mut allowed, mut speaking) = (end, request.timeout, false);
        loop {
            match timeout_at(until, inbox.recv()).await {
                Ok(Some(Report::Said(text))) => {
                    if !text.is_empty() {
                        on_delta(&text);
                    }
                    // Before the first word the model reads the prompt, which is no silence.
                    speaking |= !text.is_empty();
                    let silence = Instant::now() + request.idle_timeout.min(LONGEST_WAIT);
                    if speaking {
                        (until, allowed) =
                            if silence < end { (silence, request.idle_timeout) } else { (end, request.timeout) };
                    }
                }
                Ok(Some(Report::Done(result))) => return result,
                Ok(None) => return Err(gone("its computation broke down; the next call loads it anew".to_owned())),
                Err(_) => {
                    return Err(LlmError::Timeout {
                        model,
                        millis: u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX),
                    });
                }
            }
        }
    }
}

fn full_name(model: &str) -> String {
    format!("local/{model}")
}

/// The life of a model's thread: it ends when the provider is dropped.
fn work(model: &str, cache: &Cache, unload_after: Duration, jobs: &Receiver<Job>) {
    let mut loaded: Option<Engine> = None;
    loop {
        let job = match jobs.recv_timeout(unload_after) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                loaded = None;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if job.reports.is_closed() {
            continue;
        }
        let engine = match loaded.take().map_or_else(|| load(model, cache), Ok) {
            Ok(engine) => loaded.insert(engine),
            Err(error) => {
                let _ = job.reports.send(Report::Done(Err(error)));
                continue;
            }
        };
        let hear = |text| job.reports.send(Report::Said(text)).is_ok();
        let result = match engine.answer(&job.request, job.seed, &hear) {
            Ok(answer) => Ok(answer),
            Err(Unfinished::Failed(error)) => Err(error),
            Err(Unfinished::Abandoned) => continue,
        };
        let _ = job.reports.send(Report::Done(result));
    }
}

fn load(model: &str, cache: &Cache) -> Result<Engine, LlmError> {
    let full = full_name(model);
    let path = cache.find(model).ok_or_else(|| LlmError::Unknown {
        model: full.clone(),
        reason: format!("there is no {model}.gguf in {}; get it with `agentrunner models pull`", cache.dir().display()),
    })?;
    check(model, &path, cache).map_err(|reason| LlmError::Refused { model: full.clone(), reason })?;
    let engine = Engine::load(&full, &path)?;
    tracing::info!(model = full, "local model loaded");
    Ok(engine)
}

/// The default model's file must be exactly the one that was published.
fn check(model: &str, path: &Path, cache: &Cache) -> Result<(), String> {
    if model != crate::DEFAULT_MODEL || path != cache.file(model) {
        return Ok(());
    }
    let found = pull::sha256_of(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if found == pull::DEFAULT_SHA256 {
        return Ok(());
    }
    Err(format!("{} is damaged; get it again with `agentrunner models pull`", path.display()))
}
