//! `agentrunner models`: looking at models, asking them, and fetching them.

use std::time::Duration;

use clap::{Args, Subcommand};
use domain::{Message, Usd};
use llm::{ChatRequest, LlmError, Models};
use serde::Serialize;
use wire::{ModelKind, ModelPrice, ModelView};

use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::models::find;
use crate::output::{self, Color, Grid};
use crate::session::{Need, Session, load};
use crate::terminal::{Paint, Stream};

/// How long a model has to answer a test.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models and routes that agents can name: of the running platform, else those that one would find.
    #[command(
        after_help = "Prices are US dollars per million tokens. Calls and spend are those of the running platform's process.

Example:
  agentrunner models list --output json | jq -r '.[] | select(.default).name'"
    )]
    List,
    /// Ask models a tiny question: which answer, how fast, for how much. It costs what it costs.
    #[command(after_help = "Exit codes:
  0  all of them answered
  1  one did not, within 10 seconds

Examples:
  agentrunner models test
  agentrunner models test smart openai/gpt-5-mini")]
    Test(TestArgs),
    /// Fetch a model: one that runs in this process, or one of a provider that fetches models itself.
    #[command(after_help = "Examples:
  agentrunner models pull
  agentrunner models pull ollama/llama3.2:3b
  agentrunner models pull hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF/smollm2-360m-instruct-q8_0.gguf
  agentrunner models pull https://example.com/my-model.gguf --name mine --sha256 0123…

An agent then names it as `model: local/NAME`, or `model: ollama/NAME`.")]
    Pull(PullArgs),
}

/// What to ask.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Models and routes; all that each of them may ask is asked. The default model when absent.
    pub names: Vec<String>,
}

/// What to fetch.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// `hf:OWNER/REPO/FILE.gguf`, an https: address, or `ollama/NAME`; the default local model when absent.
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
        ModelsCommand::Test(args) => test(context, args).await,
        ModelsCommand::Pull(args) => pull(context, args).await,
    }
}

async fn list(context: &Context) -> CommandResult {
    let models = if let Some(session) = Session::running(context, Need::Record).await? {
        session.client.models().await?
    } else {
        let models = find(&load(context)?).await?.models;
        models.status().into_iter().map(found).collect()
    };
    output::print(context, &models, |stream| table(stream, &models))?;
    if let Some(problem) = models.iter().find_map(|model| model.problem.as_ref()) {
        let stderr = context.terminal.stderr;
        let warning = stderr.paint(Paint::Yellow, "the file of the models has changed and is not understood:");
        eprintln!("{warning}\n{}", stderr.text(problem));
    }
    Ok(Exit::Done)
}

/// A model that nobody has asked yet.
fn found(status: llm::ModelStatus) -> ModelView {
    let price = status.terms.price.map(|price| ModelPrice {
        input: price.input,
        output: price.output,
        cached_input: price.cached_input,
        cache_write: price.cache_write,
    });
    // Nobody has looked whether what is there answers.
    let health = if status.health == llm::NodeHealth::Up { "" } else { status.health.as_str() };
    ModelView {
        kind: if status.targets.is_some() { ModelKind::Route } else { ModelKind::Model },
        name: status.name,
        default: status.default,
        note: status.note,
        targets: status.targets.into_iter().flatten().map(|target| target.nodes).collect(),
        price,
        context_window: status.terms.context_window,
        max_output_tokens: status.terms.max_output_tokens,
        embeddings: status.terms.embeddings,
        health: health.to_owned(),
        outstanding: 0,
        latency_p50_ms: None,
        latency_p95_ms: None,
        calls: 0,
        errors: 0,
        input_tokens: 0,
        output_tokens: 0,
        spend_usd: Usd(0),
        last_error: None,
        problem: None,
    }
}

fn table(stream: Stream, models: &[ModelView]) -> String {
    if models.is_empty() {
        return "no models: `agentrunner doctor` says what to do".to_owned();
    }
    let header = ["NAME", "DEFAULT", "HEALTH", "IN/OUT $/M", "CALLS", "ERRORS", "P50", "SPEND", "WHERE AND WHY"];
    let mut grid = Grid::new(stream, &header);
    for model in models {
        let default = if model.default { "default" } else { "" };
        let color = match model.health.as_str() {
            "up" => Color::Green,
            "down" => Color::Red,
            "paused" | "trying" | "unconfigured" => Color::Yellow,
            _ => Color::Plain,
        };
        let health = model
            .last_error
            .as_ref()
            .filter(|_| model.health != "up")
            .map_or_else(|| model.health.clone(), |last| format!("{} ({})", model.health, last.kind));
        let count = |number: u64| if model.calls == 0 { String::new() } else { number.to_string() };
        let spend = if model.spend_usd.is_zero() { String::new() } else { model.spend_usd.to_string() };
        let p50 = model.latency_p50_ms.map_or_else(String::new, |millis| format!("{millis} ms"));
        grid.row([
            (model.name.as_str(), Color::Plain),
            (default, Color::Green),
            (&health, color),
            (&price(model), Color::Plain),
            (&count(model.calls), Color::Plain),
            (&count(model.errors), if model.errors > 0 { Color::Yellow } else { Color::Plain }),
            (&p50, Color::Plain),
            (&spend, Color::Plain),
            (model.note.as_str(), Color::Plain),
        ]);
    }
    grid.finish()
}

fn price(model: &ModelView) -> String {
    match model.price {
        _ if model.kind == ModelKind::Route => String::new(),
        Some(price) if price.input.is_zero() && price.output.is_zero() => "free".to_owned(),
        Some(price) => format!("{}/{}", price.input.dollars(), price.output.dollars()),
        None => "?".to_owned(),
    }
}

/// How a model did.
#[derive(Debug, Serialize)]
struct Tested {
    name: String,
    ok: bool,
    latency_ms: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_usd: Usd,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn test(context: &Context, args: TestArgs) -> CommandResult {
    let models = find(&load(context)?).await?.models;
    let names = if args.names.is_empty() { vec!["default".to_owned()] } else { args.names };
    let mut tested = Vec::new();
    for name in &names {
        match models.route(name) {
            Ok(_) => {
                for one in everything_behind(&models, name) {
                    tested.push(ask(&models, &one).await);
                }
            }
            Err(error) => tested.push(Tested::failed(name, 0, &error)),
        }
    }
    output::print(context, &tested, |stream| test_table(stream, &tested))?;
    Ok(if tested.iter().all(|tested| tested.ok) { Exit::Done } else { Exit::Failed })
}

/// A model's own name; of a route, every model of every node.
fn everything_behind(models: &Models, name: &str) -> Vec<String> {
    let name = if name == "default" { models.default_name().unwrap_or_default() } else { name.to_owned() };
    let status = models.status().into_iter().find(|status| status.name == name);
    let nodes = status.and_then(|status| status.targets).into_iter().flatten().flat_map(|target| target.nodes);
    let nodes: Vec<String> = nodes.collect();
    if nodes.is_empty() { vec![name] } else { nodes }
}

async fn ask(models: &Models, name: &str) -> Tested {
    let candidate = match models.route(name).map(|route| route.candidates.into_iter().next()) {
        Ok(Some(candidate)) => candidate,
        Ok(None) => {
            let reason = "nothing stands behind it".to_owned();
            return Tested::failed(name, 0, &LlmError::Unknown { model: name.to_owned(), reason });
        }
        Err(error) => return Tested::failed(name, 0, &error),
    };
    let request = ChatRequest {
        model: String::new(),
        messages: vec![Message::user("Answer with the single word: ready".to_owned())],
        tools: Vec::new(),
        output_schema: None,
        temperature: None,
        // Models that think need room before the first word.
        max_output_tokens: Some(512),
        effort: None,
        timeout: TEST_TIMEOUT,
        idle_timeout: TEST_TIMEOUT,
    };
    let begun = tokio::time::Instant::now();
    let answer = candidate.chat(&request, &|_| {}).await;
    let latency_ms = begun.elapsed().as_millis() as u64;
    match answer {
        Ok(answer) => Tested {
            name: name.to_owned(),
            ok: true,
            latency_ms,
            input_tokens: answer.usage.input_tokens,
            output_tokens: answer.usage.output_tokens,
            cost_usd: answer.usage.cost,
            error: None,
        },
        Err(error) => Tested::failed(name, latency_ms, &error),
    }
}

impl Tested {
    fn failed(name: &str, latency_ms: u64, error: &LlmError) -> Self {
        let (input_tokens, output_tokens, cost_usd) = (0, 0, Usd(0));
        let error = Some(error.to_string());
        Self { name: name.to_owned(), ok: false, latency_ms, input_tokens, output_tokens, cost_usd, error }
    }
}

fn test_table(stream: Stream, tested: &[Tested]) -> String {
    let mut grid = Grid::new(stream, &["NAME", "RESULT", "LATENCY", "TOKENS", "COST", "ERROR"]);
    for one in tested {
        let (result, color) = if one.ok { ("ok", Color::Green) } else { ("error", Color::Red) };
        let tokens = if one.ok { format!("{} + {}", one.input_tokens, one.output_tokens) } else { String::new() };
        let cost = if one.ok { one.cost_usd.to_string() } else { String::new() };
        grid.row([
            (one.name.as_str(), Color::Plain),
            (result, color),
            (&format!("{} ms", one.latency_ms), Color::Plain),
            (&tokens, Color::Plain),
            (&cost, Color::Plain),
            (one.error.as_deref().unwrap_or_default(), Color::Plain),
        ]);
    }
    grid.finish()
}

async fn pull(context: &Context, args: PullArgs) -> CommandResult {
    let provider = args.source.as_deref().and_then(|source| source.split_once('/'));
    if let Some((provider, model)) = provider.filter(|(provider, _)| !provider.contains(':') && *provider != "local") {
        return pull_at(context, provider, model).await;
    }
    pull_local(context, args).await
}

/// Has a provider fetch a model.
async fn pull_at(context: &Context, provider: &str, model: &str) -> CommandResult {
    let models = find(&load(context)?).await?.models;
    let Some(found) = models.provider(provider) else {
        let why = models.route(&format!("{provider}/{model}")).err().map(|error| error.to_string());
        return Err(CommandError::usage(why.unwrap_or_else(|| format!("there is no provider {provider}"))));
    };
    let fetched = crate::models::pull::at(context.terminal.stderr, &found, model).await;
    fetched.map_err(|error| CommandError::failed(error.to_string()))?;
    let name = format!("{provider}/{model}");
    output::print(context, &serde_json::json!({ "model": name }), |_| format!("{name} is there"))?;
    Ok(Exit::Done)
}

#[cfg(feature = "local-models")]
async fn pull_local(context: &Context, args: PullArgs) -> CommandResult {
    use crate::exit::chain;
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
async fn pull_local(_: &Context, _: PullArgs) -> CommandResult {
    let hint = "build with the feature local-models";
    Err(CommandError::usage("this build has no local models").hint(hint))
}
