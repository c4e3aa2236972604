//! Tokens to text, piece by piece: a token is a run of bytes that may end within a character, and a reader of the
//! stream must never see half of one.

use std::collections::HashMap;

/// GGUF's `llama_token_type`, as far as it matters here.
mod kind {
    pub(super) const NORMAL: u32 = 1;
    pub(super) const CONTROL: u32 = 3;
    pub(super) const USER_DEFINED: u32 = 4;
    pub(super) const BYTE: u32 = 6;
}

/// The bytes behind each token of a byte-level vocabulary.
pub(crate) struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<u32>,
    alphabet: HashMap<char, u8>,
}

impl Vocabulary {
    /// `kinds` has one entry a token; what is missing counts as normal.
    pub(crate) fn new(tokens: Vec<String>, kinds: Vec<u32>) -> Self {
        Self { tokens, kinds, alphabet: alphabet() }
    }

    /// Returns what a token says; control tokens say nothing.
    pub(crate) fn bytes(&self, token: u32) -> Vec<u8> {
        let Some(text) = self.tokens.get(token as usize) else { return Vec::new() };
        match self.kinds.get(token as usize).copied().unwrap_or(kind::NORMAL) {
            kind::NORMAL => text.chars().filter_map(|c| self.alphabet.get(&c).copied()).collect(),
            kind::USER_DEFINED => text.clone().into_bytes(),
            kind::BYTE => {
                let hex = text.trim_start_matches("<0x").trim_end_matches('>');
                u8::from_str_radix(hex, 16).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Finds a token by its own text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.tokens.iter().position(|token| token == text).and_then(|index| u32::try_from(index).ok())
    }

    /// Returns a token's own text.
    pub(crate) fn text(&self, token: u32) -> Option<&str> {
        self.tokens.get(token as usize).map(String::as_str)
    }

    /// The texts that stand for something other than themselves, such as `<|im_start|>`.
    pub(crate) fn markers(&self) -> impl Iterator<Item = &str> {
        let tokens = self.tokens.iter().zip(&self.kinds);
        tokens.filter(|(text, kind)| **kind == kind::CONTROL && text.len() > 1).map(|(text, _)| text.as_str())
    }

    /// The most bytes that one token can stand for.
    pub(crate) fn longest(&self) -> usize {
        self.tokens.iter().map(|token| token.chars().count()).max().unwrap_or(1).max(1)
    }
}

/// GPT-2's table of a printable character for every byte, read backwards.
fn alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 256;
    let mut table = HashMap::with_capacity(256);
    for byte in 0..=u8::MAX {
        let code = if printable(byte) {
            u32::from(byte)
        } else {
            next += 1;
            next - 1
        };
        table.extend(char::from_u32(code).map(|c| (c, byte)));
    }
    table
}

/// Turns bytes that arrive in any pieces into whole characters.
///
/// All pieces together read as `String::from_utf8_lossy` of all bytes would, save that a character which was begun and
/// never finished is left out.
#[derive(Debug, Default)]
pub(crate) struct Utf8Stream {
    begun: Vec<u8>,
}

impl Utf8Stream {
    /// Adds bytes and returns what has become readable.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.begun.extend_from_slice(bytes);
        let mut text = String::new();
        let mut read = 0;
        for chunk in self.begun.utf8_chunks() {
            text.push_str(chunk.valid());
            read += chunk.valid().len();
            let unfinished = read + chunk.invalid().len() == self.begun.len() && may_go_on(chunk.invalid());
            if !chunk.invalid().is_empty() && !unfinished {
                text.push(char::REPLACEMENT_CHARACTER);
                read += chunk.invalid().len();
            }
        }
        self.begun.drain(..read);
        text
    }
}

/// Tells whether these bytes begin a character that more bytes can finish.
fn may_go_on(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let table = alphabet();
        assert_eq!(table.len(), 256);
        assert_eq!((table[&'Ġ'], table[&'Ċ'], table[&'a'], table[&'Ã']), (b' ', b'\n', b'a', 0xC3));
    }

    #[test]
    fn a_character_split_over_tokens_comes_out_whole() {
        let mut stream = Utf8Stream::default();
        let pieces: Vec<String> = "né🦀!".bytes().map(|byte| stream.push(&[byte])).collect();
        assert_eq!(pieces, ["n", "", "é", "", "", "", "🦀", "!"]);
    }

    #[test]
    fn control_tokens_say_nothing_and_are_known_as_markers() {
        let tokens = ["<|im_end|>", "Ġhi", "<0x0A>", "<think>"].map(str::to_owned).to_vec();
        let vocabulary = Vocabulary::new(tokens, vec![3, 1, 6, 4]);
        let said: Vec<_> = (0..5).map(|token| vocabulary.bytes(token)).collect();
        assert_eq!(said, [b"".to_vec(), b" hi".to_vec(), b"\n".to_vec(), b"<think>".to_vec(), b"".to_vec()]);
        assert_eq!(vocabulary.markers().collect::<Vec<_>>(), ["<|im_end|>"]);
    }

    proptest! {
        #[test]
        fn any_pieces_of_a_text_add_up_to_it(text in any::<String>(), cuts in prop::collection::vec(1_usize..7, 1..64)) {
            let mut stream = Utf8Stream::default();
            let (mut rest, mut out) = (text.as_bytes(), String::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                out.push_str(&stream.push(piece));
                prop_assert!(text.starts_with(&out));
                rest = after;
            }
            prop_assert_eq!(out, text);
        }

        #[test]
        fn any_bytes_read_as_they_would_at_once(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..32)) {
            let mut stream = Utf8Stream::default();
            let mut out: String = pieces.iter().map(|piece| stream.push(piece)).collect();
            if !stream.begun.is_empty() { out.push(char::REPLACEMENT_CHARACTER); }
            let whole = pieces.concat();
            prop_assert_eq!(out, String::from_utf8_lossy(&whole));
        }
    }
}
