//! How a stream of bytes, cut anywhere, becomes the pieces that a dialect reads.

use std::collections::VecDeque;

/// Collects bytes into frames. What is not whole at the end of the stream never happened.
pub trait Framing: Send {
    /// A whole piece of the stream.
    type Frame: Send;

    /// Takes the next bytes and gives the frames that they complete to `frames`.
    fn push(&mut self, bytes: &[u8], frames: &mut VecDeque<Self::Frame>) -> Result<(), FramingError>;
}

/// Why a stream cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Too long a line or frame.
    #[error("a line of the stream is longer than {max} bytes")]
    TooLong {
        /// The longest that is borne.
        max: usize,
    },
    /// Bytes that are no text.
    #[error("the stream is not UTF-8")]
    NotUtf8,
    /// A frame that is damaged.
    #[error("the stream is damaged: {0}")]
    Damaged(&'static str),
}

/// One frame a line, as in newline-delimited JSON. Empty lines are no frames, and a last line without an end is none either.
#[derive(Debug)]
pub struct Lines {
    line: Vec<u8>,
    max_line: usize,
}

impl Lines {
    /// Lines of at most so many bytes.
    pub fn new(max_line: usize) -> Self {
        Self { line: Vec::new(), max_line }
    }
}

impl Framing for Lines {
    type Frame = String;

    fn push(&mut self, mut bytes: &[u8], frames: &mut VecDeque<String>) -> Result<(), FramingError> {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + piece.len() > self.max_line {
                return Err(FramingError::TooLong { max: self.max_line });
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { return Ok(()) };
            bytes = &bytes[end + 1..];
            let line = std::str::from_utf8(&self.line).map_err(|_| FramingError::NotUtf8)?.trim();
            if !line.is_empty() {
                frames.push_back(line.to_owned());
            }
            self.line.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_bytes_are_cut() {
        let text = "{\"a\":\"é\"}\r\n\n  \n{\"b\":1}\nnever ended".as_bytes();
        for size in 1..=text.len() {
            let mut lines = Lines::new(100);
            let mut frames = VecDeque::new();
            for piece in text.chunks(size) {
                lines.push(piece, &mut frames).unwrap();
            }
            assert_eq!(frames, ["{\"a\":\"é\"}", "{\"b\":1}"]);
        }
    }

    #[test]
    fn too_long_a_line_and_bytes_that_are_no_text_are_refused() {
        let mut frames = VecDeque::new();
        assert_eq!(Lines::new(10).push(&[b'x'; 11], &mut frames), Err(FramingError::TooLong { max: 10 }));
        assert_eq!(Lines::new(10).push(b"\xff\n", &mut frames), Err(FramingError::NotUtf8));
    }
}
