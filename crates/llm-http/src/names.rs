//! Names of tools as the protocols allow them: letters, digits, `_` and `-`, at most 64 of them. Ours have dots and may be
//! longer (`server.tool`), so a request says them otherwise, and an answer's names are said back.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use domain::Message;
use llm::ChatRequest;

const LONGEST: usize = 64;
const HASH: usize = 8;

/// The names of a request's tools, ours and the protocol's.
///
/// A name goes to the same other name in every request of every process, whatever other tools there are: a dot becomes two
/// underscores, and what this cannot say back (two underscores in our name, another character, too long a name) gets a piece
/// of its hash. Should two names become one nevertheless, the one that sorts later gets a longer piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireNames {
    to_wire: BTreeMap<String, String>,
    to_ours: BTreeMap<String, String>,
}

impl WireNames {
    /// The names of the tools that are offered, and of those that were called before.
    pub fn of(request: &ChatRequest) -> Self {
        let offered: BTreeSet<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
        let called: BTreeSet<&str> = request.messages.iter().flat_map(called).collect();
        let mut names = Self::default();
        for name in &offered {
            names.add(name, wire(name));
        }
        for name in called.difference(&offered) {
            // A name that the model made up stays as it was, so that the model recognizes it.
            let as_it_was = is_allowed(name) && !names.to_ours.contains_key(*name);
            names.add(name, if as_it_was { (*name).to_owned() } else { wire(name) });
        }
        names
    }

    /// What the protocol calls a tool of ours.
    pub fn wire<'a>(&'a self, ours: &'a str) -> Cow<'a, str> {
        self.to_wire.get(ours).map_or_else(|| Cow::Owned(wire(ours)), |known| Cow::Borrowed(known.as_str()))
    }

    /// What we call a tool of the protocol. A name that nobody gave stays as it is: no tool has it.
    pub fn ours<'a>(&'a self, wire: &'a str) -> &'a str {
        self.to_ours.get(wire).map_or(wire, String::as_str)
    }

    fn add(&mut self, ours: &str, mut wire: String) {
        let mut hash = HASH;
        while self.to_ours.contains_key(&wire) && hash < LONGEST {
            hash *= 2;
            wire = hashed(ours, hash.min(LONGEST - 1));
        }
        self.to_ours.insert(wire.clone(), ours.to_owned());
        self.to_wire.insert(ours.to_owned(), wire);
    }
}

fn called(message: &Message) -> impl Iterator<Item = &str> {
    let calls = match message {
        Message::Assistant { tool_calls, .. } => tool_calls.as_slice(),
        _ => &[],
    };
    calls.iter().map(|call| call.name.as_str())
}

fn wire(ours: &str) -> String {
    let wire = ours.replace('.', "__");
    if is_allowed(&wire) && wire.replace("__", ".") == ours { wire } else { hashed(ours, HASH) }
}

/// The beginning of a name and so many digits of its hash.
fn hashed(ours: &str, digits: usize) -> String {
    let plain = ours.replace('.', "__").replace(|letter| !is_plain(letter), "_");
    let begin: String = plain.chars().take(LONGEST - 1 - digits).collect();
    format!("{begin}_{}", &blake3::hash(ours.as_bytes()).to_hex()[..digits])
}

fn is_allowed(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && name.chars().all(is_plain)
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::{ToolCall, ToolSpec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names(offered: &[&str], called: &[&str]) -> WireNames {
        let call = |name: &&str| ToolCall { id: String::new(), name: (*name).to_owned(), arguments: json!({}) };
        let tool = |name: &&str| ToolSpec::new(*name, "", json!({}), Duration::ZERO);
        let said = Message::Assistant {
            text: String::new(),
            tool_calls: called.iter().map(call).collect(),
            reasoning: Vec::new(),
        };
        WireNames::of(&ChatRequest {
            model: String::new(),
            messages: vec![said],
            tools: offered.iter().map(tool).collect(),
            output_schema: None,
            temperature: None,
            max_output_tokens: None,
            effort: None,
            timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
        })
    }

    #[test]
    fn a_plain_name_stays_and_a_dot_becomes_two_underscores() {
        let names = names(&["http_get", "files.read-all", "a.b.c"], &[]);
        for (ours, wire) in [("http_get", "http_get"), ("files.read-all", "files__read-all"), ("a.b.c", "a__b__c")] {
            assert_eq!((names.wire(ours).as_ref(), names.ours(wire)), (wire, ours));
        }
        assert_eq!(names.ours("unknown"), "unknown");
    }

    #[test]
    fn a_name_is_said_the_same_whatever_other_tools_there_are() {
        let alone = names(&["a__b"], &[]);
        let together = names(&["a.b", "a__b"], &[]);
        assert_eq!(alone.wire("a__b"), together.wire("a__b"));
        assert_ne!(together.wire("a.b"), together.wire("a__b"));
        assert_eq!(together.ours("a__b"), "a.b");
    }

    #[test]
    fn a_name_that_the_model_made_up_stays_but_takes_no_tools_place() {
        let names = names(&["a.b"], &["a__b", "x__y", "no tool"]);
        assert_eq!(names.wire("x__y"), "x__y");
        assert_eq!(names.ours("a__b"), "a.b");
        assert_ne!(names.wire("a__b"), "a__b");
        assert!(is_allowed(&names.wire("no tool")));
    }

    proptest! {
        #[test]
        fn every_name_is_allowed_and_said_back(
            offered in prop::collection::btree_set("[a-c._ é-]{0,6}|[a-z.]{60,90}", 0..12),
            called in prop::collection::btree_set("[a-c._ é-]{0,6}", 0..6),
        ) {
            let lists = [&offered, &called].map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
            let names = names(&lists[0], &lists[1]);
            let all: BTreeSet<&String> = offered.iter().chain(&called).collect();
            let wires: BTreeSet<String> = all.iter().map(|name| names.wire(name).into_owned()).collect();
            prop_assert_eq!(wires.len(), all.len());
            for name in all {
                let wire = names.wire(name);
                prop_assert!(is_allowed(&wire), "{}", wire);
                prop_assert_eq!(names.ours(&wire), name);
            }
        }
    }
}
