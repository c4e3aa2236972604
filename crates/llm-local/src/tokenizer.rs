//! Text to tokens, as the model was trained.

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use crate::detokenize::Vocabulary;

/// How Llama 3 and its relatives cut a text into words.
const LLAMA3_WORDS: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Reads the tokenizer out of a model's file.
pub(crate) fn load(content: &Content) -> candle_core::Result<(Tokenizer, Vocabulary)> {
    let mut tokenizer = Tokenizer::from_gguf(content)?;
    let pre = text(content, "tokenizer.ggml.pre").unwrap_or_default();
    if let Some(words) = words(&pre)? {
        tokenizer.with_pre_tokenizer(Some(words));
    }
    let tokens = array(content, "tokenizer.ggml.tokens");
    let kinds = array(content, "tokenizer.ggml.token_type");
    let tokens = tokens.iter().map(|token| token.to_string().cloned()).collect::<Result<_, _>>()?;
    let kinds = kinds.iter().map(number).map(|kind| kind.unwrap_or(1)).collect();
    Ok((tokenizer, Vocabulary::new(tokens, kinds)))
}

/// The word rules by their name in GGUF files; none where the library's own are right.
///
/// The library's fallback puts a space before every piece of text, which no model that is named here was trained on.
fn words(pre: &str) -> candle_core::Result<Option<PreTokenizerWrapper>> {
    let byte_level = |split_words| ByteLevel::new(false, true, split_words);
    Ok(Some(match pre {
        "qwen2" => return Ok(None),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            Sequence::new(vec![Digits::new(true).into(), byte_level(true).into()]).into()
        }
        "llama3" | "llama-v3" | "llama-bpe" | "smaug-bpe" | "lfm2" => {
            let pattern = SplitPattern::Regex(LLAMA3_WORDS.to_owned());
            let split =
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(candle_core::Error::wrap)?;
            Sequence::new(vec![split.into(), byte_level(false).into()]).into()
        }
        other => {
            if !matches!(other, "gpt-2" | "gpt2" | "default") {
                tracing::warn!(tokenizer = other, "unknown word rules; the model may answer worse than it can");
            }
            byte_level(true).into()
        }
    }))
}

/// Reads a text of the file's metadata.
pub(crate) fn text(content: &Content, key: &str) -> Option<String> {
    content.metadata.get(key)?.to_string().ok().cloned()
}

/// Reads a number of the file's metadata, whatever its width.
pub(crate) fn number_of(content: &Content, key: &str) -> Option<u32> {
    content.metadata.get(key).and_then(number)
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::U8(v) => Some(u32::from(*v)),
        Value::U16(v) => Some(u32::from(*v)),
        Value::U32(v) => Some(*v),
        Value::U64(v) => u32::try_from(*v).ok(),
        Value::I32(v) => u32::try_from(*v).ok(),
        Value::I64(v) => u32::try_from(*v).ok(),
        _ => None,
    }
}

fn array<'a>(content: &'a Content, key: &str) -> &'a [Value] {
    match content.metadata.get(key) {
        Some(Value::Array(values)) => values,
        _ => &[],
    }
}
