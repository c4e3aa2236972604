//! What was promised before a restart holds after it.

use std::fs;

use super::house::{House, agent};

#[tokio::test]
async fn a_restart_makes_no_new_version_of_an_unchanged_file() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    let house = House::at(house.stop().await).await;
    let (_, body) = house.get("/configs/alpha").await;
    assert_eq!((&body["version"], &body["status"]), (&1.into(), &"ok".into()));
    house.stop().await;
}

#[tokio::test]
async fn a_file_that_broke_while_the_service_was_down_leaves_the_last_good_version() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    let place = house.stop().await;
    fs::write(place.path().join("agents/a.yml"), "name: alpha\nmodell: x\n").expect("a file");
    let house = House::at(place).await;
    let (_, body) = house.get("/configs/alpha").await;
    assert_eq!((&body["description"], &body["status"]), (&"first".into(), &"stale".into()));
    assert!(house.active("alpha").await.is_some());
    house.stop().await;
}

#[tokio::test]
async fn a_file_that_went_while_the_service_was_down_withdraws_its_agent() {
    let house = House::with(&[("a.yml", &agent("alpha", "first")), ("b.yml", &agent("beta", "x"))]).await;
    let place = house.stop().await;
    fs::remove_file(place.path().join("agents/a.yml")).expect("a file");
    let house = House::at(place).await;
    assert_eq!(house.get("/configs/alpha").await.0, 404);
    assert!(house.active("alpha").await.is_none());
    assert!(house.active("beta").await.is_some());
    house.stop().await;
}

#[tokio::test]
async fn a_missing_folder_is_an_error_and_not_the_end() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let house = House::at(place).await;
    house.until_error("the agents' folder cannot be read").await;
    fs::create_dir(house.folder()).expect("a folder");
    house.write("a.yml", agent("alpha", "first"));
    house.until_says("alpha", "first").await;
    house.stop().await;
}

#[tokio::test]
async fn without_its_record_the_service_runs_but_is_not_ready() {
    let place = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(place.path().join("agents")).expect("a folder");
    let house = House::over(place, false).await;
    assert_eq!(house.get("/health/live").await.0, 200);
    let (status, ready) = house.get("/health/ready").await;
    assert_eq!(status, 503, "{ready}");
    assert_eq!(house.get("/configs").await, (200, serde_json::json!([])));
    house.stop().await;
}
