//! Results as a person or a program reads them.

mod describe;
mod grid;
pub mod live;
pub mod words;

use std::io::{self, Write as _};

use serde::Serialize;

use crate::cli::Format;
use crate::context::Context;
use crate::terminal::{Stream, neutral_json};

pub use describe::{Line, Mark, steps};
pub use grid::{Color, Grid};

/// Prints a result: as JSON or YAML when that was asked for, else what `table` makes of it.
pub fn print<T: Serialize>(context: &Context, value: &T, table: impl FnOnce(Stream) -> String) -> io::Result<()> {
    let stdout = context.terminal.stdout;
    let text = match context.format {
        Format::Table => table(stdout),
        Format::Json => json(value, stdout)?,
        Format::Yaml => yaml(value, stdout)?,
    };
    line(&text)
}

/// Prints a line on standard output.
pub fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.trim_end_matches('\n'))?;
    stdout.flush()
}

/// Writes a value as JSON that a terminal does not obey.
pub fn json<T: Serialize>(value: &T, stream: Stream) -> io::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(if stream.tty { neutral_json(&text).into_owned() } else { text })
}

fn yaml<T: Serialize>(value: &T, stream: Stream) -> io::Result<String> {
    // By way of JSON, so that both forms have the same fields.
    let value = serde_json::to_value(value)?;
    let text = serde_saphyr::to_string(&value).map_err(io::Error::other)?;
    Ok(stream.text(&text).into_owned())
}
