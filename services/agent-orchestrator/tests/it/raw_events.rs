//! An event stream as it comes over the wire, with the ids.

use serde_json::Value;

use crate::platform::{PATIENCE, Platform};

pub(crate) struct RawEvents {
    response: reqwest::Response,
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawEvent {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl RawEvents {
    pub(crate) async fn open(platform: &Platform, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = platform.get(path);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<RawEvent> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse(block);
                self.text.drain(..self.text.len() - rest.len());
                if event.is_some() {
                    return event;
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("an event in time");
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }

    /// Events with an id, up to and with `last`.
    pub(crate) async fn ids_until(&mut self, last: &str) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.last().is_none_or(|id| id != last) {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended after {ids:?}, before {last}"));
            ids.extend(event.id);
        }
        ids
    }

    pub(crate) async fn rest(mut self) -> Vec<RawEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn parse(block: &str) -> Option<RawEvent> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(RawEvent {
        name: field("event")?.to_owned(),
        id: field("id").map(str::to_owned),
        data: serde_json::from_str(field("data")?).unwrap(),
    })
}
