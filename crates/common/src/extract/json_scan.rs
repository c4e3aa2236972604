//! One pass over a JSON text, before it is parsed, that finds what serde_json lets pass: repeated keys, deep nesting,
//! NUL characters, lone surrogates and numbers that would be rounded.
//!
//! It does not check the grammar. On malformed text it may stop early or find nothing: the parser refuses that anyway.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use memchr::memchr2;

/// The deepest nesting that is accepted.
const DEEPEST: usize = 64;
/// The most keys, of all objects together.
const MOST_KEYS: usize = 100_000;
/// Up to here comparing with every key of the object is cheaper than hashing.
const FEW_KEYS: usize = 16;

/// What was found, and the JSON pointer to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) pointer: String,
    pub(super) reason: String,
}

enum Level<'a> {
    /// Where this object's keys begin in the list of all open objects' keys, and the same keys hashed if they are many.
    Object {
        first: usize,
        many: HashSet<Cow<'a, str>>,
    },
    Array {
        index: usize,
    },
}

struct Scan<'a> {
    text: &'a str,
    levels: Vec<Level<'a>>,
    keys: Vec<Cow<'a, str>>,
    count: usize,
    /// True where an object's key may come next.
    key_next: bool,
}

/// Scans a text.
pub(super) fn scan(text: &str) -> Result<(), Finding> {
    let mut scan = Scan { text, levels: Vec::new(), keys: Vec::new(), count: 0, key_next: false };
    scan.run()
}

impl<'a> Scan<'a> {
    fn run(&mut self) -> Result<(), Finding> {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    let Some((content, escaped, next)) = string(self.text, at + 1) else { return Ok(()) };
                    at = next;
                    if self.key_next {
                        self.key(content, escaped)?;
                    } else if escaped {
                        check_escapes(content).map_err(|reason| self.finding(reason))?;
                    }
                    continue;
                }
                b'{' => {
                    self.open(Level::Object { first: self.keys.len(), many: HashSet::new() })?;
                    self.key_next = true;
                }
                b'[' => {
                    self.open(Level::Array { index: 0 })?;
                    self.key_next = false;
                }
                b'}' | b']' => {
                    if let Some(Level::Object { first, .. }) = self.levels.pop() {
                        self.keys.truncate(first);
                    }
                    self.key_next = false;
                }
                b',' => match self.levels.last_mut() {
                    Some(Level::Object { .. }) => self.key_next = true,
                    Some(Level::Array { index }) => *index += 1,
                    None => return Ok(()),
                },
                b'-' | b'0'..=b'9' => {
                    let end = number_end(bytes, at);
                    if !is_exact(&self.text[at..end]) {
                        return Err(self.finding("the number would have to be rounded: send it as a string"));
                    }
                    at = end;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        Ok(())
    }

    fn open(&mut self, level: Level<'a>) -> Result<(), Finding> {
        if self.levels.len() == DEEPEST {
            return Err(self.finding(&format!("nested deeper than {DEEPEST} levels")));
        }
        self.levels.push(level);
        Ok(())
    }

    fn key(&mut self, content: &'a str, escaped: bool) -> Result<(), Finding> {
        self.key_next = false;
        let key = if escaped {
            check_escapes(content).map_err(|reason| self.finding(reason))?;
            let Some(key) = unescape(content) else { return Ok(()) };
            Cow::Owned(key)
        } else {
            Cow::Borrowed(content)
        };
        self.count += 1;
        if self.count > MOST_KEYS {
            return Err(self.finding(&format!("more than {MOST_KEYS} fields")));
        }
        let Some(Level::Object { first, many }) = self.levels.last_mut() else { return Ok(()) };
        let first = *first;
        let repeated = if self.keys.len() - first < FEW_KEYS {
            self.keys[first..].contains(&key)
        } else {
            if many.is_empty() {
                many.extend(self.keys[first..].iter().cloned());
            }
            !many.insert(key.clone())
        };
        self.keys.push(key);
        if repeated { Err(self.finding("the field is repeated")) } else { Ok(()) }
    }

    fn finding(&self, reason: &str) -> Finding {
        let mut pointer = String::new();
        let mut ends = self.levels.iter().skip(1).filter_map(|level| match level {
            Level::Object { first, .. } => Some(*first),
            Level::Array { .. } => None,
        });
        for level in &self.levels {
            match level {
                Level::Array { index } => {
                    let _ = write!(pointer, "/{index}");
                }
                Level::Object { first, .. } => {
                    // The current key is the last one before the next open object's keys begin.
                    let end = ends.find(|end| end > first).unwrap_or(self.keys.len());
                    if let Some(key) = self.keys.get(*first..end).and_then(<[_]>::last) {
                        let _ = write!(pointer, "/{}", key.replace('~', "~0").replace('/', "~1"));
                    }
                }
            }
        }
        Finding { pointer, reason: reason.to_owned() }
    }
}

/// The content of the string that begins at `start`, whether it has escapes, and where the text goes on.
fn string(text: &str, start: usize) -> Option<(&str, bool, usize)> {
    let bytes = text.as_bytes();
    let mut at = start;
    let mut escaped = false;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some((&text[start..at], escaped, at + 1));
        }
        escaped = true;
        at += 2;
    }
}

fn check_escapes(content: &str) -> Result<(), &'static str> {
    let mut rest = content;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        let escape = &rest.as_bytes()[at..];
        if escape.get(1) != Some(&b'u') {
            // The escaped character is ASCII in a well-formed text, and a malformed one is refused later.
            rest = rest.get(at + 2..).unwrap_or_default();
            continue;
        }
        match unit(escape) {
            Some(0) => return Err("contains a NUL character"),
            Some(0xd800..=0xdbff) => {
                if !matches!(escape.get(6..).and_then(unit), Some(0xdc00..=0xdfff)) {
                    return Err("contains a lone surrogate");
                }
                rest = rest.get(at + 12..).unwrap_or_default();
            }
            Some(0xdc00..=0xdfff) => return Err("contains a lone surrogate"),
            _ => rest = rest.get(at + 6..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// The code unit of an escape such as `\u00e9`.
fn unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)? as u16))
}

fn unescape(content: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{content}\"")).ok()
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let length =
        bytes[start..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
    start + length
}

/// Tells whether a number survives: integers must fit 64 bits, others must not have more digits than a double keeps.
fn is_exact(number: &str) -> bool {
    // Shorter ones always do, and nearly all numbers are short.
    if number.len() <= 15 && !number.contains(['e', 'E']) {
        return true;
    }
    let Some(split) = number.find(['.', 'e', 'E']) else {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    };
    let mantissa = match number[split..].find(['e', 'E']) {
        Some(exponent) => &number[..split + exponent],
        None => number,
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_start_matches('0').trim_end_matches('0').len();
    let value: f64 = number.parse().unwrap_or(0.0);
    significant <= 17 && value.is_finite() && (value != 0.0 || significant == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Option<(String, String)> {
        scan(text).err().map(|finding| (finding.pointer, finding.reason))
    }

    fn at(pointer: &str, reason: &str) -> (String, String) {
        (pointer.to_owned(), reason.to_owned())
    }

    #[test]
    fn a_repeated_key_is_found_at_any_depth_and_however_it_is_written() {
        assert_eq!(found(r#"{"a":1,"a":2}"#).unwrap(), at("/a", "the field is repeated"));
        assert_eq!(found(r#"{"a":1,"\u0061":2}"#).unwrap(), at("/a", "the field is repeated"));
        assert_eq!(found(r#"{"x":[{},{"b":{"c":1},"b/~":0,"b":2}]}"#).unwrap(), at("/x/1/b", "the field is repeated"));
        assert_eq!(found(r#"{"x":{"a":1},"y":{"a":1},"a":[{"a":1},{"a":1}]}"#), None);
        let many = (0..100).map(|n| format!("\"k{n}\":{{\"k\":1}},")).collect::<Vec<_>>().concat();
        assert_eq!(found(&format!("{{{many}\"k50\":1}}")).unwrap(), at("/k50", "the field is repeated"));
        assert_eq!(found(&format!("{{{many}\"last\":1}}")), None);
    }

    #[test]
    fn strings_that_a_database_cannot_hold_are_found() {
        assert_eq!(found(r#"{"a":["x","\u0000"]}"#).unwrap(), at("/a/1", "contains a NUL character"));
        assert_eq!(found(r#"{"a":"\ud800"}"#).unwrap(), at("/a", "contains a lone surrogate"));
        assert_eq!(found(r#"{"a":"\udc00 \ud800"}"#).unwrap(), at("/a", "contains a lone surrogate"));
        assert_eq!(found(r#"{"a":"\ud83d\ude00 \\u0000 \\ud800"}"#), None);
        assert_eq!(found(r#"{"\u0000":1}"#).unwrap(), at("", "contains a NUL character"));
    }

    #[test]
    fn deep_nesting_is_found() {
        assert_eq!(found(&format!("{}{}", "[".repeat(64), "]".repeat(64))), None);
        let deep = found(&"[".repeat(100_000)).unwrap();
        assert_eq!(deep.1, "nested deeper than 64 levels");
        assert!(found(&r#"{"a":"#.repeat(100_000)).is_some());
    }

    #[test]
    fn too_many_fields_are_found() {
        let many = (0..100_001).map(|n| format!("\"{n}\":0,")).collect::<Vec<_>>().concat();
        assert_eq!(found(&format!("{{{many}")).unwrap().1, "more than 100000 fields");
    }

    #[test]
    fn numbers_are_exact_or_found() {
        for number in [
            "0",
            "-0",
            "1.5",
            "0.1",
            "1e3",
            "18446744073709551615",
            "-9223372036854775808",
            "1e22",
            "0e9",
            "1.7976931348623157e308",
            "2.2250738585072014e-308",
            "0.0000000000000000000000000001",
            "100000000000000000000.0",
        ] {
            assert_eq!(found(number), None, "{number}");
        }
        let long = format!("0.1{}", "3".repeat(400));
        for number in ["18446744073709551616", "1e400", "-1e400", "1e-400", "123456789012345678901", &long] {
            assert!(found(&format!("[{number}]")).is_some(), "{number}");
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "[^\0]{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("[^\0]{0,5}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_serializer_writes_is_accepted(value in json()) {
            prop_assert_eq!(found(&value.to_string()), None);
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"[\[\]{}",:\\u0d81eé. -]{0,60}"#) {
            let _ = scan(&text);
        }
    }
}
