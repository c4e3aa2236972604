//! What a call used, as far as its provider is to be believed; a budget is kept with it.

use domain::Usage;
use llm::tokens_of;
use serde_json::Value;

/// No model reads or writes more tokens in one call; a larger count is an error of the server.
const MAX_TOKENS: u64 = 20_000_000;

/// A count, if it is a whole number that a model can have counted.
pub fn count(value: Option<&Value>) -> Option<u64> {
    value?.as_u64().filter(|count| *count <= MAX_TOKENS)
}

/// Counts that a provider reported, each read with `count`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    /// Tokens read, cached ones included.
    pub input: Option<u64>,
    /// Tokens written, those of reasoning included.
    pub output: Option<u64>,
    /// Those of the tokens read that came from the cache.
    pub cached_input: Option<u64>,
    /// Those of the tokens read that went into the cache.
    pub cache_write: Option<u64>,
    /// Those of the tokens written that were reasoning.
    pub reasoning: Option<u64>,
}

impl Reported {
    /// The usage: what was reported as far as it is credible, and estimates that are never too low for the rest.
    pub fn usage(self, request_bytes: usize, answer_bytes: usize) -> Usage {
        // Something was always read and written, so a count of nothing is none.
        let input = self.input.filter(|count| (1..=MAX_TOKENS).contains(count));
        let output = self.output.filter(|count| (1..=MAX_TOKENS).contains(count));
        let input_tokens = input.unwrap_or_else(|| tokens_of(request_bytes));
        let output_tokens = output.unwrap_or_else(|| tokens_of(answer_bytes));
        // A part that is larger than its whole makes the call cheaper than it was, so it counts as not told.
        let cached_input_tokens = self.cached_input.filter(|part| *part <= input_tokens).unwrap_or(0);
        let left = input_tokens - cached_input_tokens;
        Usage {
            input_tokens,
            output_tokens,
            cached_input_tokens,
            cache_write_tokens: self.cache_write.filter(|part| *part <= left).unwrap_or(0),
            reasoning_tokens: self.reasoning.filter(|part| *part <= output_tokens).unwrap_or(0),
            estimated: input.is_none() || output.is_none(),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_whole_numbers_that_a_model_can_have_counted_are_counts() {
        assert_eq!(count(Some(&json!(7))), Some(7));
        assert_eq!(count(Some(&json!(0))), Some(0));
        for nonsense in [json!(-5), json!(1_000_000_000_000_u64), json!("7"), json!(7.5), json!(null), json!([7])] {
            assert_eq!(count(Some(&nonsense)), None, "{nonsense}");
        }
        assert_eq!(count(None), None);
    }

    #[test]
    fn parts_that_are_larger_than_their_whole_count_as_not_told() {
        let told = Reported { input: Some(10), output: Some(5), ..Reported::default() };
        let parts = Reported { cached_input: Some(6), cache_write: Some(4), reasoning: Some(5), ..told };
        let usage = parts.usage(0, 0);
        assert_eq!((usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens), (6, 4, 5));
        assert!(!usage.estimated);
        let parts = Reported { cached_input: Some(11), cache_write: Some(11), reasoning: Some(6), ..told };
        assert_eq!(parts.usage(0, 0), told.usage(0, 0));
    }

    #[test]
    fn what_is_not_told_is_estimated_upward() {
        let usage = Reported { input: Some(0), ..Reported::default() }.usage(300, 31);
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.estimated), (100, 11, true));
    }
}
