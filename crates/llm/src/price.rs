//! What models cost: data, never code.

use domain::{Usage, Usd};
use serde::{Deserialize, Serialize};

/// Prices in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Tokens read.
    pub input: Usd,
    /// Tokens written.
    pub output: Usd,
    /// Tokens read from the provider's cache; the price of tokens read when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Usd>,
    /// Tokens that go into the provider's cache; the price of tokens read when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Usd>,
}

impl Price {
    /// The price of models that cost nothing.
    pub const FREE: Self = Self { input: Usd(0), output: Usd(0), cached_input: None, cache_write: None };

    /// What a call cost, rounded up to a billionth of a dollar.
    pub fn cost(&self, usage: &Usage) -> Usd {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
        let parts = [
            (usage.input_tokens - cached - written, self.input),
            (cached, self.cached_input.unwrap_or(self.input)),
            (written, self.cache_write.unwrap_or(self.input)),
            (usage.output_tokens, self.output),
        ];
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(price.0)).sum();
        Usd(u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    /// The higher of both in each part.
    #[must_use]
    pub fn dearer(self, other: Self) -> Self {
        let cached = self.cached_input.unwrap_or(self.input).max(other.cached_input.unwrap_or(other.input));
        let written = self.cache_write.unwrap_or(self.input).max(other.cache_write.unwrap_or(other.input));
        let input = self.input.max(other.input);
        Self {
            input,
            output: self.output.max(other.output),
            cached_input: (cached != input).then_some(cached),
            cache_write: (written != input).then_some(written),
        }
    }

    /// The most that so many tokens can cost, whatever the cache does.
    pub fn most(&self, input_tokens: u64, output_tokens: u64) -> Usd {
        let input = [self.cached_input, self.cache_write].into_iter().flatten().fold(self.input, Usd::max);
        Self { input, cached_input: None, cache_write: None, ..*self }.cost(&Usage::tokens(input_tokens, output_tokens))
    }
}
