//! Agents' files that change, break and are repaired while their tasks run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::gate::Gate;
use crate::house::{House, Plan};

/// A change is live within two seconds; a loaded machine gets as much again, and a bit.
const LIVE: std::time::Duration = std::time::Duration::from_secs(5);

/// The agent as it says `word`: it calls the gate first, and then asks a person.
fn agent(word: &str) -> String {
    format!(
        "name: worker\ndescription: says {word}\nmodel: scripted/{word}\ntools:\n  - name: http_request\n    allow: [\"SINK\"]\n  - ask\n"
    )
}

/// A file with an error in line 3, column 11.
fn broken() -> String {
    agent("broken")
        .replace("description: says broken\nmodel: scripted/broken", "description: says broken\nmax_stepz: 3")
}

const DIALOGUE: &str = "turns:
  - text: I look.
    tool_calls: [{name: http_request, arguments: {method: GET, url: \"http://SINK/\"}}]
  - tool_calls: [{name: ask, arguments: {question: \"Shall I go on?\"}}]
  - text: \"WORD\"
";

async fn house(gate: &Gate) -> House {
    let dialogues = ["first", "second"].map(|word| (word, DIALOGUE.replace("WORD", word)));
    let dialogues = dialogues.each_ref().map(|(name, text)| (*name, text.as_str()));
    let sink = gate.address.to_string();
    House::new(Plan {
        agents: &[("worker", &agent("first"))],
        dialogues: &dialogues,
        sink: Some(sink),
        ..Plan::default()
    })
    .await
}

/// Waits until the config service shows what is wanted, no longer than promised.
async fn live(house: &House, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    let value = house.until("config-service", path, |_, value| wanted(value)).await;
    assert!(begun.elapsed() < LIVE, "{path} took {:?}", begun.elapsed());
    value
}

/// Lets a task that was stopped by the gate and by its question go to its end.
async fn finish(house: &House, id: &str) -> Value {
    house.until_status(id, "waiting").await;
    let (status, answer) =
        house.post(&format!("/tasks/{id}/signal"), &json!({ "name": "answer", "value": "yes" })).await;
    assert_eq!(status, 202, "{answer}");
    house.ended(id).await
}

fn assert_says(task: &Value, word: &str, version: u32) {
    let told = (&task["status"], &task["output"], &task["agent_version"]);
    assert_eq!(told, (&json!("succeeded"), &json!(word), &json!(version)), "{task}");
}

/// The whole story, with a way to write the file.
async fn broken_and_repaired(write: impl Fn(&Path, &str)) {
    let gate = Gate::plain().await;
    let house = house(&gate).await;
    let file = house.agents().join("worker.yml");
    let sink = gate.address.to_string();
    let write = |text: &str| write(&file, &text.replace("SINK", &sink));

    let running = house.ask("worker", "before").await;
    house.until_status(&running, "running").await;
    write(&broken());
    let errors = live(&house, "/configs/errors", |errors| errors.as_array().is_some_and(|list| !list.is_empty())).await;
    let error =
        errors.as_array().expect("errors").iter().find(|error| error["path"] == "max_stepz").expect("the error");
    assert_eq!(
        (&error["file"], &error["line"], &error["column"]),
        (&json!("worker.yml"), &json!(3), &json!(1)),
        "{error}"
    );
    let (_, shown) = house.get("config-service", "/configs/worker").await;
    assert_eq!((&shown["status"], &shown["version"]), (&json!("stale"), &json!(1)), "{shown}");
    assert_eq!(house.task(&running).await["status"], "running", "it runs on");

    let meanwhile = house.ask("worker", "while it is broken").await;
    write(&agent("second"));
    live(&house, "/configs/worker", |shown| shown["version"] == 2 && shown["status"] == "ok").await;
    live(&house, "/configs/errors", |errors| errors == &json!([])).await;
    let after = house.ask("worker", "after").await;
    assert_eq!(house.task(&running).await["status"], "running", "it runs on");

    gate.open();
    assert_says(&finish(&house, &running).await, "first", 1);
    assert_says(&finish(&house, &meanwhile).await, "first", 1);
    assert_says(&finish(&house, &after).await, "second", 2);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_broken_and_repaired_by_rename_never_disturbs_a_task() {
    broken_and_repaired(|file, text| {
        let draft = file.with_file_name(".worker.yml.new");
        fs::write(&draft, text).expect("a draft");
        fs::rename(&draft, file).expect("a rename");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_broken_and_repaired_in_place_never_disturbs_a_task() {
    broken_and_repaired(|file, text| {
        // Truncated, and then written in two parts, as some editors do.
        fs::write(file, "").expect("truncated");
        let middle = text.len() / 2;
        fs::write(file, &text[..middle]).expect("half");
        fs::write(file, text).expect("whole");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_behind_a_symbolic_link_that_is_swapped_never_disturbs_a_task() {
    broken_and_repaired(|file, text| {
        let folder = file.parent().expect("a folder");
        // As a mounted ConfigMap does it: a new folder, and a link that is moved to it.
        let count = fs::read_dir(folder).expect("a folder").count();
        let data = format!("..data-{count}");
        fs::create_dir(folder.join(&data)).expect("a folder");
        fs::write(folder.join(&data).join("worker.yml"), text).expect("a file");
        symlink(&data, folder.join("..data_tmp")).expect("a link");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("a rename");
        if !file.is_symlink() {
            symlink("..data/worker.yml", folder.join(".link")).expect("a link");
            fs::rename(folder.join(".link"), file).expect("a rename");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_edits_a_second_end_with_what_the_last_one_says() {
    let house = House::new(Plan {
        agents: &[("busy", "name: busy\nmodel: scripted/busy\n")],
        dialogues: &[("busy", "turns:\n  - text: Done.\n")],
        ..Plan::default()
    })
    .await;
    let mut tasks = Vec::new();
    for n in 0..100 {
        house.write_agent("busy", &format!("name: busy\nmodel: scripted/busy\ndescription: edit {n}\n"));
        if n % 10 == 0 {
            house.write_agent("busy", "name: busy\nmodel: [\n");
            tasks.push(house.ask("busy", "meanwhile").await);
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    live(&house, "/configs/busy", |shown| shown["description"] == "edit 99" && shown["status"] == "ok").await;
    for id in tasks {
        assert_eq!(house.ended(&id).await["status"], "succeeded", "every task has a version that is whole");
    }
    house.stop().await;
}
