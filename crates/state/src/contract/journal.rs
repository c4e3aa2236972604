//! The journal: each step once, in order, whole.

use domain::StepBody;
use serde_json::json;

use super::Run;
use super::world::World;
use crate::{NewStep, StateError};

pub(super) const CASES: &[(&str, Run)] = &[
    ("steps_are_stored_whole_and_in_order", |w| Box::pin(stored(w))),
    ("the_same_step_again_changes_nothing", |w| Box::pin(repeated(w))),
    ("another_step_under_the_same_number_is_refused", |w| Box::pin(conflicting(w))),
    ("a_step_beyond_the_next_number_is_refused", |w| Box::pin(gap(w))),
    ("a_refused_append_stores_none_of_its_steps", |w| Box::pin(all_or_nothing(w))),
    ("a_large_step_comes_back_as_it_was", |w| Box::pin(large(w))),
    ("a_journal_is_read_in_pages", |w| Box::pin(pages(w))),
];

fn seqs(steps: &[domain::Step]) -> Vec<u32> {
    steps.iter().map(|step| step.seq).collect()
}

async fn stored(world: World) {
    let lease = world.running().await;
    let started = StepBody::ToolStarted { call_id: "call-1".to_owned(), tool: "http_request".to_owned() };
    let rejected = StepBody::Rejected { problems: vec!["no \"name\"".to_owned()] };
    let steps = vec![
        world.model(1, "first"),
        NewStep { seq: 2, at: world.now(), body: started },
        NewStep { seq: 3, at: world.now(), body: rejected },
    ];
    world.state.append(lease, steps[..1].to_vec()).await.expect("appended");
    world.state.append(lease, steps[1..].to_vec()).await.expect("appended");
    let journal = world.journal(lease.task).await;
    for (step, new) in journal[1..].iter().zip(&steps) {
        assert_eq!((step.seq, step.epoch, step.at, &step.body), (new.seq, lease.epoch, new.at, &new.body));
    }
    assert_eq!(journal.len(), 4);
}

async fn repeated(world: World) {
    let lease = world.running().await;
    let steps = vec![world.model(1, "a"), world.model(2, "b")];
    world.state.append(lease, steps.clone()).await.expect("appended");
    let before = world.journal(lease.task).await;
    world.state.append(lease, steps.clone()).await.expect("the same again");
    world.clock.advance(std::time::Duration::from_secs(1));
    world.state.append(lease, vec![steps[1].clone(), world.model(3, "c")]).await.expect("an overlap");
    let after = world.journal(lease.task).await;
    assert_eq!(after[..3], before);
    assert_eq!(seqs(&after), [0, 1, 2, 3]);
}

async fn conflicting(world: World) {
    let lease = world.running().await;
    world.state.append(lease, vec![world.model(1, "a")]).await.expect("appended");
    let refused = world.state.append(lease, vec![world.model(1, "another")]).await;
    assert!(matches!(refused, Err(StateError::StepConflict { seq: 1, .. })), "{refused:?}");
    let refused = world.state.append(lease, vec![world.model(0, "not the input")]).await;
    assert!(matches!(refused, Err(StateError::StepConflict { seq: 0, .. })), "{refused:?}");
    assert_eq!(world.journal(lease.task).await[1].body, world.model(1, "a").body);
}

async fn gap(world: World) {
    let lease = world.running().await;
    let refused = world.state.append(lease, vec![world.model(2, "too far")]).await;
    assert!(matches!(refused, Err(StateError::StepConflict { seq: 2, .. })), "{refused:?}");
    assert_eq!(world.kinds(lease.task).await, ["input"]);
}

async fn all_or_nothing(world: World) {
    let lease = world.running().await;
    let steps = vec![world.model(1, "a"), world.model(3, "too far")];
    assert!(world.state.append(lease, steps).await.is_err());
    assert_eq!(world.kinds(lease.task).await, ["input"]);
    let huge = "x".repeat(17 * 1024 * 1024);
    let refused = world.state.append(lease, vec![world.model(1, "a"), world.model(2, &huge)]).await;
    assert!(matches!(refused, Err(StateError::TooLarge(_))), "{refused:?}");
    assert_eq!(world.kinds(lease.task).await, ["input"]);
    world.state.append(lease, vec![world.model(1, "a")]).await.expect("the lease is still good");
}

async fn large(world: World) {
    let lease = world.running().await;
    let words = (0..200_000).map(|n: u32| n.to_string()).collect::<Vec<_>>().join(" ");
    let steps = vec![world.model(1, &words), world.model(2, "short"), world.model(3, &"a".repeat(4_096))];
    world.state.append(lease, steps.clone()).await.expect("appended");
    let journal = world.journal(lease.task).await;
    for (step, new) in journal[1..].iter().zip(&steps) {
        assert!(step.body == new.body, "step {} came back changed", step.seq);
    }
    world.state.append(lease, steps).await.expect("the same again");
    let finish = world.finish(vec![world.model(4, &words)], crate::Outcome::Succeeded);
    world.state.finish(lease, finish).await.expect("finished");
    let answer = world.answer(lease.task).await;
    assert!(answer == Some(json!(words)));
}

async fn pages(world: World) {
    let lease = world.running().await;
    let steps: Vec<_> = (1..10).map(|seq| world.model(seq, "text")).collect();
    world.state.append(lease, steps).await.expect("appended");
    let page = |from, limit| world.state.journal(&world.namespace, lease.task, from, limit);
    assert_eq!(seqs(&page(0, 4).await.expect("read")), [0, 1, 2, 3]);
    assert_eq!(seqs(&page(4, 4).await.expect("read")), [4, 5, 6, 7]);
    assert_eq!(seqs(&page(8, 4).await.expect("read")), [8, 9]);
    assert!(page(10, 4).await.expect("read").is_empty());
    assert!(page(u32::MAX, 4).await.expect("read").is_empty());
    assert!(page(0, 0).await.expect("read").is_empty());
}
