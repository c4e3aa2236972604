//! Versioned values.

use std::sync::Arc;
use std::time::Duration;

use domain::{Namespace, Timestamp};
use futures::future::join_all;
use serde_json::{Value, json};

use super::Run;
use super::world::World;
use crate::{PutCondition, StateError, StateValue};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_value_is_found_as_it_was_put_with_its_version", |w| Box::pin(put(w))),
    ("a_condition_that_does_not_hold_changes_nothing", |w| Box::pin(conditions(w))),
    ("one_of_many_conditional_puts_wins", |w| Box::pin(concurrent(w))),
    ("a_value_disappears_at_its_time", |w| Box::pin(expires(w))),
    ("a_deleted_value_starts_anew", |w| Box::pin(deleted(w))),
    ("values_are_listed_by_key_in_pages", |w| Box::pin(listed(w))),
    ("a_large_value_comes_back_as_it_was", |w| Box::pin(large(w))),
];

impl World {
    async fn put(&self, key: &str, value: Value, condition: PutCondition) -> Result<StateValue, StateError> {
        self.state.put_value(&self.namespace, "scope", key, value, None, condition, self.now()).await
    }

    async fn put_until(&self, key: &str, value: Value, expires_at: Timestamp) -> StateValue {
        let condition = PutCondition::Always;
        let put = self.state.put_value(&self.namespace, "scope", key, value, Some(expires_at), condition, self.now());
        put.await.expect("put")
    }

    async fn value(&self, key: &str) -> Option<StateValue> {
        self.state.value(&self.namespace, "scope", key, self.now()).await.expect("read")
    }
}

async fn put(world: World) {
    assert_eq!(world.value("a").await, None);
    let first = world.put("a", json!({"n": 1}), PutCondition::Always).await.expect("put");
    assert_eq!((first.version, &first.value, first.updated_at), (1, &json!({"n": 1}), world.now()));
    assert_eq!(world.value("a").await, Some(first));
    world.clock.advance(Duration::from_secs(1));
    let second = world.put("a", json!(null), PutCondition::Always).await.expect("put");
    assert_eq!((second.version, &second.value, second.updated_at), (2, &json!(null), world.now()));
    assert_eq!(world.value("a").await, Some(second));
    let other = Namespace::new("other").expect("a valid name");
    assert_eq!(world.state.value(&other, "scope", "a", world.now()).await.expect("read"), None);
    assert_eq!(world.state.value(&world.namespace, "else", "a", world.now()).await.expect("read"), None);
}

fn assert_mismatch(result: &Result<StateValue, StateError>, wanted: Option<u64>) {
    assert!(matches!(result, Err(StateError::VersionMismatch { actual }) if *actual == wanted), "{result:?}");
}

async fn conditions(world: World) {
    assert_mismatch(&world.put("a", json!(0), PutCondition::Version(1)).await, None);
    assert_eq!(world.value("a").await, None);
    world.put("a", json!(1), PutCondition::Absent).await.expect("put");
    assert_mismatch(&world.put("a", json!(0), PutCondition::Absent).await, Some(1));
    world.put("a", json!(2), PutCondition::Version(1)).await.expect("put");
    assert_mismatch(&world.put("a", json!(0), PutCondition::Version(1)).await, Some(2));
    let value = world.value("a").await.expect("there");
    assert_eq!((value.version, value.value), (2, json!(2)));
}

async fn concurrent(world: World) {
    world.put("a", json!(0), PutCondition::Always).await.expect("put");
    let now = world.now();
    let puts = (0..20).map(|n| {
        let (state, namespace) = (Arc::clone(&world.state), world.namespace.clone());
        let condition = PutCondition::Version(1);
        tokio::spawn(async move { state.put_value(&namespace, "scope", "a", json!(n), None, condition, now).await })
    });
    let won = join_all(puts).await.into_iter().filter(|put| matches!(put, Ok(Ok(_)))).count();
    assert_eq!((won, world.value("a").await.map(|value| value.version)), (1, Some(2)));
}

async fn expires(world: World) {
    let put = world.put_until("a", json!(1), world.after(10)).await;
    assert_eq!(put.expires_at, Some(world.after(10)));
    assert_eq!(world.value("a").await, Some(put));
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.value("a").await, None);
    let listed = world.state.values(&world.namespace, "scope", None, 10, world.now()).await.expect("read");
    assert!(listed.items.is_empty());
    assert!(!world.state.delete_value(&world.namespace, "scope", "a").await.expect("deleted"));
    world.put_until("b", json!(1), world.after(10)).await;
    world.clock.advance(Duration::from_secs(10));
    let anew = world.put("b", json!(2), PutCondition::Absent).await.expect("what has expired is not there");
    assert_eq!((anew.version, anew.expires_at), (1, None));
}

async fn deleted(world: World) {
    let delete = || world.state.delete_value(&world.namespace, "scope", "a");
    assert!(!delete().await.expect("deleted"));
    world.put("a", json!(1), PutCondition::Always).await.expect("put");
    world.put("a", json!(2), PutCondition::Always).await.expect("put");
    assert!(delete().await.expect("deleted"));
    assert_eq!(world.value("a").await, None);
    assert!(!delete().await.expect("deleted"));
    assert_eq!(world.put("a", json!(3), PutCondition::Absent).await.expect("put").version, 1);
}

async fn listed(world: World) {
    for key in ["b", "", "a/1", "a", "ü"] {
        world.put(key, json!(key), PutCondition::Always).await.expect("put");
    }
    let page = async |after: Option<&str>, limit| {
        let page = world.state.values(&world.namespace, "scope", after, limit, world.now()).await.expect("read");
        (page.items.into_iter().map(|value| value.key).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(page(None, 3).await, (["", "a", "a/1"].map(str::to_owned).to_vec(), true));
    assert_eq!(page(Some("a/1"), 3).await, (["b", "ü"].map(str::to_owned).to_vec(), false));
    assert_eq!(page(Some(""), 1).await, (vec!["a".to_owned()], true));
    assert_eq!(page(Some("zz"), 1).await, (vec!["ü".to_owned()], false));
}

async fn large(world: World) {
    let value = json!({"text": "words and words ".repeat(100_000)});
    let put = world.put("a", value.clone(), PutCondition::Always).await.expect("put");
    assert!(put.value == value);
    assert!(world.value("a").await.expect("there").value == value);
    let huge = json!("x".repeat(17 * 1024 * 1024));
    let refused = world.put("a", huge, PutCondition::Always).await.map(|put| put.version);
    assert!(matches!(refused, Err(StateError::TooLarge(_))), "{refused:?}");
}
