//! What a model is asked, and the most that it may cost.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Amount, Failure, FailureKind, Image, Message, Usd};
use llm::{Candidate, ChatRequest};

use super::{Leave, Run};

/// The longest answer in tokens of a task with a budget, where neither its agent nor the model has a limit.
pub const DEFAULT_OUTPUT_WITH_BUDGET: u32 = 4_096;
/// No answer without a limit is longer than this many tokens.
const LONGEST_ANSWER: u64 = 131_072;
/// An answer that may have fewer tokens than this is not worth asking for.
const SHORTEST_ANSWER: u64 = 16;
/// The largest picture in bytes.
const MAX_PICTURE: u64 = 10 * 1024 * 1024;
/// How a picture is named that is kept with the task.
const ARTIFACT: &str = "artifact:";

/// What a call of one model may take.
#[derive(Clone, Copy)]
pub(super) struct Planned {
    /// The longest answer; none is what the provider takes for it.
    pub(super) answer: Option<u32>,
    /// The most tokens that the question is read as.
    pub(super) input_most: u64,
    /// The most that the call can use.
    pub(super) most: Amount,
    /// `limits.max_tokens` allows no longer answer, although the model does.
    pub(super) cut_by_limit: bool,
}

impl Run<'_> {
    /// What is asked, whichever model it is.
    pub(super) async fn question(&mut self) -> Result<ChatRequest, Leave> {
        if self.pictures.is_none() && !self.history.input().images.is_empty() {
            let images = self.history.input().images.clone();
            self.pictures = Some(self.load(images).await?);
        }
        let mut messages = self.history.messages().to_vec();
        if let Some(pictures) = &self.pictures {
            // Only the request of the task has pictures.
            for message in &mut messages {
                if let Message::User { images, .. } = message
                    && !images.is_empty()
                {
                    images.clone_from(pictures);
                }
            }
        }
        let spec = &self.prepared.agent.model;
        Ok(ChatRequest {
            model: String::new(),
            messages,
            tools: self.prepared.tools.clone(),
            output_schema: self.prepared.agent.output_schema.clone(),
            temperature: spec.temperature,
            max_output_tokens: spec.max_output_tokens,
            effort: spec.effort,
            timeout: self.time_left(spec.timeout.0),
            idle_timeout: spec.idle_timeout.0,
        })
    }

    /// Finds what a call of a model may take at most, or says why the task's limit on tokens does not allow it.
    pub(super) fn plan(&self, candidate: &Candidate, question: &mut ChatRequest) -> Result<Planned, Failure> {
        let counted = self.history.counted_by(&candidate.name);
        let known = counted.map_or(0, |(_, tokens)| tokens);
        let mut input_most = self.read_at_most(question, counted);
        if let Some(window) = candidate.context_window {
            input_most = input_most.min(window);
        }
        // Ordinary text has a third as many tokens as bytes; that is careful enough for what is no money.
        let reading = known.min(input_most) + input_most.saturating_sub(known).div_ceil(3);
        let limit = self.prepared.rules.max_tokens();
        let tried: u64 = self.tries.iter().map(|tried| tried.usage.total()).sum();
        let used = self.history.counted_tokens().saturating_add(tried);
        let room = limit.saturating_sub(used).saturating_sub(reading);
        if room < SHORTEST_ANSWER.min(limit) {
            let message = format!("limits.max_tokens: {used} of {limit} used, and the next call may read {reading}");
            return Err(Failure::new(FailureKind::LimitExceeded, message));
        }
        let paid = self.has_accounts();
        let own = self.prepared.agent.model.max_output_tokens;
        let bound = match (own, candidate.max_output_tokens) {
            (Some(own), Some(most)) => Some(own.min(most)),
            (own, most) => own.or(most),
        };
        let bound = bound.or(paid.then_some(DEFAULT_OUTPUT_WITH_BUDGET)).map(u64::from);
        let (answer, cut_by_limit) = match bound {
            Some(bound) if bound > room => (Some(room), true),
            // Without a budget a model keeps its provider's default.
            Some(bound) => ((paid || own.is_some()).then_some(bound), false),
            None if room < LONGEST_ANSWER => (Some(room.min(u64::from(DEFAULT_OUTPUT_WITH_BUDGET))), true),
            None => (None, false),
        };
        let answer = answer.map(|answer| u32::try_from(answer).unwrap_or(u32::MAX));
        let output = u64::from(answer.unwrap_or_default());
        let most = Amount {
            usd: candidate.price.map_or(Usd::default(), |price| price.most(input_most, output)),
            tokens: input_most.saturating_add(output),
            model_calls: 1,
            tool_calls: 0,
        };
        Ok(Planned { answer, input_most, most, cut_by_limit })
    }

    /// The most tokens that a question is read as.
    fn read_at_most(&self, question: &mut ChatRequest, counted: Option<(usize, u64)>) -> u64 {
        // What the agent's tools and schema take is known; a model that has counted in this run has counted them.
        let offered = if counted.is_some() && self.spoke { 0 } else { self.prepared.offered };
        let tools = std::mem::take(&mut question.tools);
        let schema = question.output_schema.take();
        let said = llm::most_tokens(question, counted);
        (question.tools, question.output_schema) = (tools, schema);
        said.saturating_add(offered).saturating_add(reasoning_bytes(question, counted))
    }

    /// Makes `data:` URLs of the pictures that are kept with the task.
    async fn load(&self, images: Vec<Image>) -> Result<Vec<Image>, Leave> {
        let parts = &self.driver.parts;
        let kept = parts.state.artifacts(&self.task.namespace, self.task.id).await?;
        let refuse = |message: String| Leave::failure(FailureKind::ModelRefused, message);
        let mut loaded = Vec::with_capacity(images.len());
        for image in images {
            let Some(name) = image.url.strip_prefix(ARTIFACT) else {
                let on_the_web = image.url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
                if !on_the_web && !image.url.starts_with("data:image/") {
                    return Err(refuse("a picture of the input is neither https://… nor artifact:NAME".to_owned()));
                }
                loaded.push(image);
                continue;
            };
            let Some(artifact) = kept.iter().find(|artifact| artifact.name == name) else {
                return Err(refuse(format!("the picture {name} is not among the files of the task")));
            };
            if artifact.size > MAX_PICTURE {
                let size = artifact.size;
                return Err(refuse(format!("the picture {name} has {size} bytes; {MAX_PICTURE} are allowed")));
            }
            let media_type = image.media_type.clone().unwrap_or_else(|| artifact.media_type.clone());
            if !media_type.starts_with("image/") {
                return Err(refuse(format!("the file {name} is no picture: its media type is {media_type}")));
            }
            let bytes = match parts.blobs.get(&artifact.digest).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Err(refuse(format!("the bytes of the picture {name} are gone"))),
                Err(error) => return Err(Leave::failure(FailureKind::Internal, format!("picture {name}: {error}"))),
            };
            let url = format!("data:{media_type};base64,{}", STANDARD.encode(&bytes));
            loaded.push(Image { url, media_type: Some(media_type) });
        }
        Ok(loaded)
    }
}

/// What a model thought before is read again by some providers.
fn reasoning_bytes(question: &ChatRequest, counted: Option<(usize, u64)>) -> u64 {
    let skip = counted.map_or(0, |(messages, _)| messages);
    let mut bytes = 0;
    for message in question.messages.iter().skip(skip) {
        if let Message::Assistant { reasoning, .. } = message {
            for piece in reasoning {
                bytes += piece.text.len() + piece.opaque.as_ref().map_or(0, |opaque| opaque.to_string().len());
            }
        }
    }
    bytes as u64
}
