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
    /// Somebody named that folder, and so means no platform of another one.
    pub data_named: bool,
    /// Its agents' files, if they were named.
    pub agents: Option<PathBuf>,
    /// How results are printed.
    pub format: Format,
    /// The streams.
    pub terminal: Terminal,
}

impl Context {
    /// Names the data folder, over what was named before.
    pub fn name_data(&mut self, dir: Option<PathBuf>) {
        if let Some(dir) = dir {
            self.data = dir;
            self.data_named = true;
        }
    }

    /// Takes over the command line.
    pub fn new(globals: Globals) -> Self {
        let terminal = Terminal::of_process(globals.no_color);
        let url = globals.url.filter(|url| !url.is_empty());
        let named = globals.data_dir.filter(|dir| !dir.as_os_str().is_empty());
        let data_named = named.is_some();
        let data = named.unwrap_or_else(|| PathBuf::from("data"));
        Self { url, data, data_named, agents: globals.agents, format: globals.output, terminal }
    }
}
