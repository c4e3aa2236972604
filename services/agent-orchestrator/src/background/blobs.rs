//! Deletes blobs that no task's file refers to: what a crash left between its bytes and the record, and what retention
//! deleted from the record.

use std::time::SystemTime;

use blob::{BlobError, Digest};
use metrics::counter;
use state::StateError;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Rounds, sleep};
use crate::{Config, Deps};

/// How many blobs are looked at together.
const PORTION: usize = 500;

/// Why a round could not be ended.
#[derive(Debug, thiserror::Error)]
enum CleanError {
    #[error("the blob store refused")]
    Blobs(#[from] BlobError),
    #[error("the record could not say what is referred to")]
    State(#[from] StateError),
}

pub(super) async fn run(config: Config, deps: Deps, stop: CancellationToken) {
    let interval = config.orchestrator_blob_interval.0;
    let mut rounds = Rounds::default();
    loop {
        match round(&config, &deps, &stop).await {
            Ok(0) => rounds.went_well(),
            Ok(deleted) => {
                rounds.went_well();
                info!(blobs = deleted, "deleted blobs that nothing refers to");
            }
            Err(error) => rounds.failed("blobs", &error),
        }
        if !sleep(interval, &stop).await {
            return;
        }
    }
}

/// Looks at all blobs that are old enough. Young ones may belong to a file that is about to be recorded.
async fn round(config: &Config, deps: &Deps, stop: &CancellationToken) -> Result<u64, CleanError> {
    let moment = SystemTime::from(deps.clock.now() - config.orchestrator_blob_grace.0);
    let mut deleted = 0;
    let mut after: Option<Digest> = None;
    while !stop.is_cancelled() {
        let old = deps.blobs.older_than(moment, after.as_ref(), PORTION).await?;
        let Some(last) = old.last() else { break };
        after = Some(*last);
        let referenced = deps.state.referenced(old.clone()).await?;
        for (digest, _) in old.iter().zip(referenced).filter(|(_, referenced)| !referenced) {
            if deps.blobs.clear(digest, moment).await? {
                deleted += 1;
                counter!("blobs_deleted_total").increment(1);
            }
        }
    }
    Ok(deleted)
}
