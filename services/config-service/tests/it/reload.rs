//! Every way in which a file changes is noticed within two seconds, and none of them loses the last good version.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use domain::{AgentName, Namespace};
use tokio::time::Instant;

use super::house::{House, agent, next_update};

#[tokio::test]
async fn a_new_file_is_published_and_told_of() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    let mut events = house.subscribe().await;
    house.write("b.yml", agent("beta", "new"));
    assert_eq!(next_update(&mut events).await, ("beta".to_owned(), 1));
    house.until_says("beta", "new").await;
    house.write("a.yml", agent("alpha", "second"));
    assert_eq!(next_update(&mut events).await, ("alpha".to_owned(), 2));
    house.stop().await;
}

#[tokio::test]
async fn a_file_that_is_replaced_by_rename_is_noticed() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    for description in ["second", "third", "fourth"] {
        let draft = house.folder().join(".a.yml.swp");
        fs::write(&draft, agent("alpha", description)).expect("a file");
        fs::rename(&draft, house.folder().join("a.yml")).expect("a rename");
        house.until_says("alpha", description).await;
    }
    house.stop().await;
}

#[tokio::test]
async fn a_file_that_is_truncated_and_rewritten_is_noticed() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    house.write("a.yml", "");
    house.write("a.yml", agent("alpha", "second"));
    house.until_says("alpha", "second").await;
    house.stop().await;
}

#[tokio::test]
async fn a_swapped_symbolic_link_is_noticed() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let folder = place.path().join("agents");
    for (data, description) in [("..1", "first"), ("..2", "second")] {
        fs::create_dir_all(folder.join(data)).expect("a folder");
        fs::write(folder.join(data).join("a.yml"), agent("alpha", description)).expect("a file");
    }
    symlink("..1", folder.join("..data")).expect("a link");
    symlink("..data/a.yml", folder.join("a.yml")).expect("a link");
    let house = House::at(place).await;
    house.until_says("alpha", "first").await;
    symlink("..2", folder.join("..data_tmp")).expect("a link");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("a rename");
    house.until_says("alpha", "second").await;
    house.stop().await;
}

#[tokio::test]
async fn a_change_that_leaves_size_and_time_as_they_were_is_noticed() {
    let house = House::with(&[("a.yml", &agent("alpha", "one"))]).await;
    let path = house.folder().join("a.yml");
    let time = fs::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
    house.write("a.yml", agent("alpha", "two"));
    fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(time)).expect("a time");
    house.until_says("alpha", "two").await;
    house.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_noticed() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    let (folder, old) = (house.folder(), house.place().join("old"));
    fs::rename(&folder, &old).expect("a rename");
    house.until_error("the agents' folder cannot be read").await;
    assert!(house.active("alpha").await.is_some(), "a folder that is away withdraws nothing");
    fs::create_dir(&folder).expect("a folder");
    house.write("a.yml", agent("alpha", "second"));
    house.until_says("alpha", "second").await;
    house.until_all_well().await;
    house.stop().await;
}

#[tokio::test]
async fn a_removed_file_withdraws_its_agent_and_its_return_brings_it_back() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    house.remove("a.yml");
    house.until("/configs/alpha", |status, _| status == 404).await;
    let name = AgentName::new("alpha").expect("a name");
    let version = house.agents.version(&Namespace::default(), &name, 1).await.expect("the record answers");
    assert!(version.is_some(), "tasks that run keep their version");
    house.write("a.yml", agent("alpha", "first"));
    house.until_says("alpha", "first").await;
    assert!(house.active("alpha").await.is_some());
    house.stop().await;
}

#[tokio::test]
async fn a_renamed_file_keeps_its_agent_and_a_renamed_agent_replaces_the_old_one() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    fs::rename(house.folder().join("a.yml"), house.folder().join("b.yml")).expect("a rename");
    let body = house.until("/configs/alpha", |_, body| body["file"] == "b.yml").await;
    assert_eq!(body["version"], 1);
    house.write("b.yml", agent("beta", "first"));
    house.until_says("beta", "first").await;
    house.until("/configs/alpha", |status, _| status == 404).await;
    house.stop().await;
}

#[tokio::test]
async fn a_file_that_becomes_wrong_leaves_the_last_good_version() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    for wrong in
        ["", "name: alpha\ndescr", "name: alpha\nlimits: {max_steps: -1}\n", "\u{0}", "name: [", "name: Alpha\n"]
    {
        house.write("a.yml", wrong);
        let stale = house.until("/configs/alpha", |_, body| body["status"] == "stale").await;
        assert_eq!((&stale["description"], &stale["version"]), (&"first".into(), &1.into()));
        assert_eq!(stale["errors"][0]["file"], "a.yml");
        assert!(stale["errors"][0]["line"].as_u64() > Some(0), "{stale:#}");
        assert_eq!(house.active("alpha").await.expect("active").version, 1);
        let (_, errors) = house.get("/configs/errors").await;
        assert_eq!(errors[0]["file"], "a.yml");
        house.write("a.yml", agent("alpha", "first"));
        house.until_says("alpha", "first").await;
    }
    house.until_all_well().await;
    assert_eq!(house.active("alpha").await.expect("active").version, 1, "nothing of this made a version");
    house.stop().await;
}

#[tokio::test]
async fn a_name_in_two_files_leaves_both_as_they_were() {
    let house = House::with(&[("a.yml", &agent("alpha", "first")), ("b.yml", &agent("beta", "first"))]).await;
    house.write("b.yml", agent("alpha", "stolen"));
    house.until_error("alpha is also in a.yml").await;
    house.until_error("alpha is also in b.yml").await;
    for name in ["alpha", "beta"] {
        let (_, body) = house.get(&format!("/configs/{name}")).await;
        assert_eq!((&body["description"], &body["status"]), (&"first".into(), &"stale".into()));
    }
    house.write("b.yml", agent("beta", "second"));
    house.until_says("beta", "second").await;
    house.until_says("alpha", "first").await;
    house.until_all_well().await;
    house.stop().await;
}

#[tokio::test]
async fn an_agent_that_refers_to_nobody_or_in_a_circle_is_not_activated() {
    let editor = "name: editor\ntools: [delegate]\ndelegates:\n  - writer\n";
    let house = House::with(&[("editor.yml", editor)]).await;
    let errors = house.until_error("there is no agent writer").await;
    assert_eq!((&errors[0]["line"], &errors[0]["column"]), (&4.into(), &5.into()));
    assert!(house.active("editor").await.is_none());

    house.write("writer.yml", agent("writer", "writes"));
    house.until("/configs/editor", |_, body| body["status"] == "ok").await;
    house.write("writer.yml", "name: writer\ntools: [delegate]\ndelegates: [editor]\n");
    house.until_error("leads back to").await;
    let (_, body) = house.get("/configs/writer").await;
    assert_eq!((&body["status"], &body["version"]), (&"stale".into(), &1.into()));

    house.write("writer.yml", agent("writer", "writes"));
    house.until_all_well().await;
    house.remove("writer.yml");
    house.until("/configs/editor", |_, body| body["status"] == "stale").await;
    assert!(house.active("editor").await.is_some());
    house.stop().await;
}

#[tokio::test]
async fn a_hundred_edits_a_second_end_with_the_last_one_and_never_with_half_of_one() {
    let house = House::with(&[("a.yml", &agent("alpha", "edit 0"))]).await;
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    let start = Instant::now();
    let mut edit = 0;
    let mut changed_meanwhile = false;
    while start.elapsed() < Duration::from_secs(4) {
        pause.tick().await;
        edit += 1;
        let text = agent("alpha", &format!("edit {edit} {}", "x".repeat(500)));
        if edit % 2 == 0 {
            house.write("a.yml", text);
        } else {
            let draft = house.folder().join(".draft");
            fs::write(&draft, text).expect("a file");
            fs::rename(&draft, house.folder().join("a.yml")).expect("a rename");
        }
        if edit % 50 == 0 {
            changed_meanwhile |= house.active("alpha").await.expect("always active").version > 1;
        }
    }
    house.until_says("alpha", &format!("edit {edit} {}", "x".repeat(500))).await;
    house.until_all_well().await;
    assert!(changed_meanwhile, "a file that never rests is taken in between");
    let (_, versions) = house.get("/configs/alpha/versions").await;
    for version in versions.as_array().expect("an array") {
        let (_, version) = house.get(&format!("/configs/alpha/versions/{}", version["version"])).await;
        let description = version["spec"]["description"].as_str().expect("a text");
        assert!(description == "edit 0" || description.ends_with(&"x".repeat(500)), "half a file: {description}");
    }
    house.stop().await;
}
