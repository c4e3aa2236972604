//! Real PostgreSQL, RabbitMQ, NATS and Redis for tests: what a fake would get wrong is what the tests are about.
//!
//! [`postgres`], [`rabbitmq`], [`nats`] and [`redis`] give servers that all processes of a test run share: the first one
//! that asks starts a server, and a small shell process stops it when nobody has used it for twenty seconds. Tests keep
//! apart by a database, a virtual host, or a prefix of their own. Servers to be killed are in [`own`].
//!
//! The programs come from `scripts/setup`; a test on a machine without them fails and says so.

mod kind;
mod nats;
pub mod own;
mod pgbouncer;
mod place;
mod postgres;
mod process;
mod rabbitmq;
mod redis;
mod shared;

pub use kind::Kind;
pub use nats::Nats;
pub use pgbouncer::PgBouncer;
pub use postgres::{Postgres, query};
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use shared::Shared;

/// The user name and the password of every server here; they listen on loopback only.
pub const USER: &str = "testkit";

/// The PostgreSQL of this test run.
pub async fn postgres() -> Shared<Postgres> {
    Shared::get().await
}

/// The RabbitMQ of this test run.
pub async fn rabbitmq() -> Shared<RabbitMq> {
    Shared::get().await
}

/// The NATS of this test run, with JetStream.
pub async fn nats() -> Shared<Nats> {
    Shared::get().await
}

/// The Redis of this test run.
pub async fn redis() -> Shared<Redis> {
    Shared::get().await
}

/// A PgBouncer of one test in front of [`postgres`], in transaction mode and with fewer connections than a store wants.
pub async fn pgbouncer() -> own::PgBouncer {
    own::PgBouncer::start().await
}

/// Runs something that blocks where it does not keep other futures waiting.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
