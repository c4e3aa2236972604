//! The checker itself: a history that keeps all promises passes, and each broken promise is found.

use serde_json::{Value, json};

use crate::history::{Told, check_counts, check_journal, check_keyed, check_once};

fn step(seq: u64, kind: &str, epoch: u64, more: &Value) -> Value {
    let mut step = json!({ "seq": seq, "type": kind, "epoch": epoch });
    for (name, value) in more.as_object().into_iter().flatten() {
        step[name] = value.clone();
    }
    step
}

fn sound() -> Told {
    Told {
        view: json!({ "id": "t", "status": "succeeded" }),
        journal: vec![
            step(0, "input", 0, &json!({})),
            step(1, "model", 1, &json!({})),
            step(2, "tool", 2, &json!({ "call_id": "c" })),
            step(3, "model", 2, &json!({})),
        ],
    }
}

fn problems(task: &Told) -> Vec<String> {
    let mut problems = Vec::new();
    check_journal(task, &mut problems);
    problems
}

#[test]
fn a_sound_journal_has_no_problems() {
    assert_eq!(problems(&sound()), Vec::<String>::new());
}

#[test]
fn a_step_of_an_older_epoch_is_a_zombies() {
    let mut task = sound();
    task.journal[3]["epoch"] = json!(1);
    assert!(problems(&task)[0].contains("under epoch 1 after 2"));
}

#[test]
fn a_gap_and_a_second_outcome_and_an_open_end_are_found() {
    let mut task = sound();
    task.view["status"] = json!("running");
    task.journal[3] = step(4, "tool", 2, &json!({ "call_id": "c" }));
    let found = problems(&task).join("\n");
    for expected in ["did not end", "has number 4", "call c has 2 outcomes"] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn work_that_was_done_again_is_found() {
    let mut found = Vec::new();
    check_counts(&sound(), 2, 1, &mut found);
    assert!(found.is_empty(), "{found:?}");
    check_counts(&sound(), 1, 1, &mut found);
    assert_eq!(found.len(), 1);
}

#[test]
fn a_call_without_a_key_or_with_a_second_key_is_found() {
    let mut found = Vec::new();
    let delivery = |key: &str| ("/keyed/a".to_owned(), key.to_owned());
    check_keyed(&[delivery("t/1"), delivery("t/1")], "/keyed/a", 1, &mut found);
    assert!(found.is_empty(), "a repetition under its key is allowed: {found:?}");
    check_keyed(&[delivery("t/1"), delivery("")], "/keyed/a", 1, &mut found);
    assert_eq!(found.len(), 2);
}

#[test]
fn a_once_call_that_was_made_twice_or_claimed_and_never_made_is_found() {
    let task = sound();
    let delivery = || ("/once".to_owned(), "t/1".to_owned());
    let found = |deliveries: &[(String, String)]| {
        let mut found = Vec::new();
        check_once(deliveries, &[&task], &mut found);
        found.len()
    };
    assert_eq!(found(&[delivery()]), 0);
    assert_eq!(found(&[delivery(), delivery()]), 1);
    assert_eq!(found(&[]), 1);
}
