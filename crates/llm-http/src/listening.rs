//! A stream that is listened to: bounded in size and in silence.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{Asked, Failed, Framing, LONGEST_CALL, Limits};

/// An answer that has ended needs nothing but its usage; that is not waited for any longer.
const AFTER_THE_END: Duration = Duration::from_secs(5);

/// A stream that is listened to, frame by frame.
///
/// Before the first sign of the model nothing but the time of the whole call counts, because reading a long prompt is no
/// silence. Afterwards signs come at most the idle time apart. Frames are no signs by themselves: keep-alives are not
/// the model, so the dialect says `heard`.
pub struct Listening<'a, F: Framing> {
    asked: &'a Asked<'a>,
    response: Response,
    framing: F,
    frames: VecDeque<F::Frame>,
    limits: Limits,
    total: usize,
    idle: Duration,
    heard: Option<Instant>,
    ended: bool,
}

impl<'a, F: Framing> Listening<'a, F> {
    /// Begins to listen.
    pub fn new(asked: &'a Asked<'a>, response: Response, framing: F, limits: Limits, idle: Duration) -> Self {
        let idle = idle.min(LONGEST_CALL);
        Self { asked, response, framing, frames: VecDeque::new(), limits, total: 0, idle, heard: None, ended: false }
    }

    /// The next frame; none at the end of the stream. A connection that breaks is a failure, also after `ended`.
    pub async fn next(&mut self) -> Result<Option<F::Frame>, Failed> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            let patience = if self.ended { self.idle.min(AFTER_THE_END) } else { self.idle };
            let next = match self.heard {
                None => self.response.chunk().await,
                Some(at) => match timeout_at(at + patience, self.response.chunk()).await {
                    Ok(next) => next,
                    Err(_) if self.ended => return Ok(None),
                    Err(_) => return Err(self.asked.silent(self.idle)),
                },
            };
            let next = next.map_err(|_| self.asked.invalid(&"the connection broke in the middle of the answer"))?;
            let Some(bytes) = next else { return Ok(None) };
            self.total += bytes.len();
            if self.total > self.limits.answer_bytes {
                let reason = format!("the answer is longer than {} bytes", self.limits.answer_bytes);
                return Err(self.asked.invalid(&reason));
            }
            self.framing.push(&bytes, &mut self.frames).map_err(|error| self.asked.invalid(&error))?;
        }
    }

    /// The last frame was a sign of the model.
    pub fn heard(&mut self) {
        self.heard = Some(Instant::now());
    }

    /// The answer is whole; what may still come, such as usage, is waited for only briefly, and its absence is no error.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    /// Nothing more is wanted: lets the connection be used again if the end of the body is there already.
    pub async fn finish(mut self) {
        let _ = timeout(Duration::from_millis(20), self.response.chunk()).await;
    }
}

/// The beginning of a body; a body that breaks off ends there.
pub async fn read_up_to(response: &mut Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        let room = limit - body.len();
        body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if body.len() >= limit {
            break;
        }
    }
    body
}

/// The media type of a body in lower case, without its parameters.
pub fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
