//! `agentrunner tasks artifacts`: the files that are kept with a task.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use client::Client;
use domain::TaskId;
use wire::ArtifactView;

use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Grid, words};
use crate::terminal::Stream;

/// Which files.
#[derive(Debug, Args)]
pub struct ArtifactsArgs {
    /// The task.
    pub task: TaskId,
    /// Download this file instead of listing all.
    #[arg(long, value_name = "NAME")]
    pub download: Option<String>,
    /// Where to: a file that does not exist yet, or `-` for standard output [default: the last part of the name].
    #[arg(long, value_name = "FILE", requires = "download")]
    pub to: Option<PathBuf>,
    /// Replace a file that exists.
    #[arg(long, requires = "download")]
    pub force: bool,
}

/// Lists files, or downloads one.
pub(super) async fn run(context: &Context, client: &Client, args: ArtifactsArgs) -> CommandResult {
    let Some(name) = &args.download else {
        let files = client.artifacts(args.task).await?;
        output::print(context, &files, |stream| table(stream, &files))?;
        return Ok(Exit::Done);
    };
    let to = match &args.to {
        Some(to) => to.clone(),
        None => usual_place(name)?,
    };
    let to_output = to == Path::new("-");
    if to_output && context.terminal.stdout.tty {
        return Err(CommandError::usage("a file is not printed on a terminal, which would obey it")
            .hint("name a file with --to, or send the output to a pipe"));
    }
    let bytes = client.artifact(args.task, name).await?;
    if to_output {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()?;
        return Ok(Exit::Done);
    }
    write(&to, &bytes, args.force)?;
    eprintln!("{} written to {}", words::bytes(bytes.len() as u64), to.display());
    Ok(Exit::Done)
}

/// The last part of a name, in the current folder: whoever chose the name does not choose a place on this machine.
fn usual_place(name: &str) -> Result<PathBuf, CommandError> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    if last.is_empty() || last.starts_with('.') || last.chars().any(char::is_control) {
        return Err(CommandError::usage("this name is no name of a file here").hint("name one with --to"));
    }
    Ok(PathBuf::from(last))
}

fn write(to: &Path, bytes: &[u8], force: bool) -> Result<(), CommandError> {
    let mut options = File::options();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let written = options.open(to).and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| {
        let told = CommandError::usage(format!("{} cannot be written: {error}", to.display()));
        if error.kind() == std::io::ErrorKind::AlreadyExists { told.hint("--force replaces it") } else { told }
    })
}

fn table(stream: Stream, files: &[ArtifactView]) -> String {
    if files.is_empty() {
        return "no files".to_owned();
    }
    let mut grid = Grid::new(stream, &["NAME", "TYPE", "SIZE", "WRITTEN"]);
    for file in files {
        grid.plain([
            file.name.as_str(),
            file.media_type.as_str(),
            words::bytes(file.size).as_str(),
            words::moment(file.at).as_str(),
        ]);
    }
    grid.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_stays_in_its_folder() {
        assert_eq!(usual_place("data/2030/q1.csv").unwrap(), PathBuf::from("q1.csv"));
        for name in ["", "a/", "..", "a/..", ".bashrc", "a/.ssh", "a\u{7}", "a\\.."] {
            assert!(usual_place(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_file_is_not_replaced_unless_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a.txt");
        write(&to, b"one", false).unwrap();
        assert!(write(&to, b"two", false).is_err_and(|error| error.hint.is_some()));
        write(&to, b"two", true).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"two");
    }
}
