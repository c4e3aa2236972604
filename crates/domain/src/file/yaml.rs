//! Reads YAML into a tree that remembers where everything stood and how it was written.
//!
//! A file is read by its events and not straight into types for two reasons: all problems are to be told at once, with
//! their places; and a plain `no`, `010` or `1_000` means different things to different YAML readers, which only the
//! text as it was written can show. What these files have no use for is refused: tags, merge keys, directives and
//! several documents. Size, depth, nodes and aliases are bounded before anything is built.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::problem::{FieldPath, Position, Problem};

/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 64;
/// How many scalars, lists and mappings there may be after aliases are followed.
const MAX_NODES: usize = 100_000;
/// How many aliases there may be.
const MAX_ALIASES: usize = 100;
/// How many bytes all scalars may have after aliases are followed.
const MAX_TEXT: usize = 4 * 1024 * 1024;

/// The problem of a file with nothing but white space and comments.
pub(crate) const NOTHING: &str = "the file says nothing";

/// A value and where it stood.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) kind: Kind,
    /// What it costs to repeat it by an alias.
    size: Size,
}

/// How large a value is with everything in it.
#[derive(Debug, Clone, Copy)]
struct Size {
    nodes: usize,
    bytes: usize,
    height: usize,
}

impl Size {
    fn add(&mut self, key: usize, value: Self) {
        self.nodes = self.nodes.saturating_add(value.nodes);
        self.bytes = self.bytes.saturating_add(key).saturating_add(value.bytes);
        self.height = self.height.max(value.height + 1);
    }
}

/// What a value is, as far as its form tells.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A text; `plain` when it stood without quotes, so that it may mean a number or nothing.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) value: Rc<Node>,
}

/// Reads a document. The tree is missing when there is nothing to go on with.
pub(crate) fn read(text: &[u8], max_bytes: usize) -> (Option<Rc<Node>>, Vec<Problem>) {
    let text = match plain_text(text, max_bytes) {
        Ok(text) => text,
        Err(problem) => return (None, vec![problem]),
    };
    let mut options = granit_parser::options! {
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        source: text,
        anchors: HashMap::new(),
        aliases: 0,
        nodes: 0,
        bytes: 0,
        path: FieldPath::default(),
        problems: Vec::new(),
    };
    let tree = reader.document();
    let tree = match tree {
        Ok(tree) => Some(tree),
        Err(problem) => {
            reader.problems.push(problem);
            None
        }
    };
    (tree, reader.problems)
}

/// Refuses what is not UTF-8 text of a bounded size, with one clear problem.
fn plain_text(bytes: &[u8], max_bytes: usize) -> Result<&str, Problem> {
    let problem = |at: Position, reason: String, hint: Option<&str>| Problem {
        at,
        path: String::new(),
        reason,
        hint: hint.map(str::to_owned),
    };
    let start = Position { line: 1, column: 1 };
    if bytes.len() > max_bytes {
        return Err(problem(start, format!("the file is larger than {} KiB", max_bytes / 1024), None));
    }
    let wide = bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || matches!(bytes, [0, a, ..] | [a, 0, ..] if *a != 0);
    if wide {
        return Err(problem(start, "the file is UTF-16 or UTF-32".to_owned(), Some("save it as UTF-8")));
    }
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        let reason = "the file begins with a byte order mark".to_owned();
        return Err(problem(start, reason, Some("save it as UTF-8 without BOM")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = position_of(bytes, error.valid_up_to());
        problem(at, "the file is not UTF-8 from here on".to_owned(), Some("save it as UTF-8"))
    })?;
    if let Some(index) = bytes.iter().position(|byte| *byte == 0) {
        return Err(problem(position_of(bytes, index), "there is a NUL character".to_owned(), None));
    }
    Ok(text)
}

fn position_of(bytes: &[u8], index: usize) -> Position {
    let before = &bytes[..index];
    let line = before.split(|byte| *byte == b'\n').count();
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    Position { line: number(line), column: number(column) }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A problem after which nothing more can be read.
type Stop = Problem;

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    source: &'a str,
    /// Finished anchored nodes; one that is missing is still being read, so an alias to it would hold itself.
    anchors: HashMap<usize, Rc<Node>>,
    aliases: usize,
    nodes: usize,
    bytes: usize,
    path: FieldPath,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Rc<Node>, Stop> {
        let tree = loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, span) => {
                    return Err(self.stop(at(&span), NOTHING, None));
                }
                (event, span) => break self.node(event, &span, 1)?,
            }
        };
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(tree),
                (Event::DocumentStart(..), span) => {
                    let hint = "keep one of them in this file";
                    return Err(self.stop(at(&span), "a second document begins here", Some(hint)));
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Rc<Node>, Stop> {
        let here = at(span);
        if depth > MAX_DEPTH {
            let reason = format!("yaml_budget_exceeded: nested deeper than {MAX_DEPTH} levels");
            return Err(self.stop(here, reason, None));
        }
        self.count(here, 1, 0)?;
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(here, tag.as_deref());
                self.count(here, 0, text.len())?;
                let plain = style == ScalarStyle::Plain;
                let size = Size { nodes: 1, bytes: text.len(), height: 1 };
                (anchor, Node { at: here, size, kind: Kind::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(here, tag.as_deref());
                (anchor, self.list(here, depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(here, tag.as_deref());
                (anchor, self.map(here, depth)?)
            }
            Event::Alias(anchor) => return self.alias(here, anchor, depth),
            _ => return Err(self.stop(here, "a value is missing here", None)),
        };
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    fn list(&mut self, here: Position, depth: usize) -> Result<Node, Stop> {
        let (mut items, mut size) = (Vec::new(), Size { nodes: 1, bytes: 0, height: 1 });
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Node { at: here, kind: Kind::List(items), size });
            }
            self.path.item(items.len());
            let item = self.node(event, &span, depth + 1)?;
            self.path.up();
            size.add(0, item.size);
            items.push(item);
        }
    }

    fn map(&mut self, here: Position, depth: usize) -> Result<Node, Stop> {
        let (mut entries, mut size) = (Vec::<Entry>::new(), Size { nodes: 1, bytes: 0, height: 1 });
        let mut seen: HashMap<String, Position> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            let (key, key_at, style) = match event {
                Event::MappingEnd => return Ok(Node { at: here, kind: Kind::Map(entries), size }),
                Event::Scalar(text, style, anchor, tag) => {
                    self.refuse_tag(at(&span), tag.as_deref());
                    if anchor != 0 {
                        self.problem(at(&span), "a field's name cannot have an anchor", None);
                    }
                    (text.into_owned(), at(&span), style)
                }
                _ => return Err(self.stop(at(&span), "a field's name must be a text", None)),
            };
            self.count(key_at, 1, key.len())?;
            self.path.field(&key);
            let (event, span) = self.next()?;
            let value = self.node(event, &span, depth + 1)?;
            size.nodes += 1;
            size.add(key.len(), value.size);
            let first = seen.get(&key).copied();
            if key == "<<" && style == ScalarStyle::Plain {
                self.problem(key_at, "merge keys (<<) are not supported", Some("write the fields out"));
            } else if let Some(first) = first {
                let reason = format!("the field is there twice, first in line {}", first.line);
                self.problem(key_at, reason, Some("keep one of them"));
            } else {
                seen.insert(key.clone(), key_at);
                entries.push(Entry { key, at: key_at, value });
            }
            self.path.up();
        }
    }

    fn alias(&mut self, here: Position, anchor: usize, depth: usize) -> Result<Rc<Node>, Stop> {
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            let reason = format!("yaml_budget_exceeded: more than {MAX_ALIASES} aliases");
            return Err(self.stop(here, reason, None));
        }
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(self.stop(here, "the alias stands inside of what it names", None));
        };
        // An alias below an alias adds up to more depth than either was read with.
        if depth + node.size.height > MAX_DEPTH + 1 {
            let reason = format!("yaml_budget_exceeded: nested deeper than {MAX_DEPTH} levels");
            return Err(self.stop(here, reason, None));
        }
        self.count(here, node.size.nodes, node.size.bytes)?;
        Ok(node)
    }

    fn count(&mut self, here: Position, nodes: usize, bytes: usize) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes > MAX_NODES {
            return Err(self.stop(here, format!("yaml_budget_exceeded: more than {MAX_NODES} values"), None));
        }
        if self.bytes > MAX_TEXT {
            let reason = format!("yaml_budget_exceeded: more than {} KiB of text", MAX_TEXT / 1024);
            return Err(self.stop(here, reason, None));
        }
        Ok(())
    }

    fn refuse_tag(&mut self, here: Position, tag: Option<&Tag>) {
        if let Some(tag) = tag {
            let tag: String = tag.original().chars().take(80).collect();
            let hint = "nothing is included or converted by a tag: write the value itself";
            self.problem(here, format!("the tag {tag} is not supported"), Some(hint));
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.scan_problem(&error)),
            None => Err(self.stop(Position::default(), "the file ends too early", None)),
        }
    }

    fn scan_problem(&self, error: &ScanError) -> Stop {
        let here = Position { line: number(error.marker().line()), column: number(error.marker().col() + 1) };
        let line = self.source.lines().nth(here.line.saturating_sub(1) as usize).unwrap_or_default();
        let indent = &line[..line.len() - line.trim_start().len()];
        let tab = matches!(error.kind(), ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation);
        if tab || indent.contains('\t') {
            return self.stop(here, "a tab is used to indent", Some("YAML is indented with spaces"));
        }
        let (reason, hint) = match error.kind() {
            ErrorKind::UnknownAnchor => ("the alias names nothing that stands before it".to_owned(), None),
            ErrorKind::DirectiveDisallowed => ("directives (%) are not supported".to_owned(), None),
            _ => (format!("not valid YAML: {}", error.info()), quoting_hint(line)),
        };
        self.stop(here, reason, hint)
    }

    fn problem(&mut self, at: Position, reason: impl Into<String>, hint: Option<&str>) {
        let problem = self.stop(at, reason, hint);
        self.problems.push(problem);
    }

    fn stop(&self, at: Position, reason: impl Into<String>, hint: Option<&str>) -> Stop {
        let (path, reason) = (self.path.as_str().to_owned(), reason.into());
        Problem { at, path, reason, hint: hint.map(str::to_owned) }
    }
}

/// What makes most lines of plain text unreadable: a colon, or a first character that means something else.
fn quoting_hint(line: &str) -> Option<&'static str> {
    let value = line.split_once(": ").map(|(_, value)| value.trim_start())?;
    let special = value.starts_with(['*', '&', '!', '%', '@', '`', '[', '{', '|', '>']);
    (special || value.contains(": ")).then_some("put the text into quotes, or below the field after a |")
}

fn at(span: &Span) -> Position {
    Position { line: number(span.start.line()), column: number(span.start.col() + 1) }
}
