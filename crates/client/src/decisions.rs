//! What people decide about tasks, what tasks cost, and the files that they keep.

use domain::TaskId;
use wire::{AccountView, ApprovalView, ArtifactView, BudgetView, DecideApproval, DecideBudget, Page, TaskView};

use crate::http::{page_query, path_segment, successful, transport};
use crate::{Client, ClientError};

impl Client {
    /// Lists what people were asked about a task's calls, oldest first.
    pub async fn approvals(&self, task: TaskId) -> Result<Vec<ApprovalView>, ClientError> {
        self.json(self.get(&format!("tasks/{task}/approvals"))).await
    }

    /// Lists the open questions about calls of all tasks; a page may be empty and have a next one.
    pub async fn open_approvals(&self, cursor: Option<&str>, limit: u32) -> Result<Page<ApprovalView>, ClientError> {
        self.json(self.get("approvals").query(&page_query(cursor, limit))).await
    }

    /// Allows a call, or denies it; the same decision again changes nothing.
    pub async fn decide(
        &self,
        task: TaskId,
        call_id: &str,
        decision: &DecideApproval,
    ) -> Result<ApprovalView, ClientError> {
        let path = format!("tasks/{task}/approvals/{}", path_segment(call_id));
        self.json(self.post(&path).json(decision)).await
    }

    /// Shows how the accounts stand that a task's calls are paid from.
    pub async fn budget(&self, task: TaskId) -> Result<Vec<BudgetView>, ClientError> {
        self.json(self.get(&format!("tasks/{task}/budget"))).await
    }

    /// Raises a budget that does not allow a task's next call, or stops the task; the same decision again changes nothing.
    pub async fn decide_budget(&self, task: TaskId, decision: &DecideBudget) -> Result<TaskView, ClientError> {
        self.json(self.post(&format!("tasks/{task}/budget")).json(decision)).await
    }

    /// Lists the accounts of agents and of the namespace in their current windows.
    pub async fn budgets(&self) -> Result<Vec<AccountView>, ClientError> {
        self.json(self.get("budgets")).await
    }

    /// Lists the files that are kept with a task, by name.
    pub async fn artifacts(&self, task: TaskId) -> Result<Vec<ArtifactView>, ClientError> {
        self.json(self.get(&format!("tasks/{task}/artifacts"))).await
    }

    /// Downloads a file that is kept with a task.
    pub async fn artifact(&self, task: TaskId, name: &str) -> Result<Vec<u8>, ClientError> {
        let path: Vec<String> = name.split('/').map(path_segment).collect();
        let get = self.get(&format!("tasks/{task}/artifacts/{}", path.join("/")));
        let response = successful(self.send(get).await?).await?;
        Ok(response.bytes().await.map_err(transport)?.to_vec())
    }
}
