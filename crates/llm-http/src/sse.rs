//! Server-sent events, read by hand from a stream of bytes that is cut anywhere.
//!
//! The rules are those of the HTML standard, section "Server-sent events": lines end with CR, LF or both; an event ends
//! with an empty line, and without one it never happened. Only the names and the data of events matter here.

use std::collections::VecDeque;

use crate::{Framing, FramingError};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty when it has none.
    pub name: String,
    /// Its data.
    pub data: String,
}

/// Collects bytes into events.
#[derive(Debug)]
pub struct Events {
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    after_return: bool,
    first_line: bool,
    max_line: usize,
}

impl Events {
    /// Events whose lines have at most so many bytes.
    pub fn new(max_line: usize) -> Self {
        Self { line: Vec::new(), name: String::new(), data: None, after_return: false, first_line: true, max_line }
    }

    fn end_line(&mut self, events: &mut VecDeque<Event>) -> Result<(), FramingError> {
        let line = std::str::from_utf8(&self.line).map_err(|_| FramingError::NotUtf8)?;
        let line =
            if std::mem::take(&mut self.first_line) { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            events.extend(self.data.take().map(|data| Event { name, data }));
        } else {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match (field, &mut self.data) {
                ("event", _) => value.clone_into(&mut self.name),
                ("data", Some(data)) => {
                    data.push('\n');
                    data.push_str(value);
                }
                ("data", none) => *none = Some(value.to_owned()),
                _ => {}
            }
        }
        self.line.clear();
        Ok(())
    }
}

impl Framing for Events {
    type Frame = Event;

    fn push(&mut self, mut bytes: &[u8], events: &mut VecDeque<Event>) -> Result<(), FramingError> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + piece.len() > self.max_line {
                return Err(FramingError::TooLong { max: self.max_line });
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { return Ok(()) };
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(events)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Result<Vec<Event>, FramingError> {
        let mut reader = Events::new(10_000);
        let mut events = VecDeque::new();
        for piece in pieces {
            reader.push(piece, &mut events)?;
        }
        Ok(events.into())
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, FramingError> {
        Ok(events(pieces)?.into_iter().map(|event| event.data).collect())
    }

    #[test]
    fn an_event_has_the_name_that_was_given_for_it_and_no_other() {
        let text = b"event: lost\n\nevent: a\nevent: b\ndata: 1\n\ndata: 2\n\n";
        let named: Vec<_> = events(&[text]).unwrap().into_iter().map(|event| (event.name, event.data)).collect();
        assert_eq!(named, [("b".to_owned(), "1".to_owned()), (String::new(), "2".to_owned())]);
    }

    #[test]
    fn events_are_read_by_the_rules() {
        let text = "\u{feff}: hello\r\ndata: one\r\n\r\nevent: x\rdata:two\rdata:  three\r\rdata\n\nid: 7\nretry: 1\n\n\
                    data: é ✓\ndatax: no\n data: no\n\ndata: never ended\n";
        assert_eq!(read(&[text.as_bytes()]).unwrap(), ["one", "two\n three", "", "é ✓"]);
    }

    #[test]
    fn too_long_a_line_and_bytes_that_are_no_text_end_the_stream() {
        let mut reader = Events::new(10);
        let mut events = VecDeque::new();
        assert_eq!(reader.push(b"data: 12345678", &mut events), Err(FramingError::TooLong { max: 10 }));
        assert_eq!(read(&[b"data: \xff\xfe\n\n"]), Err(FramingError::NotUtf8));
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_events(
            lines in prop::collection::vec(prop_oneof![
                Just(String::new()), Just(": note".to_owned()), Just("data".to_owned()), Just("event: x".to_owned()),
                "data: ?[a-zé✓ :{}\"]{0,12}", "[a-z:é]{0,8}",
            ], 0..40),
            ends in prop::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 40),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let text: String = lines.iter().zip(&ends).flat_map(|(line, end)| [line.as_str(), end]).collect();
            let bytes = text.as_bytes();
            let whole = read(&[bytes]).unwrap();
            let each: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&read(&each).unwrap(), &whole);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in at {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(&read(&pieces).unwrap(), &whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..20) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let _ = read(&pieces);
        }
    }
}
