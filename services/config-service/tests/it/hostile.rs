//! What does not belong into the folder is skipped with a reason and holds up nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, Mode};

use super::house::{House, agent};

#[tokio::test]
async fn what_is_no_plain_file_is_skipped_with_a_reason() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    let folder = house.folder();
    fs::create_dir(folder.join("folder.yml")).expect("a folder");
    rustix::fs::mkfifoat(CWD, folder.join("pipe.yml"), Mode::RUSR | Mode::WUSR).expect("a pipe");
    let _socket = UnixListener::bind(folder.join("socket.yml")).expect("a socket");
    fs::write(house.place().join("outside.yml"), agent("outside", "x")).expect("a file");
    symlink("../outside.yml", folder.join("out.yml")).expect("a link");
    symlink("/dev/zero", folder.join("device.yml")).expect("a link");
    symlink("nowhere.yml", folder.join("dangling.yml")).expect("a link");
    symlink("loop.yml", folder.join("loop.yml")).expect("a link");
    fs::File::create(folder.join("huge.yml")).and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
    house.write("large.yml", vec![b'#'; 1024 * 1024 + 1]);
    house.write("wide.yml", b"\xff\xfen\0a\0m\0e\0");

    for (file, reason) in [
        ("folder.yml", "is a folder"),
        ("pipe.yml", "is not a regular file"),
        ("socket.yml", "is not a regular file"),
        ("out.yml", "is a symbolic link out of the folder"),
        ("device.yml", "is a symbolic link out of the folder"),
        ("dangling.yml", "cannot be read"),
        ("loop.yml", "cannot be read"),
        ("huge.yml", "is larger than 1024 KiB"),
        ("large.yml", "is larger than 1024 KiB"),
        ("wide.yml", "UTF-16"),
    ] {
        house
            .until("/configs/errors", |_, body| {
                let mut errors = body.as_array().into_iter().flatten();
                errors.any(|error| {
                    error["file"] == file && error["reason"].as_str().is_some_and(|text| text.contains(reason))
                })
            })
            .await;
    }
    // All of that notwithstanding, the folder is still looked at.
    house.write("a.yml", agent("alpha", "second"));
    house.until_says("alpha", "second").await;
    let (_, body) = house.get("/configs").await;
    assert_eq!(body.as_array().map(Vec::len), Some(1));
    house.stop().await;
}

#[tokio::test]
async fn a_good_file_that_becomes_something_else_leaves_the_last_good_version() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    fs::write(house.place().join("outside.yml"), agent("alpha", "outside")).expect("a file");
    house.remove("a.yml");
    symlink("../outside.yml", house.folder().join("a.yml")).expect("a link");
    house.until_error("out of the folder").await;
    let (_, body) = house.get("/configs/alpha").await;
    assert_eq!((&body["status"], &body["description"]), (&"stale".into(), &"first".into()));
    house.stop().await;
}

#[tokio::test]
async fn a_file_without_permission_is_skipped_with_a_reason() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    let path = house.folder().join("a.yml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("permissions");
    if fs::read(&path).is_ok() {
        // Root may read everything, so there is nothing to see here.
        house.stop().await;
        return;
    }
    house.until_error("cannot be read").await;
    assert!(house.active("alpha").await.is_some());
    house.stop().await;
}

#[tokio::test]
async fn an_alias_bomb_is_refused_and_the_rest_goes_on() {
    let house = House::with(&[("a.yml", &agent("alpha", "first"))]).await;
    let mut bomb = String::from("name: bomb\noutput_schema:\n  l0: &l0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..=9 {
        let aliases = vec![format!("*l{}", level - 1); 9].join(", ");
        bomb.extend([format!("  l{level}: &l{level} ["), aliases, "]\n".to_owned()]);
    }
    house.write("bomb.yml", bomb);
    house.until_error("yaml_budget_exceeded").await;
    house.write("a.yml", agent("alpha", "second"));
    house.until_says("alpha", "second").await;
    house.stop().await;
}
