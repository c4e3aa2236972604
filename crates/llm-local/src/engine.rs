//! One loaded model: conversation in, text out, a token at a time, on the thread that calls it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file;
use candle_core::{Device, IndexOp, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use candle_transformers::utils::apply_repeat_penalty;
use domain::{FinishReason, Usage};
use llm::{ChatAnswer, ChatRequest, LlmError};
use tokenizers::Tokenizer;

use crate::conversation::{disarm, turns};
use crate::cores::on_one_core;
use crate::detokenize::{Utf8Stream, Vocabulary};
use crate::template::{CHATML, Template};
use crate::tokenizer::{self, number_of, text};
use crate::weights;

/// How much of the prompt is read between two looks at whether anybody still waits.
const PROMPT_CHUNK: usize = 256;
/// A model with no more parameters is faster on one core than on all, unless nothing else runs.
const SMALL: usize = 500_000_000;
/// The longest answer when the request names no limit.
const DEFAULT_OUTPUT: u32 = 512;
/// The part of the context, at least, that is kept for the answer.
const ANSWER_SHARE: usize = 8;
const DEFAULT_TEMPERATURE: f64 = 0.2;
const COLD: f64 = 0.01;
const TOP_K: usize = 40;
const TOP_P: f64 = 0.9;
/// Makes what the answer already said a little less likely: a model this small runs in circles otherwise.
const REPEAT_PENALTY: f32 = 1.1;
const REPEAT_WINDOW: usize = 64;
/// Tokens that end an answer in one family of models or another.
const ENDS: [&str; 6] = ["<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "</s>"];

/// A loaded model.
pub(crate) struct Engine {
    model: String,
    weights: ModelWeights,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    template: Template,
    ends: Vec<u32>,
    bos: Option<u32>,
    context: usize,
    small: bool,
}

/// Why an answer was not finished.
pub(crate) enum Unfinished {
    /// Nobody waits for it any more.
    Abandoned,
    /// It could not be.
    Failed(LlmError),
}

impl From<LlmError> for Unfinished {
    fn from(error: LlmError) -> Self {
        Self::Failed(error)
    }
}

impl Engine {
    /// Loads a GGUF file; `model` is the full name, for errors.
    pub(crate) fn load(model: &str, path: &Path) -> Result<Self, LlmError> {
        let refused = |reason: String| LlmError::Refused { model: model.to_owned(), reason };
        let unreadable = |error: &dyn std::fmt::Display| {
            refused(format!("{} cannot be read as a GGUF model: {error}", path.display()))
        };
        let mut file = BufReader::new(File::open(path).map_err(|error| unreadable(&error))?);
        let content = gguf_file::Content::read(&mut file).map_err(|error| unreadable(&error))?;
        let architecture = text(&content, "general.architecture").unwrap_or_default();
        if architecture != "llama" {
            return Err(refused(format!(
                "its architecture is `{architecture}`, and only `llama` runs in this process; serve it with Ollama or \
                 llama.cpp instead, which are found by themselves"
            )));
        }
        let (tokenizer, vocabulary) = tokenizer::load(&content).map_err(|error| unreadable(&error))?;
        let bos = number_of(&content, "tokenizer.ggml.bos_token_id");
        let eos = number_of(&content, "tokenizer.ggml.eos_token_id");
        let source = text(&content, "tokenizer.chat_template");
        let source = source.or_else(|| vocabulary.id("<|im_start|>").map(|_| CHATML.to_owned()));
        let source = source.ok_or_else(|| refused("it has no chat template; take an `instruct` model".to_owned()))?;
        let name_of = |token: Option<u32>| token.and_then(|token| vocabulary.text(token)).unwrap_or_default();
        let template = Template::new(&source, name_of(bos), name_of(eos))
            .map_err(|error| refused(format!("its chat template does not compile: {error}")))?;
        let context = number_of(&content, "llama.context_length").map_or(MAX_SEQ_LEN, |length| length as usize);
        let wants_bos =
            content.metadata.get("tokenizer.ggml.add_bos_token").is_some_and(|v| matches!(v.to_bool(), Ok(true)));
        let ends = eos.into_iter().chain(ENDS.iter().filter_map(|end| vocabulary.id(end))).collect();
        let small = weights::parameters(&content) <= SMALL;
        let weights = weights::read(content, &mut file).map_err(|error| unreadable(&error))?;
        Ok(Self {
            model: model.to_owned(),
            weights,
            tokenizer,
            vocabulary,
            template,
            ends,
            bos: bos.filter(|_| wants_bos),
            context: context.min(MAX_SEQ_LEN),
            small,
        })
    }

    /// Answers a conversation; see [`Self::speak`].
    pub(crate) fn answer(
        &self,
        request: &ChatRequest,
        seed: u64,
        hear: &(dyn Fn(String) -> bool + Sync),
    ) -> Result<ChatAnswer, Unfinished> {
        if self.small {
            return on_one_core(|| self.speak(request, seed, hear));
        }
        self.speak(request, seed, hear)
    }

    /// `hear` gets each token's text, often empty, and says whether to go on.
    fn speak(&self, request: &ChatRequest, seed: u64, hear: &dyn Fn(String) -> bool) -> Result<ChatAnswer, Unfinished> {
        let prompt = self.prompt(request)?;
        let room = self.context - prompt.len();
        let limit = (request.max_output_tokens.unwrap_or(DEFAULT_OUTPUT) as usize).min(room);
        let mut sampler = LogitsProcessor::from_sampling(seed, sampling(request.temperature));
        // A clone shares the weights and starts with an empty memory of the conversation, which ends with it.
        let mut weights = self.weights.clone();
        let mut logits = None;
        for (index, chunk) in prompt.chunks(PROMPT_CHUNK).enumerate() {
            if !hear(String::new()) {
                return Err(Unfinished::Abandoned);
            }
            logits = Some(self.forward(&mut weights, chunk, index * PROMPT_CHUNK)?);
        }
        let mut logits = logits.ok_or_else(|| self.invalid("the conversation is empty"))?;
        let (mut said, mut text, mut stream) = (Vec::new(), String::new(), Utf8Stream::default());
        let finish = loop {
            let next = self.sample(&mut sampler, &logits, &said)?;
            said.push(next);
            if self.ends.contains(&next) {
                break FinishReason::Stop;
            }
            let piece = stream.push(&self.vocabulary.bytes(next));
            text.push_str(&piece);
            if !hear(piece) {
                return Err(Unfinished::Abandoned);
            }
            if said.len() >= limit {
                break FinishReason::Length;
            }
            logits = self.forward(&mut weights, &[next], prompt.len() + said.len() - 1)?;
        };
        if text.trim().is_empty() {
            return Err(self.invalid("it said nothing").into());
        }
        let usage = Usage::tokens(prompt.len() as u64, said.len() as u64);
        Ok(ChatAnswer { text, tool_calls: Vec::new(), reasoning: Vec::new(), finish, usage })
    }

    /// The conversation in tokens, with room left for an answer.
    fn prompt(&self, request: &ChatRequest) -> Result<Vec<u32>, LlmError> {
        let too_long = || LlmError::ContextTooLong { model: self.model.clone() };
        let mut turns = turns(&request.messages, request.output_schema.as_ref());
        disarm(&mut turns, self.vocabulary.markers());
        let text = self
            .template
            .render(&turns)
            .map_err(|error| self.invalid(&format!("its chat template failed: {error}")))?;
        // No need to cut a megabyte into tokens to know that it is too much.
        if text.len() > self.context * self.vocabulary.longest() {
            return Err(too_long());
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| self.invalid(&format!("its tokenizer failed: {error}")))?;
        let mut tokens = encoding.get_ids().to_vec();
        if let Some(bos) = self.bos
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        let wanted = request.max_output_tokens.unwrap_or(DEFAULT_OUTPUT).max(1) as usize;
        if tokens.len() + wanted.min(self.context / ANSWER_SHARE) > self.context {
            return Err(too_long());
        }
        Ok(tokens)
    }

    fn forward(&self, weights: &mut ModelWeights, tokens: &[u32], position: usize) -> Result<Tensor, LlmError> {
        Tensor::new(tokens, &Device::Cpu)
            .and_then(|tokens| tokens.unsqueeze(0))
            .and_then(|tokens| weights.forward(&tokens, position))
            .and_then(|logits| logits.i(0))
            .map_err(|error| self.broken(&error))
    }

    fn sample(&self, sampler: &mut LogitsProcessor, logits: &Tensor, said: &[u32]) -> Result<u32, LlmError> {
        let recent = &said[said.len().saturating_sub(REPEAT_WINDOW)..];
        apply_repeat_penalty(logits, REPEAT_PENALTY, recent)
            .and_then(|logits| sampler.sample(&logits))
            .map_err(|error| self.broken(&error))
    }

    fn invalid(&self, reason: &str) -> LlmError {
        LlmError::Invalid { model: self.model.clone(), reason: reason.to_owned() }
    }

    fn broken(&self, error: &candle_core::Error) -> LlmError {
        LlmError::Unavailable {
            model: self.model.clone(),
            reason: format!("the computation failed: {error}"),
            retry_after: None,
        }
    }
}

fn sampling(temperature: Option<f64>) -> Sampling {
    let temperature = temperature.unwrap_or(DEFAULT_TEMPERATURE);
    if temperature < COLD || temperature.is_nan() {
        return Sampling::ArgMax;
    }
    Sampling::TopKThenTopP { k: TOP_K, p: TOP_P, temperature: temperature.min(2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_temperature_is_too_low_to_be_computed_with() {
        assert_eq!(sampling(Some(0.0)), Sampling::ArgMax);
        assert_eq!(sampling(Some(1e-9)), Sampling::ArgMax);
        assert_eq!(sampling(None), Sampling::TopKThenTopP { k: TOP_K, p: TOP_P, temperature: 0.2 });
        assert_eq!(sampling(Some(9.0)), Sampling::TopKThenTopP { k: TOP_K, p: TOP_P, temperature: 2.0 });
    }

    #[test]
    fn a_file_that_is_no_model_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.gguf");
        std::fs::write(&path, "<html>").unwrap();
        let error = Engine::load("local/page", &path).map(|_| ()).unwrap_err();
        assert!(matches!(&error, LlmError::Refused { reason, .. } if reason.contains("page.gguf")), "{error}");
    }
}
