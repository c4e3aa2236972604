//! What a server may send us, whatever the transport: answers to what was asked, once; and not too much of the rest.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, JsonRpcMessage, NumberOrString, RequestId, ServerJsonRpcMessage,
    ServerNotification,
};
use rmcp::transport::Transport;
use tokio::time::Instant;

use crate::fate::Fate;

/// How many messages that nobody asked for are read within a second; whoever sends more is not listened to any more.
const MAX_UNASKED: u32 = 2_000;
/// How many answers to nothing are passed over within a second.
const MAX_STRAY: u32 = 200;

/// A transport whose messages are looked at before anyone else sees them.
pub(crate) struct Policed<T> {
    inner: T,
    rules: Rules,
    fate: Arc<Fate>,
}

impl<T> Policed<T> {
    pub(crate) fn new(inner: T, fate: &Arc<Fate>) -> Self {
        Self { inner, rules: Rules::default(), fate: Arc::clone(fate) }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Policed<T> {
    type Error = T::Error;

    fn send(&mut self, item: ClientJsonRpcMessage) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.rules.sent(&item);
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let message = tokio::select! {
                biased;
                () = self.fate.over.cancelled() => return None,
                message = self.inner.receive() => message?,
            };
            match self.rules.received(&message, Instant::now()) {
                Verdict::Pass => return Some(message),
                Verdict::Drop => {}
                Verdict::Break(why) => self.fate.broken(why),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.fate.over.cancel();
        self.inner.close().await
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
    Break(&'static str),
}

#[derive(Default)]
struct Rules {
    /// What was asked and not yet answered.
    pending: HashSet<String>,
    unasked: Rate,
    stray: Rate,
}

#[derive(Default)]
struct Rate {
    since: Option<Instant>,
    count: u32,
}

impl Rate {
    /// Counts one more within the second that runs.
    fn add(&mut self, now: Instant) -> u32 {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count
    }
}

impl Rules {
    fn sent(&mut self, message: &ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(request) => {
                self.pending.insert(key(&request.id));
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.pending.remove(&key(id));
                }
            }
            _ => {}
        }
    }

    fn received(&mut self, message: &ServerJsonRpcMessage, now: Instant) -> Verdict {
        let answered = match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => match &error.id {
                Some(id) => Some(id),
                // What could not be read cannot be answered; during the handshake the one request is meant.
                None if self.pending.len() == 1 => return Verdict::Pass,
                None => return self.passed_over(now),
            },
            _ => None,
        };
        if let Some(id) = answered {
            return if self.pending.remove(&key(id)) { Verdict::Pass } else { self.passed_over(now) };
        }
        if self.unasked.add(now) > MAX_UNASKED {
            return Verdict::Break("the server sends too many messages that nobody asked for");
        }
        match message {
            // What a server wants to log is its own business.
            JsonRpcMessage::Notification(notification) => match &notification.notification {
                ServerNotification::ProgressNotification(_)
                | ServerNotification::ToolListChangedNotification(_)
                | ServerNotification::SubscriptionsAcknowledgedNotification(_)
                | ServerNotification::CancelledNotification(_) => Verdict::Pass,
                _ => Verdict::Drop,
            },
            _ => Verdict::Pass,
        }
    }

    fn passed_over(&mut self, now: Instant) -> Verdict {
        if self.stray.add(now) > MAX_STRAY {
            return Verdict::Break("the server answers what nobody asked");
        }
        Verdict::Drop
    }
}

/// One spelling of an id: some servers answer the number 1 with the text "1".
fn key(id: &RequestId) -> String {
    match id {
        NumberOrString::Number(number) => number.to_string(),
        NumberOrString::String(text) => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server(value: Value) -> ServerJsonRpcMessage {
        serde_json::from_value(value).unwrap()
    }

    fn asked(rules: &mut Rules, id: i64) {
        let ping = json!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
        rules.sent(&serde_json::from_value(ping).unwrap());
    }

    #[tokio::test]
    async fn an_answer_passes_once_and_an_answer_to_nothing_never() {
        let (mut rules, now) = (Rules::default(), Instant::now());
        asked(&mut rules, 1);
        let answer = |id: Value| server(json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
        assert_eq!(rules.received(&answer(json!(2)), now), Verdict::Drop);
        assert_eq!(rules.received(&answer(json!("1")), now), Verdict::Pass);
        assert_eq!(rules.received(&answer(json!(1)), now), Verdict::Drop);
    }

    #[tokio::test]
    async fn an_answer_after_the_cancellation_is_dropped() {
        let (mut rules, now) = (Rules::default(), Instant::now());
        asked(&mut rules, 7);
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
        rules.sent(&serde_json::from_value(cancel).unwrap());
        let late = server(json!({ "jsonrpc": "2.0", "id": 7, "result": {} }));
        assert_eq!(rules.received(&late, now), Verdict::Drop);
    }

    #[tokio::test]
    async fn a_flood_breaks_the_connection_and_a_trickle_does_not() {
        let noise = server(
            json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info", "data": 1 } }),
        );
        let (mut rules, start) = (Rules::default(), Instant::now());
        for second in 0..10 {
            for _ in 0..1_000 {
                assert_eq!(rules.received(&noise, start + Duration::from_secs(second)), Verdict::Drop);
            }
        }
        let flood = (0..=2_000).map(|_| rules.received(&noise, start + Duration::from_secs(20))).last();
        assert!(matches!(flood, Some(Verdict::Break(_))));
    }
}
