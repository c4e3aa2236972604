//! Frames of an event stream, with their checksums, read from bytes that are cut anywhere.

use std::collections::VecDeque;

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::{Buf, BytesMut};
use llm_http::{Framing, FramingError};

/// Collects bytes into frames.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: BytesMut,
    decoder: MessageFrameDecoder,
    /// The beginning of a frame is read as soon as it is there, so its length is looked at before.
    at_start: bool,
    max_frame: usize,
}

impl Frames {
    /// Frames of at most so many bytes.
    pub(crate) fn new(max_frame: usize) -> Self {
        Self { bytes: BytesMut::new(), decoder: MessageFrameDecoder::new(), at_start: true, max_frame }
    }
}

/// The length of a frame, of its headers, and a checksum of both.
const PRELUDE: usize = 12;

impl Framing for Frames {
    type Frame = Message;

    fn push(&mut self, bytes: &[u8], frames: &mut VecDeque<Message>) -> Result<(), FramingError> {
        self.bytes.extend_from_slice(bytes);
        loop {
            if self.at_start {
                if self.bytes.len() < PRELUDE {
                    return Ok(());
                }
                let length = (&self.bytes[..4]).get_u32() as usize;
                if length > self.max_frame {
                    return Err(FramingError::TooLong { max: self.max_frame });
                }
                self.at_start = false;
            }
            match self.decoder.decode_frame(&mut self.bytes) {
                Ok(DecodedFrame::Complete(frame)) => {
                    self.at_start = true;
                    frames.push_back(frame);
                }
                Ok(DecodedFrame::Incomplete) => return Ok(()),
                Err(_) => return Err(FramingError::Damaged("a frame is not whole, or its checksum is wrong")),
            }
        }
    }
}

/// A header of a frame that is text.
pub(crate) fn header<'a>(frame: &'a Message, name: &str) -> Option<&'a str> {
    let header = frame.headers().iter().find(|header| header.name().as_str() == name)?;
    header.value().as_string().ok().map(aws_smithy_types::str_bytes::StrBytes::as_str)
}
