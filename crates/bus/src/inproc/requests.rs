//! Requests and answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use crate::{BusError, RequestHandler, ServeGuard};

/// Who serves what.
#[derive(Default)]
pub(super) struct Subjects {
    groups: RwLock<HashMap<String, Group>>,
    next_server: AtomicU64,
}

#[derive(Default)]
struct Group {
    servers: Vec<(u64, Arc<dyn RequestHandler>)>,
    turn: AtomicUsize,
}

impl Subjects {
    pub(super) async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        let handler = self.pick(subject).ok_or_else(|| BusError::NoResponder { subject: subject.to_owned() })?;
        // A task of its own, as a server elsewhere would be: it goes on when whoever asked gives up.
        let answer = tokio::spawn(async move { handler.handle(body).await });
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(BusError::Unavailable(format!("whoever serves {subject} failed while answering"))),
            Err(_) => Err(BusError::Timeout { subject: subject.to_owned(), millis: timeout.as_millis() as u64 }),
        }
    }

    fn pick(&self, subject: &str) -> Option<Arc<dyn RequestHandler>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let group = groups.get(subject)?;
        let turn = group.turn.fetch_add(1, Ordering::Relaxed);
        let (_, handler) = group.servers.get(turn % group.servers.len().max(1))?;
        Some(handler.clone())
    }

    pub(super) fn serve(subjects: &Arc<Self>, subject: &str, handler: Arc<dyn RequestHandler>) -> ServeGuard {
        let id = subjects.next_server.fetch_add(1, Ordering::Relaxed);
        subjects.edit(subject, |group| group.servers.push((id, handler)));
        let (subjects, subject) = (subjects.clone(), subject.to_owned());
        ServeGuard::new(move || subjects.edit(&subject, |group| group.servers.retain(|(server, _)| *server != id)))
    }

    fn edit(&self, subject: &str, change: impl FnOnce(&mut Group)) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry(subject.to_owned()).or_default();
        change(group);
        if group.servers.is_empty() {
            groups.remove(subject);
        }
    }
}
