//! What the contract does not look into: clocks that go back, and what is left behind.

use domain::{ExecutionMode, Gate, GateLimit, Namespace, TaskId};
use uuid::Uuid;

use super::{Candidate, Gates};

const SECOND: i64 = 1_000_000;

fn running(key: &str, max: u32) -> Gate {
    Gate { key: key.to_owned(), limit: GateLimit::Running { max } }
}

fn starting(max: u32, seconds: u64) -> Gate {
    Gate { key: "a".to_owned(), limit: GateLimit::Starts { max, per_ms: seconds * 1_000 } }
}

fn task(key: i64) -> TaskId {
    TaskId(Uuid::from_u128(key.unsigned_abs().into()))
}

fn admit(all: &mut Gates, key: i64, gates: &[Gate], now: i64) -> bool {
    let namespace = Namespace::default();
    let (id, mode, priority) = (task(key), ExecutionMode::Autonomous, 5);
    all.admit(&Candidate { id, key, namespace: &namespace, mode, priority, started: false, gates }, now).admitted
}

fn is_empty(all: &Gates) -> bool {
    all.tasks.is_empty()
        && all.classes.is_empty()
        && all.class_numbers.is_empty()
        && all.heads.is_empty()
        && all.rooms.is_empty()
        && all.numbers.is_empty()
}

#[test]
fn a_clock_that_goes_back_lets_no_more_starts_through() {
    let mut all = Gates::default();
    let gates = [starting(2, 10)];
    assert!(admit(&mut all, 1, &gates, 100 * SECOND));
    assert!(admit(&mut all, 2, &gates, 50 * SECOND));
    assert!(!admit(&mut all, 3, &gates, 60 * SECOND));
    assert_eq!(all.next_opening(60 * SECOND), Some(110 * SECOND));
    assert!(!admit(&mut all, 3, &gates, 110 * SECOND - 1));
    assert!(admit(&mut all, 3, &gates, 110 * SECOND));
}

#[test]
fn nothing_is_left_of_gates_that_nobody_has_to_do_with() {
    let mut all = Gates::default();
    for key in 1..=50 {
        let gates = [running("a", 3), running(&format!("a/key/{key}"), 1), starting(40, 10)];
        admit(&mut all, key, &gates, 0);
    }
    for key in 1..=50 {
        all.leave(task(key), SECOND);
    }
    assert_eq!(all.rooms.len(), 1, "only the starts");
    all.forget(20 * SECOND);
    assert!(is_empty(&all), "{all:?}");
}

#[test]
fn whoever_waits_for_another_gate_too_keeps_nobody_waiting_at_this_one() {
    let mut all = Gates::default();
    assert!(admit(&mut all, 1, &[running("a", 1), running("b", 1)], 0));
    for key in 2..=100 {
        assert!(!admit(&mut all, key, &[running("a", 1), running("b", 1)], 0));
    }
    assert!(!admit(&mut all, 101, &[running("a", 1)], 0));
    assert!(!admit(&mut all, 102, &[running("b", 1)], 0));
    let woken: Vec<i64> = all.leave(task(1), 0).iter().map(|woken| woken.key).collect();
    assert_eq!(woken, [2]);
    let woken: Vec<i64> = all.leave(task(2), 0).iter().map(|woken| woken.key).collect();
    assert_eq!(woken, [3]);
    assert!(admit(&mut all, 3, &[running("a", 1), running("b", 1)], 0));
}
