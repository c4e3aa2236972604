//! The methods of the record, each as a call.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use domain::{
    Amount, BudgetLevel, Lease, Namespace, NewTask, Step, Task, TaskId, Thread, ThreadId, ThreadMessage, Timestamp,
    WorkerId,
};
use serde_json::Value;
use state::{
    AccountView, Artifact, AttemptFailed, Cancelled, Claim, Claimed, Due, ExpireOutcome, Finish, GateWait, LeaseBeat,
    NewStep, Page, Park, Purged, PutCondition, Renewed, Reserve, ReserveId, Reserved, Retention, Signal, State,
    StateError, StateStats, StateValue, Submitted, TaskFilter, Transition,
};

use super::RemoteState;
use crate::calls::{claim, operator, reader, signal, sweeper, values, worker};

#[async_trait]
impl State for RemoteState {
    async fn submit(&self, task: NewTask) -> Result<Submitted, StateError> {
        let id = task.id;
        let answered = self.ask(operator::Submit { task }).await?;
        let mut submitted = answered.answer;
        // An earlier try of this very call recorded it, and its answer was lost.
        submitted.created |= answered.repeated && submitted.task.id == id;
        Ok(submitted)
    }

    async fn claim(&self, claim: Claim) -> Result<Option<Claimed>, StateError> {
        self.call(claim::Claim { claim }).await
    }

    async fn renew(&self, worker: WorkerId, leases: Vec<Lease>) -> Result<Renewed, StateError> {
        self.call(worker::Renew { worker, leases }).await
    }

    async fn append(&self, lease: Lease, steps: Vec<NewStep>) -> Result<(), StateError> {
        self.call(worker::Append { lease, steps }).await
    }

    async fn park(&self, lease: Lease, park: Park) -> Result<Transition, StateError> {
        self.call(worker::Park { lease, park }).await
    }

    async fn reserve(&self, lease: Lease, steps: Vec<NewStep>, reserve: Reserve) -> Result<Reserved, StateError> {
        self.call(worker::Reserve { lease, steps, reserve }).await
    }

    async fn settle(&self, lease: Lease, id: ReserveId, spent: Amount) -> Result<(), StateError> {
        self.call(worker::Settle { lease, id, spent }).await
    }

    async fn budget(
        &self,
        namespace: &Namespace,
        task: TaskId,
        now: Timestamp,
    ) -> Result<Vec<BudgetLevel>, StateError> {
        self.call(reader::Budget { namespace: namespace.clone(), task, now }).await
    }

    async fn accounts(&self, namespace: &Namespace, now: Timestamp) -> Result<Vec<AccountView>, StateError> {
        self.call(reader::Accounts { namespace: namespace.clone(), now }).await
    }

    async fn gate(&self, namespace: &Namespace, task: TaskId, now: Timestamp) -> Result<Option<GateWait>, StateError> {
        self.call(reader::Gate { namespace: namespace.clone(), task, now }).await
    }

    async fn put_artifact(&self, lease: Lease, artifact: Artifact) -> Result<(), StateError> {
        self.call(worker::PutArtifact { lease, artifact }).await
    }

    async fn artifacts(&self, namespace: &Namespace, task: TaskId) -> Result<Vec<Artifact>, StateError> {
        self.call(reader::Artifacts { namespace: namespace.clone(), task }).await
    }

    async fn referenced(&self, digests: Vec<[u8; 32]>) -> Result<Vec<bool>, StateError> {
        self.call(reader::Referenced { digests }).await
    }

    async fn finish(&self, lease: Lease, finish: Finish) -> Result<Transition, StateError> {
        self.call(worker::Finish { lease, finish }).await
    }

    async fn fail_attempt(&self, lease: Lease, failed: AttemptFailed) -> Result<Transition, StateError> {
        self.call(worker::FailAttempt { lease, failed }).await
    }

    async fn release(&self, lease: Lease) -> Result<Transition, StateError> {
        self.call(worker::Release { lease }).await
    }

    async fn retry(&self, namespace: &Namespace, task: TaskId, keep_journal: bool) -> Result<Transition, StateError> {
        self.call(operator::Retry { namespace: namespace.clone(), task, keep_journal }).await
    }

    async fn cancel(&self, namespace: &Namespace, task: TaskId) -> Result<Cancelled, StateError> {
        self.call(operator::Cancel { namespace: namespace.clone(), task }).await
    }

    async fn signal(&self, namespace: &Namespace, task: TaskId, signal: Signal) -> Result<Transition, StateError> {
        self.call(signal::Signal { namespace: namespace.clone(), task, signal }).await
    }

    async fn due(&self, now: Timestamp, reannounce: Duration, limit: u32) -> Result<Due, StateError> {
        self.call(sweeper::Due { now, reannounce, limit }).await
    }

    async fn leases(&self) -> Result<Vec<LeaseBeat>, StateError> {
        self.call(sweeper::Leases {}).await
    }

    async fn reap(&self, leases: Vec<LeaseBeat>, max_losses: u32, now: Timestamp) -> Result<Transition, StateError> {
        self.call(sweeper::Reap { leases, max_losses, now }).await
    }

    async fn expire(&self, now: Timestamp, limit: u32) -> Result<ExpireOutcome, StateError> {
        self.call(sweeper::Expire { now, limit }).await
    }

    async fn purge(&self, retention: Retention, now: Timestamp, limit: u32) -> Result<Purged, StateError> {
        self.call(sweeper::Purge { retention, now, limit }).await
    }

    async fn task(&self, namespace: &Namespace, task: TaskId) -> Result<Option<Task>, StateError> {
        self.call(reader::Task { namespace: namespace.clone(), task }).await
    }

    async fn answer(&self, namespace: &Namespace, task: TaskId) -> Result<Option<Value>, StateError> {
        let answers = self.call(reader::Answer { namespace: namespace.clone(), task }).await?;
        Ok(answers.into_iter().next())
    }

    async fn task_with_answer(
        &self,
        namespace: &Namespace,
        task: TaskId,
    ) -> Result<Option<(Task, Option<Value>)>, StateError> {
        let found = self.call(reader::TaskWithAnswer { namespace: namespace.clone(), task }).await?;
        Ok(found.map(|(task, answer)| (task, answer.into_iter().next())))
    }

    async fn tasks(
        &self,
        namespace: &Namespace,
        filter: TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<Task>, StateError> {
        self.call(reader::Tasks { namespace: namespace.clone(), filter, after, limit }).await
    }

    async fn journal(
        &self,
        namespace: &Namespace,
        task: TaskId,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Step>, StateError> {
        self.call(reader::Journal { namespace: namespace.clone(), task, from, limit }).await
    }

    async fn threads(
        &self,
        namespace: &Namespace,
        after: Option<ThreadId>,
        limit: u32,
    ) -> Result<Page<Thread>, StateError> {
        self.call(reader::Threads { namespace: namespace.clone(), after, limit }).await
    }

    async fn thread_messages(
        &self,
        namespace: &Namespace,
        thread: ThreadId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<ThreadMessage>>, StateError> {
        self.call(reader::ThreadMessages { namespace: namespace.clone(), thread, after, limit }).await
    }

    async fn value(
        &self,
        namespace: &Namespace,
        scope: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<StateValue>, StateError> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        self.call(values::Value { namespace: namespace.clone(), scope, key, now }).await
    }

    async fn put_value(
        &self,
        namespace: &Namespace,
        scope: &str,
        key: &str,
        value: Value,
        expires_at: Option<Timestamp>,
        condition: PutCondition,
        now: Timestamp,
    ) -> Result<StateValue, StateError> {
        let (namespace, scope, key) = (namespace.clone(), scope.to_owned(), key.to_owned());
        self.call(values::PutValue { namespace, scope, key, value, expires_at, condition, now }).await
    }

    async fn delete_value(&self, namespace: &Namespace, scope: &str, key: &str) -> Result<bool, StateError> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        self.call(values::DeleteValue { namespace: namespace.clone(), scope, key }).await
    }

    async fn values(
        &self,
        namespace: &Namespace,
        scope: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Page<StateValue>, StateError> {
        let (scope, after) = (scope.to_owned(), after.map(str::to_owned));
        self.call(values::Values { namespace: namespace.clone(), scope, after, limit, now }).await
    }

    async fn stats(&self, namespace: Option<&Namespace>) -> Result<StateStats, StateError> {
        self.call(reader::Stats { namespace: namespace.cloned() }).await
    }

    async fn ping(&self) -> Result<(), StateError> {
        self.call(operator::Ping {}).await
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
