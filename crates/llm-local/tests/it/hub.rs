//! Models from a hub: whole, resumed, refused.

use std::path::PathBuf;
use std::time::Duration;

use llm_local::Cache;
use llm_local::pull::{Progress, PullError, PullOptions, pull_url};
use sha2::{Digest, Sha256};

use crate::server::{Reply, Server};

const SOURCE: &str = "hf:owner/repo/Model.gguf";

fn model() -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend((0..200_000_u32).flat_map(u32::to_le_bytes));
    file
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

struct Hub {
    server: Server,
    cache: Cache,
    options: PullOptions,
    _dir: tempfile::TempDir,
}

impl Hub {
    async fn start(replies: Vec<Reply>) -> Self {
        Self::serving(model(), replies).await
    }

    async fn serving(file: Vec<u8>, replies: Vec<Reply>) -> Self {
        let server = Server::start(file, "\"v1\"", replies).await;
        let dir = tempfile::tempdir().unwrap();
        let options = PullOptions {
            hub_url: server.url.clone(),
            retries: 0,
            pause: Duration::from_millis(1),
            ..PullOptions::default()
        };
        Self { cache: Cache::at(dir.path()), server, options, _dir: dir }
    }

    async fn pull(&self, sha256: Option<&str>) -> Result<PathBuf, PullError> {
        pull_url(&self.cache, "m", SOURCE, sha256, &self.options, &mut |_| {}).await
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.cache.dir()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".m.lock");
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_model_is_fetched_checked_and_named() {
    let hub = Hub::start(vec![Reply::File]).await;
    let mut seen: Vec<Progress> = Vec::new();
    let hash = sha256(&model());
    let mut progress = |progress| seen.push(progress);
    let path = pull_url(&hub.cache, "m", SOURCE, Some(&hash), &hub.options, &mut progress).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), model());
    assert_eq!(hub.files(), ["m.gguf"]);
    assert_eq!(hub.cache.find("m"), Some(path));
    assert!(hub.server.requests()[0].starts_with("get /owner/repo/resolve/main/model.gguf"));
    let size = model().len() as u64;
    assert!(seen.contains(&Progress { done: size, total: Some(size), what: "downloading" }));
}

#[tokio::test]
async fn a_cut_connection_is_made_again_and_goes_on_where_it_was() {
    let mut hub = Hub::start(vec![Reply::Cut(300_000), Reply::Status(503), Reply::Cut(100_000), Reply::File]).await;
    hub.options.retries = 3;
    let path = hub.pull(Some(&sha256(&model()))).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), model());
    let requests = hub.server.requests();
    assert!(
        requests[3].contains("range: bytes=400000-") && requests[3].contains("if-range: \"v1\""),
        "{}",
        requests[3]
    );
}

#[tokio::test]
async fn another_call_goes_on_with_what_the_last_one_left() {
    let hub = Hub::start(vec![Reply::Cut(300_000), Reply::File]).await;
    let error = hub.pull(None).await.unwrap_err();
    assert!(matches!(error, PullError::Network { .. }), "{error}");
    assert_eq!(hub.files(), [".m.gguf.part", ".m.gguf.part.json"]);
    let path = hub.pull(None).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), model());
    assert!(hub.server.requests()[1].contains("range: bytes=300000-"));
}

#[tokio::test]
async fn a_part_of_another_file_is_not_continued() {
    let hub = Hub::start(vec![Reply::Cut(300_000), Reply::File]).await;
    hub.pull(None).await.unwrap_err();
    let other = "hf:owner/repo/other.gguf";
    let path = pull_url(&hub.cache, "m", other, None, &hub.options, &mut |_| {}).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), model());
    assert!(!hub.server.requests()[1].contains("range:"));
}

#[tokio::test]
async fn a_file_that_changed_in_between_is_fetched_from_its_start() {
    let hub = Hub::start(vec![Reply::Cut(300_000), Reply::File]).await;
    hub.pull(None).await.unwrap_err();
    let note = hub.cache.dir().join(".m.gguf.part.json");
    let text = std::fs::read_to_string(&note).unwrap();
    std::fs::write(&note, text.replace("v1", "v0")).unwrap();
    let path = hub.pull(None).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), model());
}

#[tokio::test]
async fn a_wrong_hash_is_refused_and_nothing_is_kept() {
    let hub = Hub::start(vec![Reply::File]).await;
    let error = hub.pull(Some(&"0".repeat(64))).await.unwrap_err();
    assert!(matches!(error, PullError::WrongHash { .. }), "{error}");
    assert_eq!(hub.files(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_too_large_is_refused_whether_it_says_so_or_not() {
    for reply in [Reply::File, Reply::Endless] {
        let mut hub = Hub::start(vec![reply]).await;
        hub.options.max_bytes = 100_000;
        let error = hub.pull(None).await.unwrap_err();
        assert!(matches!(error, PullError::TooLarge { limit: 100_000, .. }), "{error}");
        assert_eq!(hub.files(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_page_instead_of_a_model_is_refused() {
    let hub = Hub::serving(b"<html>please log in</html>".to_vec(), vec![Reply::File]).await;
    let error = hub.pull(None).await.unwrap_err();
    assert!(error.to_string().contains("no GGUF file"), "{error}");
    assert_eq!(hub.files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_redirect_is_followed_on_this_machine_and_never_to_plain_http_elsewhere() {
    let target = Server::start(model(), "\"v1\"", vec![Reply::File]).await;
    let hub = Hub::start(vec![Reply::Redirect(format!("{}/cdn", target.url))]).await;
    assert_eq!(std::fs::read(hub.pull(None).await.unwrap()).unwrap(), model());

    let hub = Hub::start(vec![Reply::Redirect("http://example.org/m.gguf".to_owned())]).await;
    let error = hub.pull(None).await.unwrap_err();
    assert!(error.to_string().contains("not https"), "{error}");
}

#[tokio::test]
async fn a_missing_or_gated_model_is_explained() {
    for (status, advice) in [(404, "check the owner"), (401, "licence")] {
        let hub = Hub::start(vec![Reply::Status(status)]).await;
        let error = hub.pull(None).await.unwrap_err();
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[tokio::test]
async fn names_that_are_taken_or_unsafe_are_refused() {
    let hub = Hub::start(vec![Reply::File]).await;
    for name in ["", "../m", "a/b", ".hidden", llm_local::DEFAULT_MODEL] {
        let error = pull_url(&hub.cache, name, SOURCE, None, &hub.options, &mut |_| {}).await.unwrap_err();
        assert!(matches!(error, PullError::Invalid { .. }), "{error}");
    }
    assert!(hub.server.requests().is_empty());
}

#[tokio::test]
async fn two_pulls_of_one_model_do_not_meet() {
    let hub = Hub::start(vec![Reply::File]).await;
    let hash = sha256(&model());
    let (one, two) = tokio::join!(hub.pull(Some(&hash)), hub.pull(Some(&hash)));
    assert_eq!(std::fs::read(one.unwrap()).unwrap(), model());
    assert_eq!(std::fs::read(two.unwrap()).unwrap(), model());
    assert_eq!(hub.files(), ["m.gguf"]);
}
