//! Which servers a platform uses, and which part of them is its own.

use std::collections::BTreeMap;

use testkit::servers::{self, own};

/// Ports and names; what a backend's proxy or restart changes is none of them.
#[derive(Debug, Clone)]
pub(crate) struct Backends {
    pub(crate) postgres: u16,
    pub(crate) database: String,
    pub(crate) rabbitmq: u16,
    pub(crate) vhost: String,
    pub(crate) nats: u16,
    pub(crate) redis: u16,
    pub(crate) prefix: String,
}

impl Backends {
    /// A part of the servers that all tests share.
    pub(crate) async fn shared() -> Self {
        let (postgres, rabbitmq) = (servers::postgres().await, servers::rabbitmq().await);
        let (nats, redis) = (servers::nats().await, servers::redis().await);
        let database = postgres.fresh_database().await;
        let vhost = rabbitmq.fresh_vhost().await;
        Self {
            postgres: postgres.port(),
            database: last(&database),
            rabbitmq: rabbitmq.port(),
            vhost: last(&vhost),
            nats: nats.port(),
            redis: redis.port(),
            prefix: last(&database).replace('_', "-"),
        }
    }

    /// Where the record can be read from the outside, whatever happens between the services and it.
    pub(crate) fn record_url(&self, port: u16) -> String {
        format!("postgres://{user}:{user}@127.0.0.1:{port}/{}", self.database, user = servers::USER)
    }

    /// Where the broker can be reached by somebody who is no service.
    pub(crate) fn broker_url(&self) -> String {
        format!("amqp://{user}:{user}@127.0.0.1:{}/{}", self.rabbitmq, self.vhost, user = servers::USER)
    }

    /// As the services are told.
    pub(crate) fn settings(&self) -> BTreeMap<&'static str, String> {
        let user = || servers::USER.to_owned();
        let host = || "127.0.0.1".to_owned();
        BTreeMap::from([
            ("POSTGRES_HOST", host()),
            ("POSTGRES_PORT", self.postgres.to_string()),
            ("POSTGRES_DB", self.database.clone()),
            ("POSTGRES_USER", user()),
            ("POSTGRES_PASSWORD", user()),
            ("RABBITMQ_HOST", host()),
            ("RABBITMQ_PORT", self.rabbitmq.to_string()),
            ("RABBITMQ_VHOST", self.vhost.clone()),
            ("RABBITMQ_USER", user()),
            ("RABBITMQ_PASSWORD", user()),
            ("NATS_URL", format!("nats://127.0.0.1:{}", self.nats)),
            ("NATS_USER", user()),
            ("NATS_PASSWORD", user()),
            ("NATS_PREFIX", self.prefix.clone()),
            ("REDIS_HOST", host()),
            ("REDIS_PORT", self.redis.to_string()),
            ("REDIS_PASSWORD", user()),
        ])
    }
}

fn last(url: &str) -> String {
    url.rsplit('/').next().expect("a part").to_owned()
}

/// Servers of one test alone, to be broken.
pub(crate) struct OwnServers {
    pub(crate) postgres: own::Postgres,
    pub(crate) rabbitmq: own::RabbitMq,
    pub(crate) nats: own::Nats,
    pub(crate) redis: own::Redis,
}

impl OwnServers {
    pub(crate) async fn start() -> (Self, Backends) {
        let (postgres, rabbitmq, nats, redis) =
            tokio::join!(own::Postgres::start(), own::RabbitMq::start(), own::Nats::start(), own::Redis::start());
        let own = Self { postgres, rabbitmq, nats, redis };
        let backends = Backends {
            postgres: own.postgres.port(),
            database: last(&own.postgres.fresh_database().await),
            rabbitmq: own.rabbitmq.port(),
            vhost: last(&own.rabbitmq.fresh_vhost().await),
            nats: own.nats.port(),
            redis: own.redis.port(),
            prefix: "platform".to_owned(),
        };
        (own, backends)
    }
}
