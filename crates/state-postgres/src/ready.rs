//! Whether the database may be used: a task connects, looks at the server's settings and at the schema, and goes on trying
//! until all is in order.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use state::StateError;
use tokio::sync::watch;

use crate::fault::{Fault, Written};
use crate::migrate;
use crate::options::{Durability, PostgresOptions};
use crate::pool::Pools;
use crate::retry::patience;

/// What is known of the database.
#[derive(Debug, Clone)]
enum Status {
    /// It is being looked at; what was found last.
    Looking(StateError),
    /// It may be used.
    Ready,
    /// The store was closed.
    Closed,
}

/// Shared by the callers and the lanes.
#[derive(Debug)]
pub(crate) struct Readiness {
    status: watch::Sender<Status>,
    patience: Duration,
}

impl Readiness {
    /// Starts to look.
    pub(crate) fn start(options: PostgresOptions, pools: Arc<Pools>) -> Arc<Self> {
        let nothing = StateError::Unavailable(format!("PostgreSQL at {} has not answered yet", options.place()));
        let (status, _) = watch::channel(Status::Looking(nothing));
        let ready = Arc::new(Self { status, patience: options.acquire_timeout });
        let looking = Arc::downgrade(&ready);
        tokio::spawn(async move {
            for pause in patience() {
                let found = prepare(&options).await;
                let Some(ready) = looking.upgrade() else { return };
                if ready.found(found, &options.place()) {
                    pools.report();
                    return;
                }
                drop(ready);
                tokio::time::sleep(pause).await;
            }
        });
        ready
    }

    /// Takes what was found; true when there is nothing left to look for.
    fn found(&self, found: Result<(), StateError>, place: &str) -> bool {
        let next = match found {
            Ok(()) => Status::Ready,
            Err(error) => Status::Looking(error),
        };
        let mut done = true;
        self.status.send_modify(|status| match (&*status, &next) {
            (Status::Closed, _) => {}
            (_, Status::Ready) => {
                tracing::info!(place, "the database is ready");
                *status = next;
            }
            (Status::Looking(before), Status::Looking(now)) => {
                if before.to_string() != now.to_string() {
                    tracing::warn!(error = %now, "the database cannot be used yet");
                }
                done = false;
                *status = next;
            }
            _ => {}
        });
        done
    }

    /// Refuses work unless the database may be used.
    pub(crate) fn check(&self) -> Result<(), StateError> {
        match &*self.status.borrow() {
            Status::Ready => Ok(()),
            Status::Looking(error) => Err(error.clone()),
            Status::Closed => Err(StateError::Closed),
        }
    }

    /// The same, after a little patience with a database that is being looked at.
    pub(crate) async fn wait(&self) -> Result<(), StateError> {
        if let Ok(()) = self.check() {
            return Ok(());
        }
        let mut status = self.status.subscribe();
        let settled = status.wait_for(|status| !matches!(status, Status::Looking(_)));
        // However it ends, the status says what to answer.
        let _ = tokio::time::timeout(self.patience, settled).await;
        self.check()
    }

    /// Refuses all further work.
    pub(crate) fn close(&self) {
        self.status.send_replace(Status::Closed);
    }
}

/// Looks at the server and brings the schema up to date.
async fn prepare(options: &PostgresOptions) -> Result<(), StateError> {
    let place = options.place();
    let unavailable = |why: String| StateError::Unavailable(format!("PostgreSQL at {place}: {why}"));
    let connect = crate::pool::connect_options(options);
    let connected = tokio::time::timeout(options.acquire_timeout, PgConnection::connect_with(&connect)).await;
    let mut conn = match connected {
        Ok(Ok(conn)) => conn,
        Ok(Err(error)) => return Err(unavailable(error.to_string())),
        Err(_) => return Err(unavailable("it does not answer".to_owned())),
    };
    if options.durability == Durability::Strict {
        durable(&mut conn).await.map_err(|fault| naming(fault, &place))?;
    }
    let prepared =
        if options.migrate { migrate::bring_up(&mut conn).await } else { migrate::must_be_current(&mut conn).await };
    prepared.map_err(|fault| naming(fault, &place))?;
    // The server forgets the connection either way.
    let _ = conn.close().await;
    Ok(())
}

fn naming(fault: Fault, place: &str) -> StateError {
    match fault.into_error() {
        StateError::Unavailable(why) => StateError::Unavailable(format!("PostgreSQL at {place}: {why}")),
        other => other,
    }
}

/// Refuses a server that may lose what it has confirmed.
async fn durable(conn: &mut PgConnection) -> Written<()> {
    let sql = "SELECT current_setting('fsync'), current_setting('full_page_writes'), \
         current_setting('synchronous_commit')";
    conn.execute("BEGIN READ ONLY").await?;
    let row = migrate::once(sql).fetch_one(&mut *conn).await?;
    conn.execute("COMMIT").await?;
    for (index, name) in ["fsync", "full_page_writes", "synchronous_commit"].into_iter().enumerate() {
        if row.try_get::<String, _>(index)? == "off" {
            return Err(StateError::Unavailable(format!(
                "{name} is off, so a crash of the server may lose what was confirmed; switch it on, or accept the loss \
                 with relaxed durability"
            ))
            .into());
        }
    }
    Ok(())
}
