//! Several copies of the service over one folder and one record.

use std::time::Duration;

use tokio::time::Instant;

use crate::house::House;

fn writer(steps: u32) -> String {
    format!("name: writer\nlimits: {{max_steps: {steps}}}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_edits_under_two_copies_make_no_version_twice_and_never_go_back() {
    let mut house = House::with(&[("writer.yml", &writer(1))]).await;
    house.another_copy().await;
    for edit in 2..=100 {
        house.write("writer.yml", writer(edit));
        // Some edits are seen by both copies, some by one, some by none.
        tokio::time::sleep(Duration::from_millis(u64::from(edit % 5) * 40)).await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while house.steps("writer").await != Some(100) {
        assert!(Instant::now() < deadline, "{:?}", house.steps("writer").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let versions = house.all_steps("writer").await;
    assert!(versions.len() > 3, "{versions:?}");
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "each says something newer: {versions:?}");
    // Both have come to rest.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(house.all_steps("writer").await, versions);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_come_and_go_under_two_copies() {
    let mut house = House::with(&[("writer.yml", &writer(1))]).await;
    house.another_copy().await;
    for round in 0..10 {
        house.remove("writer.yml");
        tokio::time::sleep(Duration::from_millis(100 + round * 40)).await;
        house.write("writer.yml", writer(1));
        tokio::time::sleep(Duration::from_millis(round * 40)).await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut at_rest = 0;
    while at_rest < 50 {
        at_rest = if house.steps("writer").await == Some(1) { at_rest + 1 } else { 0 };
        assert!(Instant::now() < deadline, "it does not stay in service");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.stop().await;
}
