//! The ports of a service that is a process of its own: settings of each backend, and what speaks with it.
//!
//! | backend | what it holds | who speaks with it |
//! |---|---|---|
//! | PostgreSQL | the record | state-manager |
//! | NATS | calls of the record, events | everybody |
//! | RabbitMQ | announcements of ready tasks | orchestrator, pools |
//! | Redis | what may be forgotten: rates of models | pools |

#[cfg(feature = "files")]
mod files;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "record")]
mod postgres;
#[cfg(feature = "queue")]
mod rabbitmq;
#[cfg(feature = "cache")]
mod redis;
#[cfg(feature = "remote")]
mod remote;
mod settings;
#[cfg(feature = "tools")]
mod tools;

#[cfg(feature = "nats")]
pub use bus_nats::NatsError;
#[cfg(feature = "files")]
pub use files::{FileSettings, files};
#[cfg(feature = "nats")]
pub use nats::{Messages, NatsSettings, messages};
#[cfg(feature = "record")]
pub use postgres::{Durability, PostgresSettings, migrate, record};
#[cfg(feature = "queue")]
pub use rabbitmq::{Queue, RabbitmqSettings, queue};
#[cfg(feature = "cache")]
pub use redis::{Forgettable, RedisSettings, cache};
#[cfg(feature = "remote")]
pub use remote::{remote_record, serve_record};
pub use settings::LimitSettings;
#[cfg(feature = "tools")]
pub use settings::ToolSettings;
#[cfg(feature = "tools")]
pub use tools::tools;
