//! Messages as they were recorded: this version reads and answers them, as versions beside it do.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, RequestHandler, Requests, ServeGuard};
use bytes::Bytes;
use serde_json::Value;
use state::{State, StateError};
use state_remote::ClientOptions;

use crate::network::Network;
use crate::script;
use crate::support::{PATIENCE, Platform, client};

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "v1"].iter().collect()
}

/// The recorded exchanges in order: subject, request, answer.
pub(crate) fn recorded() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder of recorded messages")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "request"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let subject = format!("state.{}", name.split_once('-').expect("a number and a method").1);
        let request = std::fs::read(&path).expect("a request");
        (subject, request, std::fs::read(path.with_extension("answer")).expect("its answer"))
    };
    files.into_iter().map(read).collect()
}

/// Writes the exchanges of today's version; the files that are there are never written again.
#[tokio::test]
#[ignore = "records messages once for every version of the protocol"]
async fn record() {
    let platform = Platform::start().await;
    let network = Network::around(platform.requests.clone());
    script::play(&*client(network.clone(), ClientOptions::default()), platform.now()).await;
    std::fs::create_dir_all(folder()).unwrap();
    for (n, (subject, request, answer)) in network.answers().into_iter().enumerate() {
        let path = folder().join(format!("{n:02}-{}.request", subject.strip_prefix("state.").unwrap()));
        assert!(!path.exists(), "recorded messages are never changed");
        std::fs::write(&path, request).unwrap();
        std::fs::write(path.with_extension("answer"), answer).unwrap();
    }
}

#[tokio::test]
async fn recorded_requests_are_answered_as_they_were_but_for_new_fields() {
    let platform = Platform::start().await;
    let exchanges = recorded();
    assert!(exchanges.len() > 50);
    for (subject, request, expected) in exchanges {
        let answer = platform.requests.request(&subject, Bytes::from(request), PATIENCE).await.unwrap();
        assert_covers(&subject, &answer, &expected);
    }
}

#[tokio::test]
async fn fields_of_a_newer_version_are_ignored() {
    let platform = Platform::start().await;
    for (subject, request, expected) in recorded() {
        let text = String::from_utf8(request).unwrap();
        let (header, arguments) = text.split_once('\n').unwrap();
        let header = header.replacen('{', "{\"newer\":{\"a\":[1]},", 1);
        let comma = if arguments == "{}" { "" } else { "," };
        let arguments = arguments.replacen('{', &format!("{{\"newer\":\"x\"{comma}"), 1);
        let request = Bytes::from(format!("{header}\n{arguments}"));
        let answer = platform.requests.request(&subject, request, PATIENCE).await.unwrap();
        assert_covers(&subject, &answer, &expected);
    }
}

#[tokio::test]
async fn a_header_of_an_older_version_that_says_less_is_understood() {
    let platform = Platform::start().await;
    let answer = platform.requests.request("state.ping", Bytes::from_static(b"1 {}\n{}"), PATIENCE).await.unwrap();
    assert_eq!(&answer[..], b"1 ok\nnull");
}

#[tokio::test]
async fn recorded_answers_are_understood_and_newer_fields_in_them_ignored() {
    for newer in [false, true] {
        let platform = Platform::unserved(Arc::new(bus::InprocBus::default()));
        let old = Arc::new(Replay { newer, answers: Mutex::new(recorded().into()) });
        let played = script::play(&*client(old, ClientOptions::default()), platform.now()).await;
        let straight = script::play(&*platform.store, platform.now()).await;
        assert_eq!(played, straight, "the same as the record says by itself");
    }
}

#[tokio::test]
async fn an_error_that_is_not_known_yet_is_told_as_unavailable() {
    let answer = b"1 error\n{\"kind\":\"quota_exceeded\",\"detail\":{\"of\":\"a\"}}".to_vec();
    let old = Replay { newer: false, answers: Mutex::new([("state.ping".to_owned(), Vec::new(), answer)].into()) };
    let error = client(Arc::new(old), ClientOptions::default()).ping().await.unwrap_err();
    assert!(matches!(&error, StateError::Unavailable(text) if text.contains("quota_exceeded")), "{error}");
}

/// Asserts that `answer` says all that `expected` does.
fn assert_covers(subject: &str, answer: &[u8], expected: &[u8]) {
    let read = |frame: &[u8]| {
        let text = String::from_utf8(frame.to_vec()).unwrap();
        let (word, body) = text.split_once('\n').unwrap();
        (word.to_owned(), serde_json::from_str::<Value>(body).unwrap())
    };
    let ((word, mut body), (expected_word, mut expected)) = (read(answer), read(expected));
    if subject == "state.leases" {
        // The record names them in no order.
        for list in [&mut body, &mut expected].into_iter().filter_map(Value::as_array_mut) {
            list.sort_by_key(|beat| beat["lease"]["task"].to_string());
        }
    }
    assert_eq!(word, expected_word, "{subject}: {body}");
    assert!(covers(&body, &expected), "{subject}: {body} lacks something of {expected}");
}

fn covers(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Object(value), Value::Object(expected)) => expected.iter().all(|(key, expected)| {
            // How large the store is on disk is not a matter of the protocol.
            key == "bytes" || value.get(key).is_some_and(|value| covers(value, expected))
        }),
        (Value::Array(value), Value::Array(expected)) => {
            value.len() == expected.len() && value.iter().zip(expected).all(|(value, expected)| covers(value, expected))
        }
        _ => value == expected,
    }
}

/// A server of another version: it gives recorded answers, one after another.
struct Replay {
    /// With a field in every object that we do not know.
    newer: bool,
    answers: Mutex<VecDeque<Recorded>>,
}

/// The subject, the request and the answer.
type Recorded = (String, Vec<u8>, Vec<u8>);

#[async_trait]
impl Requests for Replay {
    async fn request(&self, subject: &str, _: Bytes, _: Duration) -> Result<Bytes, BusError> {
        let (of, _, answer) = self.answers.lock().unwrap().pop_front().expect("no more calls than were recorded");
        assert_eq!(of, subject);
        let text = String::from_utf8(answer).unwrap();
        let (word, body) = text.split_once('\n').unwrap();
        // A reservation's answer is the name of what happened; every other object is a set of fields.
        let has_fields = word == "1 ok" && body.starts_with('{') && body != "{}" && subject != "state.reserve";
        let answer = if self.newer && has_fields {
            format!("{word}\n{}", body.replacen('{', "{\"newer\":[{}],", 1))
        } else {
            text
        };
        Ok(Bytes::from(answer))
    }

    async fn serve(&self, subject: &str, _: Arc<dyn RequestHandler>) -> Result<ServeGuard, BusError> {
        Err(BusError::NoResponder { subject: subject.to_owned() })
    }
}
