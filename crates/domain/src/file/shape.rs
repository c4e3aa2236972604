//! Compares a YAML tree with the JSON Schema of its file: fields, types, ranges and choices.
//!
//! The schema that editors complete by is the very one that files are checked by, so the two cannot disagree. What is
//! wrong is reported and left out, so that the rest can still be looked at and all problems are told at once.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Number, Value};

use super::problem::{FieldPath, Position, Problem, closest};
use super::yaml::{Entry, Kind, Node};
use crate::{AgentName, HumanDuration};

/// How a schema describes a duration.
const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";
/// How a schema describes a name. Of every other pattern the description says what it means, and the type checks it.
const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,62}$";

/// What became of a tree.
pub(crate) struct Shaped {
    /// The value, without what was wrong; missing when nothing of it is right.
    pub(crate) value: Option<Value>,
    /// Where the fields stand, by path.
    pub(crate) positions: BTreeMap<String, Position>,
    /// What was wrong.
    pub(crate) problems: Vec<Problem>,
}

/// Compares `tree` with `schema`.
pub(crate) fn shape(schema: &Value, tree: &Node) -> Shaped {
    let mut shaper = Shaper {
        root: schema,
        path: FieldPath::default(),
        positions: BTreeMap::new(),
        problems: Vec::new(),
        known: known_paths(schema),
    };
    let value = shaper.value(schema, tree);
    Shaped { value, positions: shaper.positions, problems: shaper.problems }
}

struct Shaper<'a> {
    root: &'a Value,
    path: FieldPath,
    positions: BTreeMap<String, Position>,
    problems: Vec<Problem>,
    known: Vec<String>,
}

impl<'a> Shaper<'a> {
    /// Returns the value, or nothing when it is wrong, which has then been reported.
    fn value(&mut self, schema: &'a Value, node: &Node) -> Option<Value> {
        self.positions.insert(self.path.as_str().to_owned(), node.at);
        let schema = resolve(self.root, schema);
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            let fitting = choices.iter().find(|choice| fits(resolve(self.root, choice), node));
            return match fitting.or_else(|| choices.iter().find(|choice| !is_null_schema(choice))) {
                Some(choice) => self.value(choice, node),
                None => self.any(node),
            };
        }
        if let Some(choices) = choices_of(schema) {
            return self.choice(&choices, node);
        }
        if is_null(node) && types_of(schema).any(|name| name == "null") {
            return Some(Value::Null);
        }
        match types_of(schema).find(|name| *name != "null") {
            Some("object") => self.object(schema, node),
            Some("array") => self.list(schema, node),
            Some("string") => self.text(schema, node),
            Some("integer" | "number") => self.number(schema, node),
            Some("boolean") => self.truth(node),
            _ => self.any(node),
        }
    }

    fn object(&mut self, schema: &'a Value, node: &Node) -> Option<Value> {
        let Kind::Map(entries) = &node.kind else {
            return self.wrong(node.at, "must be a mapping of fields", empty_hint(node));
        };
        let fields = schema.get("properties").and_then(Value::as_object);
        let others = Others::of(schema);
        let mut object = Map::new();
        let mut sound = true;
        for entry in entries {
            self.path.field(&entry.key);
            match (fields.and_then(|fields| fields.get(&entry.key)), &others) {
                (Some(field), _) => {
                    let value = self.value(field, &entry.value);
                    sound &= value.is_some() || !required(schema).any(|name| name == entry.key);
                    object.extend(value.map(|value| (entry.key.clone(), value)));
                }
                (None, Some(others)) => {
                    let value = self.other(others, entry);
                    object.extend(value.map(|value| (entry.key.clone(), value)));
                }
                (None, None) => self.unknown(fields, entry),
            }
            self.path.up();
        }
        for name in required(schema) {
            if !entries.iter().any(|entry| entry.key == name) {
                self.path.field(name);
                self.report(node.at, "is required", None);
                self.path.up();
                sound = false;
            }
        }
        // The whole is kept without a sound field, so that the rest of its file is looked at, too.
        (sound || self.path.as_str().is_empty()).then_some(Value::Object(object))
    }

    /// Takes an entry of a mapping from names to values.
    fn other(&mut self, others: &Others<'a>, entry: &Entry) -> Option<Value> {
        if let Some(Err((reason, hint))) = others.pattern.map(|pattern| matches_pattern(pattern, &entry.key)) {
            return self.wrong(entry.at, reason, hint);
        }
        match others.value {
            Some(schema) => self.value(schema, &entry.value),
            None => self.any(&entry.value),
        }
    }

    fn unknown(&mut self, fields: Option<&Map<String, Value>>, entry: &Entry) {
        let names = || fields.into_iter().flat_map(Map::keys).map(String::as_str);
        let elsewhere = self.known.iter().find(|path| path.rsplit('.').next() == Some(entry.key.as_str()));
        let hint = match (closest(&entry.key, names()), elsewhere) {
            (Some(name), _) => format!("did you mean {name}?"),
            (None, Some(path)) => format!("did you mean {path}?"),
            (None, None) => format!("the fields here are {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.report(entry.at, "unknown field", Some(hint));
    }

    fn list(&mut self, schema: &'a Value, node: &Node) -> Option<Value> {
        let Kind::List(items) = &node.kind else {
            let hint = match &node.kind {
                Kind::Scalar { text, .. } if !is_null(node) && text.len() <= 80 => Some(format!("write [{text}]")),
                _ => empty_hint(node),
            };
            return self.wrong(node.at, "must be a list", hint);
        };
        let (least, most) = (limit(schema, "minItems"), limit(schema, "maxItems"));
        if least.is_some_and(|least| items.len() < least) {
            return self.wrong(node.at, format!("must have at least {} item", least.unwrap_or(0)), None);
        }
        if most.is_some_and(|most| items.len() > most) {
            return self.wrong(node.at, format!("must have at most {} items", most.unwrap_or(0)), None);
        }
        let item_schema = schema.get("items");
        let mut values = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.path.item(index);
            values.extend(match item_schema {
                Some(schema) => self.value(schema, item),
                None => self.any(item),
            });
            self.path.up();
        }
        Some(Value::Array(values))
    }

    fn text(&mut self, schema: &Value, node: &Node) -> Option<Value> {
        let text = self.plain_text(node)?;
        if let Some(least) = limit(schema, "minLength")
            && text.len() < least
        {
            let reason = if text.is_empty() { "must not be empty".to_owned() } else { "is too short".to_owned() };
            return self.wrong(node.at, reason, None);
        }
        if let Some(most) = limit(schema, "maxLength")
            && text.len() > most
        {
            return self.wrong(node.at, format!("has {} bytes; at most {most} are allowed", text.len()), None);
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && let Err((reason, hint)) = matches_pattern(pattern, text)
        {
            return self.wrong(node.at, reason, hint);
        }
        Some(Value::String(text.to_owned()))
    }

    /// Takes a scalar as text; a plain one that some reader of YAML takes for something else is refused.
    fn plain_text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        let Kind::Scalar { text, plain } = &node.kind else {
            let found = if matches!(node.kind, Kind::List(_)) { "a list" } else { "a mapping" };
            return self.wrong(node.at, format!("must be a text, not {found}"), None);
        };
        if !plain {
            return Some(text);
        }
        let found = match Plain::of(text) {
            Plain::Text => return Some(text),
            Plain::Null => return self.wrong(node.at, "must be a text, but there is nothing", None),
            Plain::Bool(_) => "true or false",
            Plain::Number(_) | Plain::TooLarge => "a number",
            Plain::Ambiguous(found) => found,
        };
        let shown: String = text.chars().take(40).collect();
        self.wrong(
            node.at,
            format!("must be a text, but {shown} is {found}"),
            Some(format!("write \"{shown}\" with quotes")),
        )
    }

    fn choice(&mut self, choices: &[&str], node: &Node) -> Option<Value> {
        let reason = || format!("must be one of {}", choices.join(", "));
        let Kind::Scalar { text, .. } = &node.kind else {
            return self.wrong(node.at, reason(), None);
        };
        if choices.contains(&text.as_str()) {
            return Some(Value::String(text.clone()));
        }
        let hint = closest(text, choices.iter().copied()).map(|name| format!("did you mean {name}?"));
        self.wrong(node.at, reason(), hint)
    }

    fn number(&mut self, schema: &Value, node: &Node) -> Option<Value> {
        let whole = types_of(schema).any(|name| name == "integer");
        let (least, most) = (bound(schema, "minimum"), bound(schema, "maximum"));
        let kind = if whole { "a whole number" } else { "a number" };
        let reason = match (least, most) {
            (Some(least), Some(most)) => format!("must be {kind} from {least} to {most}"),
            (Some(least), None) => format!("must be {kind}, at least {least}"),
            _ => format!("must be {kind}"),
        };
        let Kind::Scalar { text, plain } = &node.kind else {
            return self.wrong(node.at, reason, None);
        };
        let plainly = Plain::of(text);
        if !plain {
            let hint = matches!(plainly, Plain::Number(_)).then(|| "write it without quotes".to_owned());
            return self.wrong(node.at, reason, hint);
        }
        match plainly {
            Plain::Number(number) if !whole || number.is_u64() || number.is_i64() => {
                let value = number.as_f64().unwrap_or(f64::NAN);
                let inside = least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most);
                if inside { Some(Value::Number(number)) } else { self.wrong(node.at, reason, None) }
            }
            Plain::Ambiguous(found) => {
                let digits: String = text.chars().filter(|c| *c != '_').collect();
                let digits = digits.trim_start_matches('0');
                let plain_digits =
                    !digits.is_empty() && digits.len() < 20 && digits.bytes().all(|b| b.is_ascii_digit());
                let hint = plain_digits.then(|| format!("write {digits}"));
                let shown: String = text.chars().take(40).collect();
                self.wrong(node.at, format!("{reason}, but {shown} is {found}"), hint)
            }
            Plain::Null => self.wrong(node.at, format!("{reason}, but there is nothing"), None),
            _ => self.wrong(node.at, reason, None),
        }
    }

    fn truth(&mut self, node: &Node) -> Option<Value> {
        match &node.kind {
            Kind::Scalar { text, plain: true } if let Plain::Bool(value) = Plain::of(text) => Some(Value::Bool(value)),
            _ => self.wrong(node.at, "must be true or false", None),
        }
    }

    /// Takes whatever JSON can say, for fields such as `output_schema`.
    fn any(&mut self, node: &Node) -> Option<Value> {
        self.positions.insert(self.path.as_str().to_owned(), node.at);
        match &node.kind {
            Kind::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().map(Rc::as_ref).enumerate() {
                    self.path.item(index);
                    values.extend(self.any(item));
                    self.path.up();
                }
                Some(Value::Array(values))
            }
            Kind::Map(entries) => {
                let mut object = Map::new();
                for entry in entries {
                    self.path.field(&entry.key);
                    object.extend(self.any(&entry.value).map(|value| (entry.key.clone(), value)));
                    self.path.up();
                }
                Some(Value::Object(object))
            }
            Kind::Scalar { text, plain: false } => Some(Value::String(text.clone())),
            Kind::Scalar { text, plain: true } => match Plain::of(text) {
                Plain::Text => Some(Value::String(text.clone())),
                Plain::Null => Some(Value::Null),
                Plain::Bool(value) => Some(Value::Bool(value)),
                Plain::Number(number) => Some(Value::Number(number)),
                Plain::TooLarge => self.wrong(node.at, "the number is too large", None),
                Plain::Ambiguous(found) => {
                    let shown: String = text.chars().take(40).collect();
                    let hint = format!("write \"{shown}\" with quotes if it is a text");
                    self.wrong(node.at, format!("{shown} is {found}"), Some(hint))
                }
            },
        }
    }

    fn wrong<T>(&mut self, at: Position, reason: impl Into<String>, hint: Option<String>) -> Option<T> {
        self.report(at, reason, hint);
        None
    }

    fn report(&mut self, at: Position, reason: impl Into<String>, hint: Option<String>) {
        self.problems.push(Problem { at, path: self.path.as_str().to_owned(), reason: reason.into(), hint });
    }
}

/// What a mapping takes beside its own fields: the values of any names, or of those that a pattern allows.
struct Others<'a> {
    pattern: Option<&'a str>,
    /// None takes every value.
    value: Option<&'a Value>,
}

impl<'a> Others<'a> {
    fn of(schema: &'a Value) -> Option<Self> {
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        if let Some((pattern, value)) = patterns.and_then(|patterns| patterns.iter().next()) {
            return Some(Self { pattern: Some(pattern), value: Some(value) });
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(allowed)) => allowed.then_some(Self { pattern: None, value: None }),
            Some(value) => Some(Self { pattern: None, value: Some(value) }),
            None => None,
        }
    }
}

/// What a scalar without quotes means.
enum Plain {
    Null,
    Bool(bool),
    Number(Number),
    TooLarge,
    /// YAML 1.1 and 1.2 read it differently, or JSON has no such value.
    Ambiguous(&'static str),
    Text,
}

impl Plain {
    fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        let lower = if text.len() <= 80 { text.to_ascii_lowercase() } else { return Self::Text };
        let unsigned = lower.trim_start_matches(['+', '-']);
        if matches!(lower.as_str(), "yes" | "no" | "on" | "off") {
            return Self::Ambiguous("true or false to some readers of YAML and a text to others");
        }
        if matches!(unsigned, ".nan" | ".inf") {
            return Self::Ambiguous("not a finite number");
        }
        if lower.len() - unsigned.len() > 1 || !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Self::Text;
        }
        let digits = unsigned.bytes().all(|byte| byte.is_ascii_digit());
        if digits && unsigned.len() > 1 && unsigned.starts_with('0') {
            return Self::Ambiguous("octal to some readers of YAML and decimal to others");
        }
        let radix = ["0x", "0o", "0b"].iter().find_map(|prefix| unsigned.strip_prefix(prefix));
        if radix.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_')) {
            return Self::Ambiguous("a number that is not decimal");
        }
        if unsigned.contains('_') && unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.')) {
            return Self::Ambiguous("a number to some readers of YAML and a text to others");
        }
        let clock = unsigned.split(':').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if clock && unsigned.contains(':') {
            return Self::Ambiguous("a number of base 60 to some readers of YAML and a text to others");
        }
        Self::decimal(&lower, digits)
    }

    fn decimal(text: &str, digits: bool) -> Self {
        let text = text.strip_prefix('+').unwrap_or(text);
        if digits {
            if let Ok(number) = text.parse::<u64>() {
                return Self::Number(number.into());
            }
            return text.parse::<i64>().map_or(Self::TooLarge, |number| Self::Number(number.into()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-')) {
            return Self::Text;
        }
        match text.parse::<f64>() {
            Ok(number) => Number::from_f64(number).map_or(Self::TooLarge, Self::Number),
            Err(_) => Self::Text,
        }
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, plain: true } if matches!(Plain::of(text), Plain::Null))
}

fn empty_hint(node: &Node) -> Option<String> {
    is_null(node).then(|| "there is nothing: leave the field out".to_owned())
}

fn fits(schema: &Value, node: &Node) -> bool {
    if choices_of(schema).is_some() {
        return matches!(node.kind, Kind::Scalar { .. }) && !is_null(node);
    }
    types_of(schema).any(|name| match name {
        "null" => is_null(node),
        "object" => matches!(node.kind, Kind::Map(_)),
        "array" => matches!(node.kind, Kind::List(_)),
        _ => matches!(node.kind, Kind::Scalar { .. }) && !is_null(node),
    })
}

fn is_null_schema(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn matches_pattern(pattern: &str, text: &str) -> Result<(), (String, Option<String>)> {
    if pattern == DURATION_PATTERN {
        return text.parse::<HumanDuration>().map(drop).map_err(|error| (error.to_string(), duration_hint(text)));
    }
    if pattern != NAME_PATTERN {
        return Ok(());
    }
    let name_hint = || {
        let name: String = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-");
        AgentName::new(name.as_str()).is_ok().then(|| format!("write {name}"))
    };
    AgentName::new(text).map(drop).map_err(|error| (error.to_string(), name_hint()))
}

fn duration_hint(text: &str) -> Option<String> {
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "sec" | "secs" | "second" | "seconds" | "s" => "s",
        "min" | "mins" | "minute" | "minutes" | "m" => "m",
        "hour" | "hours" | "h" => "h",
        "day" | "days" | "d" => "d",
        _ => return None,
    };
    let duration = format!("{digits}{unit}");
    duration.parse::<HumanDuration>().is_ok().then(|| format!("did you mean {duration}?"))
}

/// Follows a reference into the schema's own definitions.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// The texts that a schema allows, when it lists them.
pub(crate) fn choices_of(schema: &Value) -> Option<Vec<&str>> {
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return Some(list.iter().filter_map(Value::as_str).collect());
    }
    let list = schema.get("oneOf").and_then(Value::as_array)?;
    list.iter().map(|choice| choice.get("const").and_then(Value::as_str)).collect()
}

/// The types that a schema allows.
pub(crate) fn types_of(schema: &Value) -> impl Iterator<Item = &str> {
    let types = schema.get("type");
    let one = types.and_then(Value::as_str);
    one.into_iter().chain(types.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str))
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn limit(schema: &Value, name: &str) -> Option<usize> {
    schema.get(name).and_then(Value::as_u64).map(|limit| limit as usize)
}

fn bound(schema: &Value, name: &str) -> Option<f64> {
    schema.get(name).and_then(Value::as_f64)
}

/// The fields below the file's own, such as `limits.max_steps`, to find where a misplaced one belongs.
fn known_paths(root: &Value) -> Vec<String> {
    let fields = |schema: &Value| schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut paths = Vec::new();
    for (name, field) in fields(root) {
        let field = resolve(root, &field);
        let forms = field.get("anyOf").and_then(Value::as_array).cloned().unwrap_or_default();
        for form in std::iter::once(field).chain(&forms) {
            paths.extend(fields(resolve(root, form)).keys().map(|below| format!("{name}.{below}")));
        }
    }
    paths
}
