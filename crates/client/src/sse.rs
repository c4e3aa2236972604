//! Server-sent events, from bytes as they come: pure.
//!
//! Follows <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>.

use std::time::Duration;

/// The largest event; a server that sends more is not ours.
const EVENT_MAX: usize = 64 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name; `message` is written as nothing.
    pub(crate) name: String,
    /// Its data.
    pub(crate) data: String,
    /// The id that was valid when it came.
    pub(crate) id: Option<String>,
}

/// An event, or a line, was too large.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Puts events together.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    name: String,
    data: String,
    has_data: bool,
    last_id: Option<String>,
    retry: Option<Duration>,
}

impl Parser {
    /// How long the server wishes us to wait before we come back.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Takes the next bytes; returns the events that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&String::from_utf8_lossy(&line)));
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
            if self.line.len() + self.data.len() > EVENT_MAX {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry),
            // A comment, which has no field's name, or a field that we do not know.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        let complete = std::mem::take(&mut self.has_data);
        complete.then(|| Event { name, data, id: self.last_id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn events_are_the_same_however_their_bytes_are_cut() {
        let text = "retry: 1000\n\n: heartbeat\n\nevent: a\nid: 1\ndata: {\"x\":\ndata: 1}\n\n\
                    event:b\r\nid: 2-1\r\ndata: é\r\n\r\ndata\n\nevent: lost\n\n";
        let expected = [event("a", "{\"x\":\n1}", Some("1")), event("b", "é", Some("2-1")), event("", "", Some("2-1"))];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let events: Vec<_> = text.as_bytes().chunks(size).flat_map(|part| parser.push(part).unwrap()).collect();
            assert_eq!(events, expected, "in parts of {size}");
            assert_eq!(parser.retry(), Some(Duration::from_secs(1)));
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let part = vec![b'x'; EVENT_MAX / 4];
        let outcomes: Vec<_> = (0..5).map(|_| parser.push(&part)).collect();
        assert_eq!(outcomes.last(), Some(&Err(TooLarge)));
    }
}
