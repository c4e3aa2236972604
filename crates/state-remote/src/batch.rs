//! How several calls are sent as one request, and their answers as one answer.
//!
//! ```text
//! 1 batch\n              1 batch\n
//! append 1034\n…        14\n…
//! claim 180\n…          512\n…
//! ```
//!
//! Each call is a request of its own, as it would be sent alone, behind its method's name and its length; each answer stands
//! behind its length, in the order of the calls.

use bytes::Bytes;

/// Where batches are served, beside the subjects of the methods.
pub(crate) const SUBJECT: &str = "state.batch";
/// The most calls of a batch.
pub(crate) const CALLS_MAX: usize = 64;
/// The most bytes of a batch, so that it stays one message of the bus; a larger call is sent alone.
pub(crate) const BYTES_MAX: usize = 256 << 10;

const FIRST_LINE: &[u8] = b"1 batch\n";
/// The longest line before a call or an answer.
const LINE_MAX: usize = 128;

/// Writes calls.
pub(crate) fn write_calls<'a>(calls: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) -> Bytes {
    let size: usize = calls.clone().map(|(_, frame)| frame.len() + 64).sum();
    let mut batch = Vec::with_capacity(FIRST_LINE.len() + size);
    batch.extend_from_slice(FIRST_LINE);
    for (name, frame) in calls {
        batch.extend_from_slice(format!("{name} {}\n", frame.len()).as_bytes());
        batch.extend_from_slice(frame);
    }
    batch.into()
}

/// Writes answers.
pub(crate) fn write_answers(answers: &[Bytes]) -> Bytes {
    let size: usize = answers.iter().map(|answer| answer.len() + 16).sum();
    let mut batch = Vec::with_capacity(FIRST_LINE.len() + size);
    batch.extend_from_slice(FIRST_LINE);
    for answer in answers {
        batch.extend_from_slice(format!("{}\n", answer.len()).as_bytes());
        batch.extend_from_slice(answer);
    }
    batch.into()
}

/// Reads calls, their methods by name; none when it is no batch, or one of too many calls.
pub(crate) fn read_calls(batch: &Bytes) -> Option<Vec<(String, Bytes)>> {
    let mut calls = Vec::new();
    let mut rest = open(batch)?;
    while !rest.is_empty() {
        let (line, body) = line(&rest)?;
        let (name, length) = line.split_once(' ')?;
        let (frame, after) = cut(&rest, body, length)?;
        calls.push((name.to_owned(), frame));
        rest = after;
        if calls.len() > CALLS_MAX {
            return None;
        }
    }
    Some(calls)
}

/// Reads so many answers; none when it is not that.
pub(crate) fn read_answers(batch: &Bytes, count: usize) -> Option<Vec<Bytes>> {
    let mut answers = Vec::with_capacity(count);
    let mut rest = open(batch)?;
    for _ in 0..count {
        let (length, body) = line(&rest)?;
        let (answer, after) = cut(&rest, body, length)?;
        answers.push(answer);
        rest = after;
    }
    rest.is_empty().then_some(answers)
}

fn open(batch: &Bytes) -> Option<Bytes> {
    batch.starts_with(FIRST_LINE).then(|| batch.slice(FIRST_LINE.len()..))
}

/// The line that `rest` begins with, and where its body begins.
fn line(rest: &[u8]) -> Option<(&str, usize)> {
    let end = rest.iter().take(LINE_MAX).position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(rest.get(..end)?).ok()?, end + 1))
}

/// What begins at `from` and is so long, and what follows it.
fn cut(rest: &Bytes, from: usize, length: &str) -> Option<(Bytes, Bytes)> {
    let digits = !length.is_empty() && length.len() < 10 && length.bytes().all(|byte| byte.is_ascii_digit());
    let end = from.checked_add(digits.then(|| length.parse().ok())??)?;
    if end > rest.len() {
        return None;
    }
    Some((rest.slice(from..end), rest.slice(end..)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_batch_is_refused() {
        let many = format!("1 batch\n{}", "ping 0\n".repeat(CALLS_MAX + 1));
        for text in [
            "",
            "1 batch",
            "2 batch\n",
            "1 batch\nping",
            "1 batch\nping\n",
            "1 batch\nping 1\n",
            "1 batch\nping -1\n",
            "1 batch\nping +0\n",
            "1 batch\nping 99999999999999999999\n",
            "1 batch\n\u{e9}",
            &many,
        ] {
            assert!(read_calls(&Bytes::copy_from_slice(text.as_bytes())).is_none(), "{text}");
        }
        for text in ["", "1 batch\n", "1 batch\n1\n", "1 batch\n1\nab", "1 batch\n0\n0\n", "1 ok\nnull"] {
            assert!(read_answers(&Bytes::copy_from_slice(text.as_bytes()), 1).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..CALLS_MAX)) {
            let bodies: Vec<Bytes> = bodies.into_iter().map(Bytes::from).collect();
            let calls = write_calls(bodies.iter().map(|body| ("append", body.as_ref())));
            let read = read_calls(&calls).unwrap();
            prop_assert!(read.iter().all(|(name, _)| name == "append"));
            prop_assert!(read.iter().map(|(_, body)| body).eq(&bodies));
            prop_assert_eq!(read_answers(&write_answers(&bodies), bodies.len()), Some(bodies));
        }

        #[test]
        fn rubbish_is_read_without_harm(rubbish in prop::collection::vec(any::<u8>(), 0..300), count in 0..70_usize) {
            let rubbish = Bytes::from([FIRST_LINE, &rubbish].concat());
            let _ = (read_calls(&rubbish), read_answers(&rubbish, count));
        }
    }
}
