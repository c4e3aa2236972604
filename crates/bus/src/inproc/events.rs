//! Who listens to what.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use domain::{Event, EventBody, EventKind, TaskId};
use futures::stream::BoxStream;

use super::InprocOptions;
use super::backlog::Backlogs;
use super::mailbox::Mailbox;
use crate::{Received, TaskEvents};

/// All subscribers.
pub(super) struct Topics {
    options: InprocOptions,
    everything: Subscribers,
    ends: Subscribers,
    control: Subscribers,
    tasks: Mutex<Tasks>,
    /// How many tasks have a subscriber or a backlog, to be read without the lock.
    ///
    /// Sequentially consistent: whoever subscribes and then reads the record either is seen by the publisher or reads what
    /// the publisher wrote before.
    of_interest: AtomicUsize,
    next_subscriber: AtomicU64,
}

struct Tasks {
    subscribers: HashMap<TaskId, HashMap<u64, Arc<Mailbox>>>,
    backlogs: Backlogs,
}

#[derive(Default)]
struct Subscribers {
    count: AtomicUsize,
    mailboxes: RwLock<HashMap<u64, Arc<Mailbox>>>,
}

impl Topics {
    pub(super) fn new(options: InprocOptions) -> Self {
        let backlogs = Backlogs::new(options.task_backlog_bytes, options.total_backlog_bytes);
        Self {
            options,
            everything: Subscribers::default(),
            ends: Subscribers::default(),
            control: Subscribers::default(),
            tasks: Mutex::new(Tasks { subscribers: HashMap::new(), backlogs }),
            of_interest: AtomicUsize::new(0),
            next_subscriber: AtomicU64::new(0),
        }
    }

    pub(super) fn publish(&self, event: Event) {
        let kind = event.body.kind();
        let delta = kind == EventKind::Delta;
        let to_everything = !delta && self.everything.any();
        let of_kind = match kind {
            EventKind::End => Some(&self.ends),
            EventKind::Control => Some(&self.control),
            EventKind::Delta | EventKind::Step | EventKind::Progress => None,
        }
        .filter(|subscribers| subscribers.any());
        // A delta is kept even when nobody listens yet.
        let task = event.body.task().filter(|_| delta || self.of_interest.load(Ordering::SeqCst) > 0);
        if !to_everything && of_kind.is_none() && task.is_none() {
            return;
        }
        let event = Arc::new(event);
        if let Some(task) = task {
            self.tell_task(task, &event);
        }
        if to_everything {
            self.everything.tell(&event);
        }
        if let Some(subscribers) = of_kind {
            subscribers.tell(&event);
        }
    }

    fn tell_task(&self, task: TaskId, event: &Arc<Event>) {
        let mut tasks = self.lock();
        let fresh = match &event.body {
            EventBody::TaskDelta { delta, .. } => tasks.backlogs.add(task, delta),
            EventBody::TaskStep { step, .. } => {
                tasks.backlogs.step_done(task, step.seq);
                true
            }
            EventBody::TaskFinished { .. } => {
                tasks.backlogs.remove(task);
                true
            }
            _ => true,
        };
        // Under the lock, so that a subscriber gets each delta either in its backlog or live.
        if fresh && let Some(mailboxes) = tasks.subscribers.get(&task) {
            for mailbox in mailboxes.values() {
                mailbox.put(event);
            }
        }
        self.count(&tasks);
    }

    pub(super) fn listens(&self, task: TaskId) -> bool {
        if self.everything.any() {
            return true;
        }
        if self.of_interest.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let tasks = self.lock();
        tasks.subscribers.contains_key(&task) || tasks.backlogs.contains(task)
    }

    pub(super) fn subscribe(topics: &Arc<Self>) -> BoxStream<'static, Received> {
        Self::add(topics, |topics| &topics.everything)
    }

    pub(super) fn subscribe_ends(topics: &Arc<Self>) -> BoxStream<'static, Received> {
        Self::add(topics, |topics| &topics.ends)
    }

    pub(super) fn subscribe_control(topics: &Arc<Self>) -> BoxStream<'static, Received> {
        Self::add(topics, |topics| &topics.control)
    }

    fn add(topics: &Arc<Self>, choose: fn(&Self) -> &Subscribers) -> BoxStream<'static, Received> {
        let (id, mailbox) = topics.mailbox();
        choose(topics).insert(id, mailbox.clone());
        let topics = topics.clone();
        mailbox.stream(OnDrop::new(move || choose(&topics).remove(id)))
    }

    pub(super) fn subscribe_task(topics: &Arc<Self>, task: TaskId) -> TaskEvents {
        let (id, mailbox) = topics.mailbox();
        let mut tasks = topics.lock();
        tasks.subscribers.entry(task).or_default().insert(id, mailbox.clone());
        let backlog = tasks.backlogs.get(task);
        topics.count(&tasks);
        drop(tasks);
        let topics = topics.clone();
        let live = mailbox.stream(OnDrop::new(move || topics.leave_task(task, id)));
        TaskEvents { backlog, live }
    }

    fn leave_task(&self, task: TaskId, id: u64) {
        let mut tasks = self.lock();
        if let Some(mailboxes) = tasks.subscribers.get_mut(&task) {
            mailboxes.remove(&id);
            if mailboxes.is_empty() {
                tasks.subscribers.remove(&task);
            }
        }
        self.count(&tasks);
    }

    fn mailbox(&self) -> (u64, Arc<Mailbox>) {
        let id = self.next_subscriber.fetch_add(1, Ordering::Relaxed);
        (id, Mailbox::new(self.options.subscriber_queue))
    }

    fn count(&self, tasks: &Tasks) {
        self.of_interest.store(tasks.subscribers.len() + tasks.backlogs.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscribers {
    fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    fn tell(&self, event: &Arc<Event>) {
        let mailboxes = self.mailboxes.read().unwrap_or_else(PoisonError::into_inner);
        for mailbox in mailboxes.values() {
            mailbox.put(event);
        }
    }

    fn insert(&self, id: u64, mailbox: Arc<Mailbox>) {
        let mut mailboxes = self.mailboxes.write().unwrap_or_else(PoisonError::into_inner);
        mailboxes.insert(id, mailbox);
        self.count.store(mailboxes.len(), Ordering::SeqCst);
    }

    fn remove(&self, id: u64) {
        let mut mailboxes = self.mailboxes.write().unwrap_or_else(PoisonError::into_inner);
        mailboxes.remove(&id);
        self.count.store(mailboxes.len(), Ordering::SeqCst);
    }
}

struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl OnDrop {
    fn new(run: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(run)))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}
