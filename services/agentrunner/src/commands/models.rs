//! `agentrunner models`: looking at models, and fetching them.

use clap::{Args, Subcommand};
use wire::ModelView;

use crate::context::Context;
use crate::exit::{CommandResult, Exit};
use crate::output::{self, Color, Grid};
use crate::session::{Need, Session, load};
use crate::terminal::Stream;

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models that agents can name: of the running platform, else those that one would find.
    #[command(after_help = "Example:
  agentrunner models list --output json | jq -r '.[] | select(.default).name'")]
    List,
    /// Fetch a model that runs in this process: the small default one, or a GGUF file from a hub or an address.
    #[command(after_help = "Examples:
  agentrunner models pull
  agentrunner models pull hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF/smollm2-360m-instruct-q8_0.gguf
  agentrunner models pull https://example.com/my-model.gguf --name mine --sha256 0123…

An agent then names it as `model: local/NAME`.")]
    Pull(PullArgs),
}

/// What to fetch.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// `hf:OWNER/REPO/FILE.gguf` or an https: address; the default model when absent.
    pub source: Option<String>,
    /// The model's name; made of the file's name when absent.
    #[arg(long, requires = "source")]
    pub name: Option<String>,
    /// The SHA-256 that the file must have.
    #[arg(long, requires = "source", value_name = "HASH")]
    pub sha256: Option<String>,
}

/// Does it.
pub async fn run(context: &Context, command: ModelsCommand) -> CommandResult {
    match command {
        ModelsCommand::List => list(context).await,
        ModelsCommand::Pull(args) => pull(context, args).await,
    }
}

async fn list(context: &Context) -> CommandResult {
    let models = if let Some(session) = Session::running(context, Need::Record).await? {
        session.client.models().await?
    } else {
        let found = connect::models::discover(&load(context)?.models).await.models.list();
        found
            .into_iter()
            .map(|model| ModelView { name: model.name, default: model.default, note: model.note })
            .collect()
    };
    output::print(context, &models, |stream| table(stream, &models))?;
    Ok(Exit::Done)
}

fn table(stream: Stream, models: &[ModelView]) -> String {
    if models.is_empty() {
        return "no models: `agentrunner doctor` says what to do".to_owned();
    }
    let mut grid = Grid::new(stream, &["NAME", "DEFAULT", "WHERE AND WHY"]);
    for model in models {
        let default = if model.default { "default" } else { "" };
        grid.row([(model.name.as_str(), Color::Plain), (default, Color::Green), (model.note.as_str(), Color::Plain)]);
    }
    grid.finish()
}

#[cfg(feature = "local-models")]
async fn pull(context: &Context, args: PullArgs) -> CommandResult {
    use crate::exit::{CommandError, chain};
    use crate::models::pull;

    let stderr = context.terminal.stderr;
    let (name, fetched) = match args.source {
        None => (llm_local::DEFAULT_MODEL.to_owned(), pull::default_model(stderr).await),
        Some(source) => {
            let Some(name) = args.name.or_else(|| llm_local::pull::name_for(&source)) else {
                return Err(CommandError::usage(format!("no name can be made of {source}"))
                    .hint("choose one with --name; the source must be a .gguf file"));
            };
            let fetched = pull::from(stderr, &name, &source, args.sha256.as_deref()).await;
            (name, fetched)
        }
    };
    let path = fetched.map_err(|error| {
        let usage = matches!(error, llm_local::pull::PullError::Invalid { .. });
        if usage { CommandError::usage(chain(&error)) } else { CommandError::failed(chain(&error)) }
    })?;
    let pulled = serde_json::json!({ "model": format!("local/{name}"), "file": path });
    output::print(context, &pulled, |_| format!("local/{name} is in {}", path.display()))?;
    Ok(Exit::Done)
}

#[cfg(not(feature = "local-models"))]
#[expect(clippy::unused_async, reason = "has the shape of the one that fetches")]
async fn pull(_: &Context, _: PullArgs) -> CommandResult {
    let hint = "build with the feature local-models";
    Err(crate::exit::CommandError::usage("this build has no local models").hint(hint))
}
