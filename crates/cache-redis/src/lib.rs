//! What may be forgotten, in Redis: shared by all processes, and cold after an outage.
//!
//! Nobody waits for a Redis that is away: a question has a quarter of a second, and after a few failures in a row all are
//! answered `Unavailable` at once for a second, until one that is let through succeeds.

mod circuit;
mod options;
mod script;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache::{Cache, CacheError, Key, Limit, MAX_VALUE, Tokens};
use deadpool_redis::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, cmd};
use deadpool_redis::{Config, Pool, PoolConfig, PoolError, Runtime};
use tokio::time::Instant;

pub use options::RedisOptions;

use circuit::Circuit;
use script::Script;

/// The longest time to live: Redis has limits for it, too.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What may be forgotten, in Redis.
pub struct RedisCache {
    pool: Pool,
    options: RedisOptions,
    circuit: Circuit,
    take: Script,
    settle: Script,
}

/// Why Redis did not answer a question.
enum Failure {
    /// What is under the key is of another kind.
    WrongType,
    /// Redis does not know the script, as after each of its starts.
    NoScript,
    /// It refused, for a reason that other questions need not meet: it is full, for example.
    Refused(String),
    /// It cannot be reached or does not answer.
    Away(String),
}

impl RedisCache {
    /// Makes the cache; connections are made when they are needed, and again when they are lost. Fails only on options
    /// that can never work.
    pub fn new(options: RedisOptions) -> Result<Self, CacheError> {
        let mut config = Config::from_connection_info(options.connection());
        config.pool = Some(PoolConfig::new(options.connections.max(1)));
        let pool = config
            .create_pool(Some(Runtime::Tokio1))
            .map_err(|error| CacheError::Unavailable(format!("options that cannot work: {error}")))?;
        let (take, settle) = (Script::new(script::TAKE), Script::new(script::SETTLE));
        Ok(Self { pool, options, circuit: Circuit::default(), take, settle })
    }

    /// Asks Redis whether it answers; the error says why not. Does not wait for the circuit, and closes it on success.
    pub async fn ready(&self) -> Result<(), CacheError> {
        let answer = self.query::<String>(&cmd("PING")).await;
        self.judge(&answer);
        answer.map(|_| ()).map_err(unavailable)
    }

    fn key(&self, key: &Key) -> String {
        format!("{}{key}", self.options.prefix)
    }

    /// Asks one question, unless Redis is left alone.
    async fn ask<T: FromRedisValue>(&self, operation: &'static str, question: &Cmd) -> Result<T, Failure> {
        if let Err(reason) = self.circuit.admit() {
            count(operation, "skipped");
            return Err(Failure::Away(reason));
        }
        let began = Instant::now();
        let answer = self.query(question).await;
        self.judge(&answer);
        metrics::histogram!("cache_request_seconds", "operation" => operation).record(began.elapsed().as_secs_f64());
        count(operation, if answer.is_ok() { "ok" } else { "failed" });
        answer
    }

    fn judge<T>(&self, answer: &Result<T, Failure>) {
        match answer {
            Err(Failure::Away(reason)) => self.circuit.failed(reason),
            _ => self.circuit.succeeded(),
        }
    }

    async fn query<T: FromRedisValue>(&self, question: &Cmd) -> Result<T, Failure> {
        let asked = async {
            let mut connection = self.pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => failure(&error),
                other => Failure::Away(other.to_string()),
            })?;
            question.query_async(&mut connection).await.map_err(|error| failure(&error))
        };
        let late = |_| Failure::Away(format!("no answer within {} ms", self.options.timeout.as_millis()));
        tokio::time::timeout(self.options.timeout, asked).await.map_err(late)?
    }

    /// Runs a script on one key.
    async fn run(
        &self,
        operation: &'static str,
        script: &Script,
        key: &Key,
        numbers: &[f64],
    ) -> Result<i64, CacheError> {
        let key = self.key(key);
        let mut answer = self.ask(operation, &script.by_name(&key, numbers)).await;
        if matches!(answer, Err(Failure::NoScript)) {
            answer = self.ask(operation, &script.by_text(&key, numbers)).await;
        }
        answer.map_err(unavailable)
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, CacheError> {
        match self.ask::<Option<Vec<u8>>>("get", cmd("GET").arg(self.key(key))).await {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(Failure::WrongType) => {
                metrics::counter!("cache_wrong_type_total").increment(1);
                self.delete(key).await?;
                Ok(None)
            }
            Err(failure) => Err(unavailable(failure)),
        }
    }

    async fn put(&self, key: &Key, value: Bytes, time_to_live: Duration) -> Result<(), CacheError> {
        if value.len() > MAX_VALUE {
            return Err(CacheError::TooLarge { what: "value", size: value.len(), limit: MAX_VALUE });
        }
        let mut set = cmd("SET");
        set.arg(self.key(key)).arg(&value[..]).arg("PX").arg(millis(time_to_live));
        self.ask("put", &set).await.map_err(unavailable)
    }

    async fn delete(&self, key: &Key) -> Result<bool, CacheError> {
        self.ask("delete", cmd("DEL").arg(self.key(key))).await.map_err(unavailable)
    }

    async fn take_tokens(&self, key: &Key, limit: Limit, amount: u64) -> Result<Tokens, CacheError> {
        let numbers = [limit.capacity as f64, limit.per_second, amount as f64];
        match self.run("take_tokens", &self.take, key, &numbers).await? {
            ..=0 => Ok(Tokens::Granted),
            micros => Ok(Tokens::Wait(Duration::from_micros(micros as u64))),
        }
    }

    async fn settle_tokens(&self, key: &Key, limit: Limit, taken: u64, used: u64) -> Result<(), CacheError> {
        let numbers = [limit.capacity as f64, limit.per_second, taken as f64, used as f64];
        self.run("settle_tokens", &self.settle, key, &numbers).await.map(|_| ())
    }

    async fn first_time(&self, key: &Key, window: Duration) -> Result<bool, CacheError> {
        let mut set = cmd("SET");
        set.arg(self.key(key)).arg("1").arg("NX").arg("PX").arg(millis(window));
        let set: Option<String> = self.ask("first_time", &set).await.map_err(unavailable)?;
        Ok(set.is_some())
    }
}

fn millis(time: Duration) -> u64 {
    time.min(LONGEST).as_millis().max(1) as u64
}

fn count(operation: &'static str, outcome: &'static str) {
    metrics::counter!("cache_requests_total", "operation" => operation, "outcome" => outcome).increment(1);
}

fn failure(error: &RedisError) -> Failure {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => Failure::NoScript,
        // It is not ready for anything.
        ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
            Failure::Away(error.to_string())
        }
        _ if error.code() == Some("WRONGTYPE") => Failure::WrongType,
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            Failure::Refused(error.to_string())
        }
        _ => Failure::Away(error.to_string()),
    }
}

fn unavailable(failure: Failure) -> CacheError {
    CacheError::Unavailable(match failure {
        Failure::WrongType => "something else is kept under that key".to_owned(),
        Failure::NoScript => "a script is unknown although it was sent".to_owned(),
        Failure::Refused(reason) | Failure::Away(reason) => reason,
    })
}
