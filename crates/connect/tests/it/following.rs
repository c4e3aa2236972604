//! A platform follows its file of models, and the keys that it names, while it runs.

use std::path::Path;

use connect::models::{Discovery, ModelSettings, discover_with};
use testkit::fake_openai::{FakeOpenAi, Reply};

async fn start(path: &Path) -> Discovery {
    let settings =
        ModelSettings { agentrunner_models: path.to_owned(), agentrunner_probe: false, ..ModelSettings::default() };
    discover_with(&settings, Box::new(|_| None)).await
}

fn file(server: &FakeOpenAi, key: &Path, more: &str) -> String {
    format!(
        "providers: {{p: {{kind: openai-compatible, base_url: \"{}\", api_key: {{file: \"{}\"}}, retries: 0}}}}\n{more}\n",
        server.base_url(),
        key.display()
    )
}

#[tokio::test]
async fn a_change_counts_from_the_next_call_and_a_mistake_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("models.yml"), dir.path().join("key"));
    let server = FakeOpenAi::start().await;
    std::fs::write(&key, "key-one").unwrap();
    std::fs::write(&path, file(&server, &key, "")).unwrap();
    let Discovery { models, mut watch, .. } = start(&path).await;
    crate::failover::ask(&models, "p/m").await.unwrap();
    assert!(models.route("new").is_err());

    std::fs::write(&path, file(&server, &key, "routes: {new: [p/m]}\ndefault: new")).unwrap();
    watch.follow(&models).await;
    crate::failover::ask(&models, "new").await.unwrap();
    assert_eq!(models.default_name().as_deref(), Some("new"));

    std::fs::write(&path, file(&server, &key, "routes: {new: [q/m]}")).unwrap();
    watch.follow(&models).await;
    let problem = models.problem().unwrap();
    assert!(problem.contains("routes.new[0]: there is no provider q"), "{problem}");
    crate::failover::ask(&models, "new").await.expect("the last good one counts");

    std::fs::remove_file(&path).unwrap();
    watch.follow(&models).await;
    assert!(models.problem().unwrap().contains("cannot be read"));
    crate::failover::ask(&models, "new").await.expect("the last good one counts");

    std::fs::write(&path, file(&server, &key, "")).unwrap();
    watch.follow(&models).await;
    assert_eq!(models.problem(), None);
    assert!(models.route("new").is_err());
    let status = models.status().into_iter().find(|status| status.name == "p/m").unwrap();
    assert_eq!(status.calls, 4, "the figures go on");
}

#[tokio::test]
async fn a_new_key_is_taken_without_a_change_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("models.yml"), dir.path().join("key"));
    let server = FakeOpenAi::start().await;
    server.otherwise(|seen| match seen.header("authorization") {
        Some("Bearer key-two") => Reply::text("ok"),
        _ => Reply::error(401, "invalid_api_key", "no"),
    });
    std::fs::write(&key, "key-one\n").unwrap();
    std::fs::write(&path, file(&server, &key, "")).unwrap();
    let Discovery { models, mut watch, .. } = start(&path).await;
    crate::failover::ask(&models, "p/m").await.unwrap_err();
    std::fs::write(&key, "key-two\n").unwrap();
    watch.follow(&models).await;
    crate::failover::ask(&models, "p/m").await.unwrap();
    std::fs::remove_file(&key).unwrap();
    watch.follow(&models).await;
    let told = crate::failover::ask(&models, "p/m").await.unwrap_err().to_string();
    assert!(told.contains("cannot be read"), "{told}");
}

#[tokio::test]
async fn following_goes_on_by_itself_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("models.yml"), dir.path().join("key"));
    let server = FakeOpenAi::start().await;
    std::fs::write(&key, "k").unwrap();
    std::fs::write(&path, file(&server, &key, "")).unwrap();
    let Discovery { models, watch, .. } = start(&path).await;
    let lifecycle = common::lifecycle::Lifecycle::new();
    lifecycle.spawn("models", watch.run(models.clone(), lifecycle.soft().clone()));
    std::fs::write(&path, file(&server, &key, "routes: {new: [p/m]}")).unwrap();
    let followed = async {
        while models.route("new").is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), followed).await.expect("the file is followed");
    lifecycle.shutdown();
    assert_eq!(lifecycle.wait(std::time::Duration::from_secs(10)).await.code(), 0);
}
