//! Replicas that are told what others decided, and nothing else.

use std::collections::BTreeMap;

use domain::{ExecutionMode, Gate, GateLimit, Namespace, TaskId};
use proptest::prelude::*;
use uuid::Uuid;

use crate::gates::{Candidate, Fact, Gates, Place, Standing};

const SECOND: i64 = 1_000_000;
const TASKS: i64 = 14;

#[derive(Debug, Clone, Copy)]
enum Decision {
    Admit(i64),
    Leave(i64),
    Lapse(i64),
    Settle(usize),
    Forget,
}

fn decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        6 => (1..=TASKS).prop_map(Decision::Admit),
        4 => (1..=TASKS).prop_map(Decision::Leave),
        1 => (1..=TASKS).prop_map(Decision::Lapse),
        1 => (1..4_usize).prop_map(Decision::Settle),
        1 => Just(Decision::Forget),
    ]
}

fn id(key: i64) -> TaskId {
    TaskId(Uuid::from_u128(key.unsigned_abs().into()))
}

/// Tasks share gates, and some limits differ.
fn gates_of(key: i64) -> Vec<Gate> {
    let running = |key: &str, max| Gate { key: key.to_owned(), limit: GateLimit::Running { max } };
    let starting = |max| Gate { key: "rate".to_owned(), limit: GateLimit::Starts { max, per_ms: 10_000 } };
    match key % 5 {
        0 => vec![running("all", 3)],
        1 => vec![running("all", 3), running("one", 1)],
        2 => vec![running("all", 2), starting(2)],
        3 => vec![starting(3)],
        _ => vec![running("one", 2), starting(2), running("all", 3)],
    }
}

/// Decides, and says what it answered.
fn decide(gates: &mut Gates, decision: Decision, started: bool, now: i64) -> String {
    let namespace = Namespace::default();
    match decision {
        Decision::Admit(key) => {
            let (mode, priority) = (ExecutionMode::Autonomous, u8::try_from(key % 3).expect("small"));
            let candidate =
                Candidate { id: id(key), key, namespace: &namespace, mode, priority, started, gates: &gates_of(key) };
            format!("{:?}", gates.admit(&candidate, now))
        }
        Decision::Leave(key) => format!("{:?}", gates.leave(id(key), now)),
        Decision::Lapse(key) => format!("{:?}", gates.lapse(id(key))),
        Decision::Settle(limit) => format!("{:?}", gates.settle(now, limit)),
        Decision::Forget => {
            gates.forget(now);
            String::new()
        }
    }
}

/// All that decides, without the numbers that each replica gives on its own, and without starts that no longer count.
fn view(gates: &Gates, now: i64) -> String {
    let place = |standing| match standing {
        Standing::Running(_) => "running".to_owned(),
        other => format!("{other:?}"),
    };
    let named = |class: u32| {
        let of_class = gates.classes[&class].gates.iter();
        of_class.map(|(gate, limit)| (format!("{:?}", gates.rooms[gate].0), *limit)).collect::<Vec<_>>()
    };
    let tasks: BTreeMap<_, _> = gates
        .tasks
        .iter()
        .map(|(task, known)| (*task, (named(known.class), known.order, known.ready, place(known.standing))))
        .collect();
    let rooms: BTreeMap<_, _> = gates
        .rooms
        .values()
        .map(|(name, room)| {
            let holders: Vec<_> = room.holders.values().collect();
            let heads: Vec<_> = room.heads.keys().collect();
            let starts: Vec<_> = room.starts.iter().filter(|at| **at + 10 * SECOND > now).collect();
            (format!("{name:?}"), format!("{holders:?} {heads:?} {:?} {starts:?}", room.promised))
        })
        .filter(|(_, room)| room != "[] [] {} []")
        .collect();
    format!("{tasks:#?}\n{rooms:#?}")
}

fn replica() -> Gates {
    let mut gates = Gates::default();
    gates.remember_facts();
    gates
}

proptest! {
    #[test]
    fn replicas_that_decide_in_turn_know_the_same(
        program in prop::collection::vec((decision(), 0..2_usize, any::<bool>(), 0..4_i64), 1..120),
    ) {
        let mut replicas = [replica(), replica()];
        let mut alone = Gates::default();
        let mut now = 1_000 * SECOND;
        for (decision, who, started, seconds) in program {
            now += seconds * SECOND;
            let answer = decide(&mut replicas[who], decision, started, now);
            prop_assert_eq!(&answer, &decide(&mut alone, decision, started, now));
            let facts = replicas[who].take_facts();
            prop_assert!(facts.iter().all(|fact| replicas[1 - who].apply(fact)));
            prop_assert!(replicas[1 - who].is_unchanged(), "what was told is not told on");
            prop_assert_eq!(view(&replicas[0], now), view(&replicas[1], now));
        }
    }
}

#[test]
fn facts_survive_as_json() {
    let mut gates = replica();
    for key in 1..=TASKS {
        decide(&mut gates, Decision::Admit(key), key % 2 == 0, SECOND);
    }
    let facts = gates.take_facts();
    let json = serde_json::to_vec(&facts).expect("encoded");
    assert_eq!(serde_json::from_slice::<Vec<Fact>>(&json).expect("decoded"), facts);
}

#[test]
fn a_fact_about_a_task_that_never_came_is_not_understood() {
    let fact = Fact::Stands { task: id(1), place: Place::Running };
    assert!(!replica().apply(&fact));
    assert!(replica().apply(&Fact::Left { task: id(1) }), "nothing is lost by that");
}
