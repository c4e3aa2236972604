//! Looks at the folder: every file's name, its content's digest and what the content says.
//!
//! A change is found by content. Times of change repeat on coarse clocks, sizes repeat, inodes are reused, and a symbolic
//! link hides all of them; a digest does not lie, and the files are small. Nothing here can block on a pipe or a device,
//! or read without end: what is not a regular file of bounded size within the folder is never opened.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::AgentSpec;
use domain::agent::{FileProblem, MAX_FILE_BYTES, locate, parse_for};

/// How many files are looked at; a folder with more is surely not one of agents.
const MAX_FILES: usize = 10_000;

/// What the folder holds, by file name.
pub(crate) type Look = BTreeMap<String, Seen>;

/// One file at one moment. Equal when it says the same.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    digest: blake3::Hash,
    pub(crate) content: Arc<Result<Parsed, Vec<FileProblem>>>,
}

/// A file that is right in itself.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) spec: AgentSpec,
    /// Where each agent that it refers to is named: field, line and column.
    pub(crate) references: Vec<Reference>,
}

/// A place that names another agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) agent: domain::AgentName,
    pub(crate) path: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Seen {
    fn skipped(file: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let digest = blake3::hash(format!("skipped: {file}: {reason}").as_bytes());
        Self { digest, content: Arc::new(Err(vec![FileProblem::of_file(file, reason)])) }
    }

    /// Reads what a file says.
    pub(super) fn parsed(file: &str, text: &[u8], servers: &[String]) -> Self {
        let content = parse_for(file, text, servers).map(|spec| Parsed { references: references(&spec, text), spec });
        Self { digest: digest(file, text), content: Arc::new(content) }
    }
}

/// A folder that is looked at again and again; what a file said before is not read anew.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    servers: Arc<[String]>,
    known: HashMap<blake3::Hash, Seen>,
}

impl Folder {
    pub(crate) fn new(dir: PathBuf, servers: Arc<[String]>) -> Self {
        Self { dir, servers, known: HashMap::new() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks at all files. Blocks on the disk.
    pub(crate) fn look(&mut self) -> io::Result<Look> {
        let root = fs::canonicalize(&self.dir)?;
        let mut look = Look::new();
        for entry in fs::read_dir(&root)? {
            let name = entry?.file_name();
            let Some(file) = name.to_str().filter(|name| is_agent_file(name)) else { continue };
            if look.len() == MAX_FILES {
                return Err(io::Error::other(format!("it holds more than {MAX_FILES} files of agents")));
            }
            match read(&root, file) {
                Ok(text) => {
                    let known = self.known.get(&digest(file, &text)).cloned();
                    look.insert(file.to_owned(), known.unwrap_or_else(|| Seen::parsed(file, &text, &self.servers)));
                }
                Err(Unread::Gone) => {}
                Err(Unread::Skipped(reason)) => {
                    look.insert(file.to_owned(), Seen::skipped(file, reason));
                }
            }
        }
        self.known = look.values().map(|seen| (seen.digest, seen.clone())).collect();
        Ok(look)
    }
}

enum Unread {
    /// It went away between the list and the look.
    Gone,
    /// It must not or cannot be read.
    Skipped(String),
}

impl From<String> for Unread {
    fn from(reason: String) -> Self {
        Self::Skipped(reason)
    }
}

fn is_agent_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("yml" | "yaml"))
}

fn read(root: &Path, file: &str) -> Result<Vec<u8>, Unread> {
    let path = root.join(file);
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::Gone),
        Err(error) => return Err(unreadable(error).into()),
        Ok(_) => {}
    }
    let target = fs::canonicalize(&path).map_err(unreadable)?;
    if !target.starts_with(root) {
        return Err("is a symbolic link out of the folder".to_owned().into());
    }
    // Before opening: to open a pipe would wait for its writer.
    check(&fs::metadata(&target).map_err(unreadable)?)?;
    let opened = File::open(&target).map_err(unreadable)?;
    check(&opened.metadata().map_err(unreadable)?)?;
    let mut text = Vec::new();
    opened.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn check(meta: &fs::Metadata) -> Result<(), String> {
    if meta.is_dir() {
        return Err("is a folder".to_owned());
    }
    if !meta.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if meta.len() > MAX_FILE_BYTES as u64 {
        return Err(format!("is larger than {} KiB", MAX_FILE_BYTES / 1024));
    }
    Ok(())
}

fn digest(file: &str, text: &[u8]) -> blake3::Hash {
    // The name belongs to it, because the problems that were found name the file.
    blake3::Hasher::new().update(file.as_bytes()).update(&[0]).update(text).finalize()
}

fn references(spec: &AgentSpec, text: &[u8]) -> Vec<Reference> {
    let delegates = spec.delegates.iter().enumerate().map(|(index, name)| (format!("delegates[{index}]"), name));
    let members = spec.team.iter().flat_map(|team| team.members.iter().enumerate());
    let members = members.map(|(index, name)| (format!("team.members[{index}]"), name));
    let named: Vec<_> = delegates.chain(members).collect();
    let places = locate(text, named.iter().map(|(path, _)| path.as_str()));
    let reference = |((path, agent), (line, column)): ((String, &domain::AgentName), (u32, u32))| Reference {
        agent: agent.clone(),
        path,
        line,
        column,
    };
    named.into_iter().zip(places).map(reference).collect()
}
