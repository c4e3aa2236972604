//! Which gates are open, who holds their places and who is held back: the rules of limits, in memory and without I/O.
//!
//! An adapter decides with them one claim after another and writes what they say into the record in the same transaction.
//! What they know of running and held-back tasks is read from the record when a store is opened and after a rollback. Only
//! starts have rows of their own: a task may be gone before the window that counts it is over.
//!
//! Where several processes decide in turn, each keeps a replica and tells the others what it decided, as `Fact`s: whoever
//! applies them in order knows what the one who decided knew.
//!
//! Tasks with the same gates are a class and wait in one queue, so a place that opens costs a look at the first task of
//! each class that waits for it, however many tasks wait behind. Between two calls no task is held back that could pass: its
//! gates are all open only after time has passed, and then `settle` finds it.

mod facts;
mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use domain::{ExecutionMode, Gate, Namespace, ReadyTask, TaskId, Timestamp};

pub use facts::{Fact, Place};
use room::{Limit, Order, Room};

use crate::GateWait;

/// The most holders that are told.
const HOLDERS: usize = 10;

/// A task with gates.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The task.
    pub id: TaskId,
    /// Its row; the older task has the smaller one.
    pub key: i64,
    /// Where its gates' names mean something.
    pub namespace: &'a Namespace,
    /// The pool that runs it.
    pub mode: ExecutionMode,
    /// 0 (last) to 9 (first).
    pub priority: u8,
    /// It was claimed before, so limits on starts do not concern it.
    pub started: bool,
    /// All gates of its terms.
    pub gates: &'a [Gate],
}

/// A task that is no longer held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken {
    /// Its row.
    pub key: i64,
    /// The hint for its pool.
    pub ready: ReadyTask,
}

/// A start to be recorded.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// The gate's key.
    pub gate: String,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// When no window counts it any more.
    pub forget_at: i64,
}

/// What a claim found.
#[derive(Debug)]
pub struct Admission {
    /// All gates are open and the task has its places; else it is held back.
    pub admitted: bool,
    /// Starts that the claim makes.
    pub starts: Vec<Start>,
    /// Others that may be claimed now.
    pub woken: Vec<Woken>,
}

/// All gates that somebody has to do with. Times are microseconds since 1970.
#[derive(Debug, Default)]
pub struct Gates {
    numbers: HashMap<Name, u32>,
    rooms: HashMap<u32, (Name, Room)>,
    class_numbers: HashMap<Vec<(u32, Limit)>, u32>,
    classes: HashMap<u32, Class>,
    tasks: HashMap<TaskId, Known>,
    /// The first task that is held back of each class.
    heads: BTreeMap<Order, u32>,
    /// Counts rooms, classes and claims.
    last: u32,
    claims: u64,
    /// What was decided since it was last asked for; none when nobody will ask.
    facts: Option<Vec<Fact>>,
}

/// A gate's identity: the kind of its limit belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    namespace: Namespace,
    key: String,
    starts: bool,
}

/// Tasks with the same gates.
#[derive(Debug)]
struct Class {
    /// In the order of the terms.
    gates: Vec<(u32, Limit)>,
    held: BTreeMap<Order, TaskId>,
    /// Its tasks, whatever they do.
    members: usize,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    class: u32,
    order: Order,
    ready: ReadyTask,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It claims for the first time.
    New,
    /// A gate holds it back.
    Held,
    /// It was woken, and nobody else is given its places.
    Promised,
    /// It was woken, and did not come in time: others are woken beside it.
    Lapsed,
    /// A worker holds it; the number of the claim.
    Running(u64),
}

impl Gates {
    /// Decides a claim: the task has its places then, or is held back.
    pub fn admit(&mut self, candidate: &Candidate<'_>, now: i64) -> Admission {
        let mut admission = Admission { admitted: true, starts: Vec::new(), woken: Vec::new() };
        let task = candidate.id;
        if self.tasks.get(&task).is_some_and(|known| matches!(known.standing, Standing::Running(_))) {
            self.remove(task);
        }
        let gates = self.gates_of(candidate);
        if gates.is_empty() {
            return admission;
        }
        self.know(candidate, gates.clone());
        // A window may have moved since: those who wait go first.
        self.settle_gates(&gates, now, &mut admission.woken);
        let known = self.tasks[&task];
        if self.may_pass(&known, &gates, now) {
            self.run(task);
            admission.starts = self.start(&gates, now);
        } else {
            admission.admitted = false;
            if known.standing != Standing::Held {
                self.unqueue(task);
                self.queue(task);
            }
            if known.standing == Standing::Promised {
                self.settle_gates(&gates, now, &mut admission.woken);
            }
        }
        admission.woken.retain(|other| other.ready.task != task);
        admission
    }

    /// Forgets a task: it ended, or is no longer held by its worker. Returns those who may be claimed for it.
    pub fn leave(&mut self, task: TaskId, now: i64) -> Vec<Woken> {
        let mut woken = Vec::new();
        if let Some(gates) = self.remove(task) {
            self.settle_gates(&gates, now, &mut woken);
        }
        woken
    }

    /// Ends the promise to a woken task that nobody came to claim: it may still come, but keeps nobody else waiting.
    pub fn lapse(&mut self, task: TaskId) -> bool {
        let promised = self.tasks.get(&task).is_some_and(|known| known.standing == Standing::Promised);
        if promised {
            self.lapsed(task);
        }
        promised
    }

    /// Wakes at most `limit` tasks whose gates are open.
    pub fn settle(&mut self, now: i64, limit: usize) -> Vec<Woken> {
        let mut woken = Vec::new();
        self.settle_scope(None, now, limit, &mut woken);
        woken
    }

    /// When time opens a gate for somebody who is held back.
    pub fn next_opening(&self, now: i64) -> Option<i64> {
        let mut closed = HashSet::new();
        let mut next: Option<i64> = None;
        for (order, class) in &self.heads {
            let gates = &self.classes[class].gates;
            let behind = gates.iter().any(|(gate, _)| closed.contains(gate));
            // None of its gates is closed: more were woken than there was room for.
            let mut opens = Some(now);
            for (gate, limit) in gates {
                let room = &self.rooms[gate].1;
                if !room.is_open(*limit, now, *order) {
                    closed.insert(*gate);
                    opens = opens.and_then(|opens| Some(opens.max(room.opens_at(*limit, *order)?)));
                }
            }
            if let Some(opens) = opens.filter(|_| !behind) {
                next = Some(next.map_or(opens, |next| next.min(opens)));
            }
        }
        next
    }

    /// Says what holds a task back.
    pub fn wait(&self, namespace: &Namespace, task: TaskId, now: i64) -> Option<GateWait> {
        let known = self.tasks.get(&task).filter(|known| known.standing == Standing::Held)?;
        // The first of its class speaks for all of it, so that places in line have no gap.
        let first = *self.classes[&known.class].held.first_key_value()?.0;
        let closed = self.closed_at(known.class, first, now);
        let (name, room) = &self.rooms[&closed];
        if name.namespace != *namespace {
            return None;
        }
        let limit = self.classes[&known.class].gates.iter().find(|(gate, _)| *gate == closed)?.1;
        let before = |(head, class): (&Order, &u32)| {
            if *head > known.order || self.closed_at(*class, *head, now) != closed {
                return 0;
            }
            self.classes[class].held.range(..=known.order).count() as u64
        };
        Some(GateWait {
            gate: Gate { key: name.key.clone(), limit: limit.as_gate() },
            holders: room.holders.values().take(HOLDERS).copied().collect(),
            position: room.heads.iter().map(before).sum(),
            until: room.opens_at(limit, first).and_then(Timestamp::from_timestamp_micros),
        })
    }

    /// Takes a task from the record, with where it stands.
    pub fn restore(&mut self, candidate: &Candidate<'_>, place: Place) {
        let gates = self.gates_of(candidate);
        if gates.is_empty() {
            return;
        }
        self.know(candidate, gates);
        self.stand(candidate.id, place);
    }

    /// Takes a start from the record; they come in the order of their times.
    pub fn restore_start(&mut self, namespace: Namespace, gate: String, at: i64, forget_at: i64) {
        let number = self.number(Name { namespace, key: gate, starts: true });
        if let Some((_, room)) = self.rooms.get_mut(&number) {
            room.restore_start(at, forget_at);
        }
    }

    /// Forgets starts that no longer count, and gates that nobody has to do with.
    pub fn forget(&mut self, now: i64) {
        self.rooms.retain(|_, (name, room)| {
            room.forget(now);
            let keep = !room.limits.is_empty() || !room.starts.is_empty();
            if !keep {
                self.numbers.remove(name);
            }
            keep
        });
    }

    /// The first gate in the order of the terms that is closed for a task that is held back.
    fn closed_at(&self, class: u32, order: Order, now: i64) -> u32 {
        let gates = &self.classes[&class].gates;
        let closed = gates.iter().find(|(gate, limit)| !self.rooms[gate].1.is_open(*limit, now, order));
        // Its own limits would let it pass: it waits behind a task that has a lower one.
        closed.or_else(|| gates.first()).map(|(gate, _)| *gate).unwrap_or_default()
    }

    /// Tells whether all gates are open for a task that claims.
    fn may_pass(&self, known: &Known, gates: &[(u32, Limit)], now: i64) -> bool {
        let order = match known.standing {
            Standing::Promised | Standing::Lapsed | Standing::Running(_) => known.order,
            // It comes behind everyone to whom a place is promised and whose priority is not lower.
            Standing::New | Standing::Held => known.order.last_of_rank(),
        };
        gates.iter().all(|(gate, limit)| {
            let room = &self.rooms[gate].1;
            room.is_open(*limit, now, order) && !self.overtakes(*gate, *limit, order, now)
        })
    }

    /// Tells whether it would leave somebody behind whom the gate holds back because of a lower limit of their own.
    fn overtakes(&self, gate: u32, limit: Limit, order: Order, now: i64) -> bool {
        let room = &self.rooms[&gate].1;
        if room.limits.len() < 2 {
            return false;
        }
        room.heads.range(..order).any(|(head, class)| {
            let of_head = self.classes[class].gates.iter().find(|(other, _)| *other == gate);
            of_head.is_some_and(|(_, lower)| *lower != limit && !room.is_open(*lower, now, *head))
        })
    }

    fn settle_gates(&mut self, gates: &[(u32, Limit)], now: i64, woken: &mut Vec<Woken>) {
        for (gate, _) in gates {
            self.settle_scope(Some(*gate), now, usize::MAX, woken);
        }
    }

    /// Promises places to those who wait for a gate, or for any, in their order, as far as all of their gates are open.
    fn settle_scope(&mut self, scope: Option<u32>, now: i64, limit: usize, woken: &mut Vec<Woken>) {
        // Nobody overtakes at a gate that is closed for somebody before.
        let mut closed = HashSet::new();
        let mut cursor = Bound::Unbounded;
        while woken.len() < limit && scope.is_none_or(|gate| !closed.contains(&gate)) {
            let heads = match scope {
                Some(gate) => self.rooms.get(&gate).map(|(_, room)| &room.heads),
                None => Some(&self.heads),
            };
            let head = heads.and_then(|heads| heads.range((cursor, Bound::Unbounded)).next());
            let Some((order, class)) = head.map(|(order, class)| (*order, *class)) else { return };
            cursor = Bound::Excluded(order);
            let gates = &self.classes[&class].gates;
            let before = closed.len();
            closed.extend(
                gates
                    .iter()
                    .filter(|(gate, limit)| !self.rooms[gate].1.is_open(*limit, now, order))
                    .map(|(gate, _)| *gate),
            );
            if closed.len() > before || gates.iter().any(|(gate, _)| closed.contains(gate)) {
                continue;
            }
            let Some(task) = self.classes[&class].held.get(&order).copied() else { continue };
            woken.extend(self.promise(task));
        }
    }

    /// Makes a task known; returns its class. One that was not known is in no queue.
    fn know(&mut self, candidate: &Candidate<'_>, gates: Vec<(u32, Limit)>) -> u32 {
        if let Some(known) = self.tasks.get(&candidate.id) {
            return known.class;
        }
        let class = match self.class_numbers.get(&gates) {
            Some(class) => *class,
            None => self.new_class(gates),
        };
        if let Some(class) = self.classes.get_mut(&class) {
            class.members += 1;
        }
        let ready = ReadyTask { task: candidate.id, mode: candidate.mode, priority: candidate.priority };
        let order = Order::new(candidate.priority, candidate.key);
        self.tasks.insert(candidate.id, Known { class, order, ready, standing: Standing::New });
        self.tell(|| Fact::came(candidate));
        class
    }

    /// The gates that concern a task now, each once.
    fn gates_of(&mut self, candidate: &Candidate<'_>) -> Vec<(u32, Limit)> {
        let mut gates: Vec<(u32, Limit)> = Vec::with_capacity(candidate.gates.len());
        for gate in candidate.gates {
            let limit = Limit::of(gate.limit);
            if limit.is_starts() && candidate.started {
                continue;
            }
            let name =
                Name { namespace: candidate.namespace.clone(), key: gate.key.clone(), starts: limit.is_starts() };
            let number = self.number(name);
            if gates.iter().all(|(other, _)| *other != number) {
                gates.push((number, limit));
            }
        }
        gates
    }

    fn number(&mut self, name: Name) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(name.clone(), self.last);
        self.rooms.insert(self.last, (name, Room::default()));
        self.last
    }

    fn new_class(&mut self, gates: Vec<(u32, Limit)>) -> u32 {
        self.last += 1;
        for (gate, limit) in &gates {
            if let Some((_, room)) = self.rooms.get_mut(gate) {
                *room.limits.entry(*limit).or_default() += 1;
            }
        }
        self.class_numbers.insert(gates.clone(), self.last);
        self.classes.insert(self.last, Class { gates, held: BTreeMap::new(), members: 0 });
        self.last
    }

    /// Forgets a task, and its class after its last one; returns the gates that it had to do with.
    fn remove(&mut self, task: TaskId) -> Option<Vec<(u32, Limit)>> {
        self.unqueue(task);
        let known = self.tasks.remove(&task)?;
        self.tell(|| Fact::Left { task });
        let class = self.classes.get_mut(&known.class)?;
        let gates = class.gates.clone();
        class.members -= 1;
        if class.members == 0 {
            self.classes.remove(&known.class);
            self.class_numbers.remove(&gates);
            for (gate, limit) in &gates {
                let Some((name, room)) = self.rooms.get_mut(gate) else { continue };
                if let Some(count) = room.limits.get_mut(limit) {
                    *count -= 1;
                    if *count == 0 {
                        room.limits.remove(limit);
                    }
                }
                if room.limits.is_empty() && room.starts.is_empty() {
                    self.numbers.remove(name);
                    self.rooms.remove(gate);
                }
            }
        }
        Some(gates)
    }

    /// Puts a task among those that are held back.
    fn queue(&mut self, task: TaskId) {
        let Some(known) = self.tasks.get_mut(&task) else { return };
        known.standing = Standing::Held;
        let (class, order) = (known.class, known.order);
        self.change_queue(class, |held| {
            held.insert(order, task);
        });
        self.tell(|| Fact::Stands { task, place: Place::Held });
    }

    /// Ends a promise.
    fn lapsed(&mut self, task: TaskId) {
        self.unqueue(task);
        self.tell(|| Fact::Stands { task, place: Place::Lapsed });
    }

    /// Takes a task out of its queue, from the places that are promised to it or that it has; it is then lapsed.
    fn unqueue(&mut self, task: TaskId) {
        let Some(known) = self.tasks.get_mut(&task) else { return };
        let (class, order, standing) = (known.class, known.order, known.standing);
        if standing != Standing::New {
            known.standing = Standing::Lapsed;
        }
        match standing {
            Standing::New | Standing::Lapsed => {}
            Standing::Held => self.change_queue(class, |held| {
                held.remove(&order);
            }),
            Standing::Promised => self.each_room(class, |room, _| {
                room.promised.remove(&order);
            }),
            Standing::Running(claim) => self.each_room(class, |room, _| {
                room.holders.remove(&claim);
            }),
        }
    }

    fn promise(&mut self, task: TaskId) -> Option<Woken> {
        self.unqueue(task);
        let known = self.tasks.get_mut(&task)?;
        known.standing = Standing::Promised;
        let known = *known;
        self.each_room(known.class, |room, _| {
            room.promised.insert(known.order);
        });
        self.tell(|| Fact::Stands { task, place: Place::Promised });
        Some(Woken { key: known.order.key, ready: known.ready })
    }

    /// Gives a task its places.
    fn run(&mut self, task: TaskId) {
        self.unqueue(task);
        let Some(known) = self.tasks.get_mut(&task) else { return };
        self.claims += 1;
        let (claim, class) = (self.claims, known.class);
        known.standing = Standing::Running(claim);
        self.each_room(class, |room, limit| {
            if !limit.is_starts() {
                room.holders.insert(claim, task);
            }
        });
        self.tell(|| Fact::Stands { task, place: Place::Running });
    }

    fn start(&mut self, gates: &[(u32, Limit)], now: i64) -> Vec<Start> {
        let mut starts = Vec::new();
        for (gate, limit) in gates.iter().filter(|(_, limit)| limit.is_starts()) {
            let Some((name, room)) = self.rooms.get_mut(gate) else { continue };
            let (at, forget_at) = room.start(*limit, now);
            if let Some(facts) = &mut self.facts {
                let (namespace, gate) = (name.namespace.clone(), name.key.clone());
                facts.push(Fact::Started { namespace, gate, at, forget_at });
            }
            starts.push(Start { gate: name.key.clone(), at, forget_at });
        }
        starts
    }

    fn each_room(&mut self, class: u32, mut change: impl FnMut(&mut Room, Limit)) {
        let Some(class) = self.classes.get(&class) else { return };
        for (gate, limit) in &class.gates {
            if let Some((_, room)) = self.rooms.get_mut(gate) {
                change(room, *limit);
            }
        }
    }

    /// Changes a class's queue, and who is its first wherever that is known.
    fn change_queue(&mut self, number: u32, change: impl FnOnce(&mut BTreeMap<Order, TaskId>)) {
        let Some(class) = self.classes.get_mut(&number) else { return };
        let first = |held: &BTreeMap<Order, TaskId>| held.first_key_value().map(|(order, _)| *order);
        let before = first(&class.held);
        change(&mut class.held);
        let after = first(&class.held);
        if before == after {
            return;
        }
        let swap = |heads: &mut BTreeMap<Order, u32>| {
            before.map(|order| heads.remove(&order));
            after.map(|order| heads.insert(order, number));
        };
        swap(&mut self.heads);
        self.each_room(number, |room, _| swap(&mut room.heads));
    }
}
