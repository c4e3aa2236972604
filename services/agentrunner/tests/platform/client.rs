//! A client that keeps its promises: the same key for the same task, until it is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::history::Told;
use crate::house::Platform;
use crate::service::PATIENCE;

/// Who allows the calls.
pub(crate) const PERSON: &str = "kim";
/// Tasks of the agent `once` that may run at once.
pub(crate) const GATE: usize = 2;

/// How many tasks of each agent a run has; each `keyed` has two sub-tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) keyed: usize,
    pub(crate) once: usize,
    pub(crate) approved: usize,
    pub(crate) asker: usize,
}

impl Load {
    /// Twenty-four tasks, sub-tasks included.
    pub(crate) const USUAL: Self = Self { keyed: 5, once: 5, approved: 3, asker: 1 };
}

/// What the client has done and seen.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) load: Load,
    /// By key: what is submitted, and the task's id once that was answered.
    pub(crate) tasks: BTreeMap<String, (Value, Option<String>)>,
    /// The most tasks of the agent with a gate that were seen running at once.
    pub(crate) most: usize,
    /// Ends that were seen, which must never change.
    ended: BTreeMap<String, String>,
    /// What was found wrong while everything ran.
    pub(crate) problems: BTreeSet<String>,
    /// How requests failed that were not its own fault.
    failures: Mutex<BTreeSet<String>>,
    /// The longest time in which one was answered.
    slowest: Mutex<Duration>,
    turn: usize,
}

impl Client {
    pub(crate) fn new(http: &reqwest::Client, load: Load) -> Self {
        let mut client = Self {
            http: http.clone(),
            load: Load { keyed: 0, once: 0, approved: 0, asker: 0 },
            tasks: BTreeMap::new(),
            most: 0,
            ended: BTreeMap::new(),
            problems: BTreeSet::new(),
            failures: Mutex::default(),
            slowest: Mutex::default(),
            turn: 0,
        };
        client.add(load);
        client
    }

    /// Wants further tasks.
    pub(crate) fn add(&mut self, more: Load) {
        let had = self.load;
        let each = [
            ("keyed", had.keyed, more.keyed),
            ("once", had.once, more.once),
            ("approved", had.approved, more.approved),
            ("asker", had.asker, more.asker),
        ];
        for (agent, first, count) in each {
            for n in first..first + count {
                let body = json!({ "agent": agent, "prompt": format!("task {n}") });
                self.tasks.insert(format!("{agent}-{n}"), (body, None));
            }
        }
        self.load = Load {
            keyed: had.keyed + more.keyed,
            once: had.once + more.once,
            approved: had.approved + more.approved,
            asker: had.asker + more.asker,
        };
    }

    /// Submits what was not answered yet; false when something is still unanswered.
    pub(crate) async fn submit_all(&mut self, urls: &[String]) -> bool {
        let keys: Vec<String> =
            self.tasks.iter().filter(|(_, (_, id))| id.is_none()).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(id) = self.submit(urls, &key).await else { return false };
            self.tasks.get_mut(&key).expect("known").1 = Some(id);
        }
        true
    }

    /// Submits one; `None` when nobody knows whether it was accepted, or it was refused for now.
    async fn submit(&mut self, urls: &[String], key: &str) -> Option<String> {
        self.turn += 1;
        let url = &urls[self.turn % urls.len()];
        let body = &self.tasks[key].0;
        let request = self.http.post(format!("{url}/tasks")).header("idempotency-key", key).json(body);
        let answer = self.send(request).await?;
        let status = answer.status();
        let view = answer.json::<Value>().await.ok()?;
        // An unknown agent: their files are read while the platform starts. Too many: later. Errors of servers: again.
        if matches!(status.as_u16(), 404 | 429) || status.is_server_error() {
            return None;
        }
        if !status.is_success() {
            self.problems.insert(format!("{key}: {status} {view}"));
            return None;
        }
        view["id"].as_str().map(str::to_owned)
    }

    /// Sends a request; `None` when nobody answers.
    async fn send(&self, request: reqwest::RequestBuilder) -> Option<reqwest::Response> {
        let sent = Instant::now();
        let answer = request.send().await;
        let took = sent.elapsed();
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        *slowest = took.max(*slowest);
        drop(slowest);
        let failure = match &answer {
            Err(error) => Some(format!("{error:?}")),
            Ok(answer) if answer.status().is_server_error() => {
                let again = if answer.headers().contains_key("retry-after") { "with" } else { "without" };
                Some(format!("{} {again} Retry-After", answer.status().as_u16()))
            }
            Ok(_) => None,
        };
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).extend(failure);
        answer.ok()
    }

    /// The longest time in which a request was answered.
    pub(crate) fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In which ways requests failed that were not its own fault.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) async fn get(&self, url: String) -> Option<Value> {
        let answer = self.send(self.http.get(url)).await?;
        answer.status().is_success().then_some(())?;
        answer.json().await.ok()
    }

    /// What a person does beside submitting tasks: answers questions and allows calls, again until that is known.
    pub(crate) async fn attend(&mut self, urls: &[String]) {
        let url = &urls[0];
        let waiting = self.get(format!("{url}/tasks?status=waiting&limit=1000")).await;
        for view in waiting.as_ref().and_then(|list| list["items"].as_array()).into_iter().flatten() {
            let id = view["id"].as_str().unwrap_or_default();
            match view["agent"].as_str() {
                Some("asker") => {
                    let body = json!({ "name": "answer", "value": "yes" });
                    self.send(self.http.post(format!("{url}/tasks/{id}/signal")).json(&body)).await;
                }
                Some("approved") => self.allow(url, id).await,
                _ => {}
            }
        }
        if let Some(list) = self.get(format!("{url}/tasks?status=running&agent=once&limit=1000")).await {
            self.most = self.most.max(list["items"].as_array().map_or(0, Vec::len));
        }
    }

    async fn allow(&self, url: &str, id: &str) {
        let Some(view) = self.get(format!("{url}/tasks/{id}")).await else { return };
        let wait = &view["waiting_for"][0];
        if view["status"] == "waiting" && wait["kind"] == "approval" {
            let call = wait["call_id"].as_str().unwrap_or_default();
            let body = json!({ "decision": "approve", "digest": wait["digest"], "by": PERSON });
            self.send(self.http.post(format!("{url}/tasks/{id}/approvals/{call}")).json(&body)).await;
        }
    }

    /// Whether every task was accepted and has ended. An end that was seen must be the end for ever.
    pub(crate) async fn all_ended(&mut self, urls: &[String]) -> bool {
        let ids: Option<Vec<String>> = self.tasks.values().map(|(_, id)| id.clone()).collect();
        let Some(ids) = ids else { return false };
        let mut all = true;
        for id in ids {
            self.turn += 1;
            let url = &urls[self.turn % urls.len()];
            let Some(view) = self.get(format!("{url}/tasks/{id}")).await else { return false };
            let status = view["status"].as_str().unwrap_or("?").to_owned();
            let over = ["succeeded", "failed", "cancelled"].contains(&status.as_str());
            if let Some(before) = self.ended.get(&id).filter(|before| **before != status) {
                self.problems.insert(format!("{id}: had ended as {before} and is {status}"));
            }
            if over {
                self.ended.insert(id, status);
            }
            all &= over;
        }
        all
    }

    /// One round of everything; true when all is done.
    pub(crate) async fn round(&mut self, urls: &[String]) -> bool {
        let submitted = self.submit_all(urls).await;
        self.attend(urls).await;
        submitted && self.all_ended(urls).await
    }

    /// Works until every task has ended, for at most `patience`.
    pub(crate) async fn finish(&mut self, platform: &Platform, patience: Duration) {
        let urls = platform.urls();
        let deadline = Instant::now() + patience;
        while !self.round(&urls).await {
            if Instant::now() > deadline {
                let mut open = Vec::new();
                for (key, (_, id)) in &self.tasks {
                    let Some(id) = id else {
                        open.push(format!("{key}: not accepted"));
                        continue;
                    };
                    let view = self.get(format!("{}/tasks/{id}", urls[0])).await.unwrap_or_default();
                    if !["succeeded", "failed", "cancelled"].contains(&view["status"].as_str().unwrap_or("?")) {
                        open.push(format!("{key}: {view}"));
                    }
                }
                panic!("not everything ended:\n{}\n{}", open.join("\n"), platform.logs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn told(&self, url: &str, id: &str) -> Told {
        let view = self.get(format!("{url}/tasks/{id}")).await.expect("the task");
        let journal = self.get(format!("{url}/tasks/{id}/journal?limit=1000")).await.expect("its journal");
        let steps = journal.get("items").unwrap_or(&journal).as_array().expect("a list").clone();
        Told { view, journal: steps }
    }

    /// Asks again for what was answered: the same key gives the same task, and another body is refused.
    pub(crate) async fn ask_again(&mut self, urls: &[String]) {
        let known: Vec<(String, Value, String)> =
            self.tasks.iter().filter_map(|(key, (body, id))| Some((key.clone(), body.clone(), id.clone()?))).collect();
        for (key, mut body, id) in known {
            let deadline = Instant::now() + PATIENCE;
            let mut again = self.submit(urls, &key).await;
            while again.is_none() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(100)).await;
                again = self.submit(urls, &key).await;
            }
            if again.as_deref() != Some(&id) {
                self.problems.insert(format!("{key}: was {id}, and is {again:?} when asked again"));
            }
            body["prompt"] = json!("something else");
            let status = loop {
                let request = self.http.post(format!("{}/tasks", urls[0])).header("idempotency-key", &key).json(&body);
                let status = self.send(request).await.map(|answer| answer.status().as_u16()).unwrap_or_default();
                // Refused for now is no answer to the question.
                if (1..500).contains(&status) || Instant::now() >= deadline {
                    break status;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            if !(400..500).contains(&status) {
                self.problems.insert(format!("{key}: another body under its key was answered with {status}"));
            }
        }
    }
}
