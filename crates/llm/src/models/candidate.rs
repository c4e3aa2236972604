//! One call: choosing where it goes, waiting for a place, and trying again while that costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::Usage;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::node::{Blocked, Hub, Place, Seat};
use crate::{ChatAnswer, ChatRequest, DeltaSink, EmbedRequest, Embeddings, LlmError, Price, estimate_usage, tokens_of};

/// However patient a request is.
const LONGEST_CALL: Duration = Duration::from_secs(24 * 3_600);
/// The most that is waited before the first repetition; doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// What an answer is taken for that has no limit of its own, until it is there.
const USUAL_ANSWER: u64 = 1_024;

/// One model of a route, or several nodes that are as good as each other.
#[derive(Clone)]
pub struct Candidate {
    /// `provider/name`; for several nodes the route's name and the model's.
    pub name: String,
    /// What it costs; none is unknown. Of several nodes the dearest.
    pub price: Option<Price>,
    /// Tokens that it can read and write in one call, when known.
    pub context_window: Option<u64>,
    /// Tokens that it can write in one call, when known.
    pub max_output_tokens: Option<u32>,
    pub(super) places: Arc<[Place]>,
    pub(super) hub: Arc<Hub>,
}

#[derive(Clone, Copy)]
enum Ask<'a> {
    Chat(&'a ChatRequest, &'a DeltaSink<'a>),
    Embed(&'a EmbedRequest),
}

enum Said {
    Answer(ChatAnswer),
    Vectors(Embeddings),
}

impl Candidate {
    /// Asks the model: `request.model` is filled in, and the answer's usage has its cost.
    ///
    /// Tries again by itself, at another node first, as long as nothing was spoken and what failed was not billed: the
    /// provider was not reached, failed, or asked to slow down. Waits a short time for a place; a call that would wait
    /// longer ends as rate limited and says for how long, so that its task can wait without a worker. All of it stays
    /// within `request.timeout`.
    pub async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        match self.ask(Ask::Chat(request, on_delta), request.timeout).await? {
            Said::Answer(answer) => Ok(answer),
            Said::Vectors(_) => unreachable!("a chat is answered by a chat"),
        }
    }

    /// Makes vectors of texts: `request.model` is filled in, and the usage has its cost. Waits and tries again as
    /// [`chat`](Self::chat) does.
    pub async fn embed(&self, request: &EmbedRequest) -> Result<Embeddings, LlmError> {
        match self.ask(Ask::Embed(request), request.timeout).await? {
            Said::Vectors(vectors) => Ok(vectors),
            Said::Answer(_) => unreachable!("texts are answered by vectors"),
        }
    }

    async fn ask(&self, ask: Ask<'_>, limit: Duration) -> Result<Said, LlmError> {
        let deadline = Instant::now() + limit.min(LONGEST_CALL);
        let spoke = AtomicBool::new(false);
        let mut tried = vec![false; self.places.len()];
        let mut failed: u32 = 0;
        let mut rounds: u32 = 0;
        let mut last = None;
        // Weighing a conversation means walking through all of it.
        let weighed = self.places.iter().any(|place| place.settings.limits.tokens_per_minute.is_some());
        let tokens = if weighed { ask.tokens() } else { 0 };
        loop {
            let (index, seat) = self.seat(tokens, &tried, deadline, last.take()).await?;
            let place = seat.place;
            let outcome = ask.put(place, deadline, limit, &spoke).await;
            let spoke = spoke.load(Ordering::Relaxed);
            seat.end(outcome.as_ref().map(Said::usage), self.places.len() > 1 && !spoke);
            let error = match outcome {
                Ok(said) => return Ok(said),
                Err(error) => error,
            };
            failed += 1;
            tried[index] = true;
            let retries = place.settings.retries;
            // Each node may be tried once, and then so many times more.
            let most = self.places.len() as u32 + retries;
            let elsewhere = tried.iter().any(|tried| !tried);
            if spoke || retries == 0 || failed >= most || !may_be_repeated(&error, place, elsewhere) {
                return Err(error);
            }
            tracing::debug!(%error, failed, "model call is repeated");
            if tried.iter().all(|tried| *tried) {
                tried.fill(false);
                let most = FIRST_BACKOFF.saturating_mul(1 << rounds.min(16)).min(LONGEST_BACKOFF);
                let until = Instant::now() + self.hub.jitter.between(Duration::ZERO, most);
                rounds += 1;
                if until >= deadline {
                    return Err(error);
                }
                sleep_until(until).await;
            }
            last = Some(error);
        }
    }

    /// Waits for a place, for no longer than its node's settings allow. `last` is why the call before failed, which
    /// says more than that there is no place for another one.
    async fn seat(
        &self,
        tokens: u64,
        tried: &[bool],
        deadline: Instant,
        last: Option<LlmError>,
    ) -> Result<(usize, Seat<'_>), LlmError> {
        let begun = Instant::now();
        loop {
            let freed = self.hub.freed.notified();
            tokio::pin!(freed);
            // Who looks first and listens then misses a place that becomes free in between.
            freed.as_mut().enable();
            let blocked = match self.choose(tokens, tried) {
                Ok((index, seat)) => match seat.agreed().await {
                    Some(seat) => return Ok((index, seat)),
                    None => continue,
                },
                Err(blocked) => blocked,
            };
            let (blocked, patience) = blocked;
            let now = Instant::now();
            let until = (begun + patience).min(deadline);
            let worth_it = match blocked {
                Blocked::Full(_) => now < until,
                other => now + other.wait() <= until,
            };
            if !worth_it {
                return Err(last.map_or_else(|| blocked.error(&self.name), |last| later(last, blocked.wait())));
            }
            let wake = match blocked {
                Blocked::Full(_) => until,
                other => now + other.wait(),
            };
            tokio::select! {
                () = &mut freed => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Takes a seat at the best place that has one: not tried yet, not known to be down, with the fewest calls under way.
    /// Without one, says what stands in the way where it passes soonest, and how long that may be waited for.
    fn choose(&self, tokens: u64, tried: &[bool]) -> Result<(usize, Seat<'_>), (Blocked, Duration)> {
        let mut order: Vec<_> = self
            .places
            .iter()
            .enumerate()
            .map(|(index, place)| {
                let chance = if self.places.len() > 1 {
                    self.hub.jitter.between(Duration::ZERO, Duration::from_secs(1))
                } else {
                    Duration::ZERO
                };
                let down = place.node.up() == Some(false);
                ((tried[index], down, place.node.outstanding(), chance), index)
            })
            .collect();
        order.sort_unstable();
        let mut soonest: Option<(Blocked, Duration)> = None;
        for (_, index) in order {
            let place = &self.places[index];
            match place.enter(tokens) {
                Ok(seat) => return Ok((index, seat)),
                Err(blocked) => {
                    if soonest.is_none_or(|(known, _)| blocked.wait() < known.wait()) {
                        soonest = Some((blocked, place.settings.max_wait));
                    }
                }
            }
        }
        // A candidate has at least one place.
        Err(soonest.unwrap_or((Blocked::Open(Duration::ZERO), Duration::ZERO)))
    }
}

impl Ask<'_> {
    /// About how many tokens it is, for the limits of a node.
    fn tokens(self) -> u64 {
        match self {
            Ask::Chat(request, _) => {
                let answer = request.max_output_tokens.map_or(USUAL_ANSWER, |most| u64::from(most).min(USUAL_ANSWER));
                estimate_usage(request, 0).input_tokens.saturating_add(answer)
            }
            Ask::Embed(request) => request.texts.iter().map(|text| tokens_of(text.len())).sum(),
        }
    }

    async fn put(
        self,
        place: &Place,
        deadline: Instant,
        limit: Duration,
        spoke: &AtomicBool,
    ) -> Result<Said, LlmError> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let asked = async {
            match self {
                Ask::Chat(request, on_delta) => {
                    let request = ChatRequest { model: place.model.clone(), timeout, ..request.clone() };
                    let on_delta = |text: &str| {
                        spoke.store(true, Ordering::Relaxed);
                        on_delta(text);
                    };
                    let mut answer = place.chat.chat(&request, &on_delta).await?;
                    bill(place, &mut answer.usage);
                    Ok(Said::Answer(answer))
                }
                Ask::Embed(request) => {
                    let request = EmbedRequest { model: place.model.clone(), timeout, ..request.clone() };
                    let mut vectors = place.chat.embed(&request).await?;
                    bill(place, &mut vectors.usage);
                    Ok(Said::Vectors(vectors))
                }
            }
        };
        // An adapter keeps the same limit; this one holds for an adapter that does not.
        let silent = || LlmError::Timeout { model: place.name.clone(), millis: limit.as_millis() as u64 };
        timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(silent()))
    }
}

fn bill(place: &Place, usage: &mut Usage) {
    if let Some(price) = &place.price {
        usage.cost = price.cost(usage);
    }
}

impl Said {
    fn usage(&self) -> &Usage {
        match self {
            Self::Answer(answer) => &answer.usage,
            Self::Vectors(vectors) => &vectors.usage,
        }
    }
}

/// Tells whether a call that failed was surely not billed and may go better. Silence may be billed: the provider may still
/// have worked. What one node refuses may be allowed at another, which has another key and other models.
fn may_be_repeated(error: &LlmError, place: &Place, elsewhere: bool) -> bool {
    match error {
        LlmError::RateLimited { .. } | LlmError::Busy { .. } | LlmError::Unavailable { .. } => true,
        LlmError::Refused { .. } => elsewhere,
        LlmError::Timeout { .. } => place.price == Some(Price::FREE),
        _ => false,
    }
}

/// The same error, told to come back no sooner than it can be tried again.
fn later(error: LlmError, wait: Duration) -> LlmError {
    let least = |asked: Option<Duration>| Some(asked.unwrap_or_default().max(wait));
    match error {
        LlmError::RateLimited { model, retry_after } => {
            LlmError::RateLimited { model, retry_after: least(retry_after) }
        }
        LlmError::Busy { model, retry_after } => LlmError::Busy { model, retry_after: least(retry_after) },
        LlmError::Unavailable { model, reason, retry_after } => {
            LlmError::Unavailable { model, reason, retry_after: least(retry_after) }
        }
        other => other,
    }
}
