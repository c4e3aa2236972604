//! The files of tasks, for whoever downloads them.

use blob::BlobError;
use bytes::Bytes;
use common::problem::{self, Kind, Problem};
use domain::{Namespace, TaskId};
use state::{Artifact, StateError};

use super::tasks::{TaskError, Tasks};

/// Why a file cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The task has no such file.
    #[error("task {task} has no file of this name")]
    Unknown {
        /// The task.
        task: TaskId,
    },
    /// Its bytes cannot be read, or are no longer what they were.
    #[error("the file's bytes cannot be read")]
    Blob(#[from] BlobError),
    /// The record names it, and its bytes are gone.
    #[error("the file's bytes are gone")]
    Gone,
    /// The task cannot be read.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl From<StateError> for ArtifactError {
    fn from(error: StateError) -> Self {
        Self::Task(error.into())
    }
}

impl From<ArtifactError> for Problem {
    fn from(error: ArtifactError) -> Self {
        let text = error.to_string();
        match error {
            ArtifactError::Unknown { .. } => Problem::new(Kind::UnknownArtifact).detail(text),
            ArtifactError::Blob(BlobError::Unavailable(reason)) => {
                tracing::warn!(reason, "the blob store is unavailable");
                Problem::new(Kind::Unavailable).detail(text).retry_after(std::time::Duration::from_secs(1))
            }
            ArtifactError::Blob(BlobError::Damaged(digest)) => {
                tracing::error!(digest, "a blob is damaged");
                Problem::new(Kind::Internal).detail("the file's bytes are damaged")
            }
            ArtifactError::Gone => {
                tracing::error!("a file's blob is gone");
                Problem::new(Kind::Internal).detail(text)
            }
            ArtifactError::Task(error) => error.into(),
        }
    }
}

impl utoipa::IntoResponses for ArtifactError {
    fn responses() -> problem::Responses {
        problem::responses(&[
            Kind::InvalidRequest,
            Kind::UnknownTask,
            Kind::UnknownArtifact,
            Kind::Internal,
            Kind::Unavailable,
        ])
    }
}

impl Tasks {
    /// Lists a task's files, by name.
    pub async fn artifacts(&self, namespace: &Namespace, task: TaskId) -> Result<Vec<Artifact>, ArtifactError> {
        let artifacts = self.inner.state.artifacts(namespace, task).await?;
        if artifacts.is_empty() {
            self.find(namespace, task).await?;
        }
        Ok(artifacts)
    }

    /// Finds one of a task's files.
    pub async fn artifact(&self, namespace: &Namespace, task: TaskId, name: &str) -> Result<Artifact, ArtifactError> {
        let artifacts = self.artifacts(namespace, task).await?;
        artifacts.into_iter().find(|artifact| artifact.name == name).ok_or(ArtifactError::Unknown { task })
    }

    /// Reads a file's bytes.
    pub async fn bytes_of(&self, artifact: &Artifact) -> Result<Bytes, ArtifactError> {
        self.inner.blobs.get(&artifact.digest).await?.ok_or(ArtifactError::Gone)
    }
}
