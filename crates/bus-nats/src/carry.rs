//! Bodies that do not fit into one message: a message names where they are held, and whoever needs them fetches them
//! piece by piece from there. Nothing is stored on the server, so nothing is left behind when either side dies.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};

use crate::inbox::Held;
use crate::link::{CallError, Link};

const REFERENCE: &str = "Agentrunner-Body";
const SIZE: &str = "Agentrunner-Body-Size";
const OFFSET: &str = "Agentrunner-Offset";
const LENGTH: &str = "Agentrunner-Length";

/// What is left of a message for headers.
const HEADER_ROOM: usize = 1 << 10;
/// How many pieces are under way at once.
const WINDOW: usize = 4;
/// How long one piece may take.
const PIECE: Duration = Duration::from_secs(10);

/// Why a body that was named could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarryError {
    #[error("its reference is malformed")]
    Malformed,
    #[error("it has {bytes} bytes, {limit} are allowed")]
    TooLarge { bytes: usize, limit: usize },
    #[error("whoever holds it is gone")]
    Gone,
    #[error("a piece of it did not come within {} ms", PIECE.as_millis())]
    Timeout,
    #[error(transparent)]
    Call(CallError),
}

/// The most that goes into one message.
pub(crate) fn inline_limit(client: &Client) -> usize {
    client.max_payload().saturating_sub(HEADER_ROOM).max(1)
}

/// Names a held body in a message's headers.
pub(crate) fn refer(headers: &mut HeaderMap, held: &Held, size: usize) {
    headers.insert(REFERENCE, held.subject());
    headers.insert(SIZE, size.to_string());
}

/// Takes the body of a message: the payload itself, or what it refers to.
pub(crate) async fn body(link: &Link, message: &Message, limit: usize) -> Result<Bytes, CarryError> {
    let Some(reference) = header(message, REFERENCE) else { return Ok(message.payload.clone()) };
    let size: usize = number(message, SIZE).ok_or(CarryError::Malformed)?;
    if size > limit {
        return Err(CarryError::TooLarge { bytes: size, limit });
    }
    let _room = link.inbox.room(size).await;
    let step = inline_limit(&link.client);
    let mut pieces = stream::iter((0..size).step_by(step))
        .map(|offset| piece(link, reference, offset, step.min(size - offset)))
        .buffered(WINDOW);
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole.freeze())
}

/// Tells the holder that its body is no longer needed.
pub(crate) async fn release(link: &Link, message: &Message) {
    if let Some(reference) = header(message, REFERENCE) {
        let _ = link.client.publish(reference.to_owned(), Bytes::new()).await;
    }
}

async fn piece(link: &Link, reference: &str, offset: usize, length: usize) -> Result<Bytes, CarryError> {
    let mut headers = HeaderMap::new();
    headers.insert(OFFSET, offset.to_string());
    headers.insert(LENGTH, length.to_string());
    let call = link.call(reference.to_owned(), headers, Bytes::new());
    let answer = match tokio::time::timeout(PIECE, call).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(CallError::NoResponder)) => return Err(CarryError::Gone),
        Ok(Err(error)) => return Err(CarryError::Call(error)),
        Err(_) => return Err(CarryError::Timeout),
    };
    // A holder that has let go answers with nothing.
    if answer.payload.len() == length { Ok(answer.payload) } else { Err(CarryError::Gone) }
}

/// Answers whoever asks for a piece of a held body.
pub(crate) fn give(client: Client, asked: &Message, held: Option<Bytes>) {
    let Some(reply) = asked.reply.clone() else { return };
    let piece = held.and_then(|body| {
        let offset: usize = number(asked, OFFSET)?;
        let length: usize = number(asked, LENGTH)?;
        let end = offset.checked_add(length).filter(|end| *end <= body.len())?;
        (length <= inline_limit(&client)).then(|| body.slice(offset..end))
    });
    // Not here: whoever asks must not hold up those whose answers come in.
    tokio::spawn(async move {
        let _ = client.publish(reply, piece.unwrap_or_default()).await;
    });
}

pub(crate) fn header<'a>(message: &'a Message, name: &'static str) -> Option<&'a str> {
    Some(message.headers.as_ref()?.get(name)?.as_str())
}

fn number<T: std::str::FromStr>(message: &Message, name: &'static str) -> Option<T> {
    header(message, name)?.parse().ok()
}
