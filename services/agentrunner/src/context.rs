//! What every command knows: where its platform may be, and how to print.

use std::path::PathBuf;

use crate::cli::{Format, Globals};
use crate::terminal::Terminal;

/// What every command knows.
#[derive(Debug, Clone)]
pub struct Context {
    /// The platform that was named.
    pub url: Option<String>,
    /// The folder of a platform in this process.
    pub data: PathBuf,
    /// Its agents' files, if they were named.
    pub agents: Option<PathBuf>,
    /// How results are printed.
    pub format: Format,
    /// The streams.
    pub terminal: Terminal,
}

impl Context {
    /// Takes over the command line.
    pub fn new(globals: Globals) -> Self {
        let terminal = Terminal::of_process(globals.no_color);
        let url = globals.url.filter(|url| !url.is_empty());
        Self { url, data: globals.data_dir, agents: globals.agents, format: globals.output, terminal }
    }
}
