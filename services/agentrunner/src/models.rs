//! The models of a platform in this process: found, and fetched when the chosen one is not here yet.

use connect::models::{Discovery, Watch, discover};
use domain::AgentSpec;
use llm::Models;

use crate::commands::agents::{files_of, spec_of};
use crate::commands::doctor::{Finding, Status};
use crate::context::Context;
use crate::exit::CommandError;
use crate::platform::Settings;

/// The models, ready to be asked.
pub struct Prepared {
    /// By name.
    pub models: Models,
    /// Keeps them as their file says.
    pub watch: Watch,
    findings: Vec<connect::models::Finding>,
}

impl Prepared {
    /// Why the default model was chosen.
    pub fn why(&self) -> Option<&str> {
        self.findings.iter().find(|finding| finding.chosen).map(|finding| finding.why.as_str())
    }
}

/// Finds the models; a file of theirs that is not understood is an error, which tells all that is wrong with it.
pub async fn find(settings: &Settings) -> Result<Discovery, CommandError> {
    let found = discover(&settings.models).await;
    if found.problems.is_empty() {
        return Ok(found);
    }
    let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    Err(CommandError::usage(format!("the file of the models is not understood:\n  {}", problems.join("\n  ")))
        .hint("correct it, or name another one with AGENTRUNNER_MODELS; docs/models.md says what can stand in it"))
}

/// Finds the models. Fetches the default one when it is the local one, is not here yet, and is named by an agent: by
/// `only` or one that it may delegate to, else by any.
pub async fn prepare(context: &Context, settings: &Settings, only: Option<&str>) -> Result<Prepared, CommandError> {
    let Discovery { models, findings, fetch_local, watch, .. } = find(settings).await?;
    if fetch_local && default_is_wanted(settings, only, models.default_name().as_deref()) {
        fetch(context).await;
    }
    Ok(Prepared { models, watch, findings })
}

fn default_is_wanted(settings: &Settings, only: Option<&str>, default: Option<&str>) -> bool {
    let files = files_of(&settings.configs.agent_config_dir).unwrap_or_default();
    let servers = settings.process.servers();
    let specs: Vec<AgentSpec> = files.iter().filter_map(|file| spec_of(file, &servers)).collect();
    let wants = |spec: &AgentSpec| {
        let mut names = std::iter::once(&spec.model.name).chain(&spec.model.fallbacks);
        names.any(|name| name == "default" || Some(name.as_str()) == default)
    };
    match only.and_then(|name| specs.iter().find(|spec| spec.name.as_str() == name)) {
        Some(spec) if spec.delegates.is_empty() => wants(spec),
        _ => specs.iter().any(wants),
    }
}

/// Fetches the default local model. Without it the platform still runs every agent that names another model.
#[cfg(feature = "local-models")]
async fn fetch(context: &Context) {
    use crate::terminal::Paint;

    let stderr = context.terminal.stderr;
    eprintln!("fetching a small language model (99 MB, once); set OPENAI_API_KEY or start Ollama to use another");
    if let Err(error) = pull::default_model(stderr).await {
        let text = stderr.text(&crate::exit::chain(&error)).into_owned();
        eprintln!("{} {text}", stderr.paint(Paint::Yellow, "the model could not be fetched:"));
        eprintln!("agents that use the default model will fail until it is: `agentrunner doctor` says what to do");
    }
}

#[cfg(not(feature = "local-models"))]
#[expect(clippy::unused_async, reason = "has the shape of the one that fetches")]
async fn fetch(_: &Context) {}

/// Says which models there are, and why one of them is the default.
pub async fn examine(settings: &Settings) -> Vec<Finding> {
    let Discovery { models, findings, fetch_local, problems, .. } = discover(&settings.models).await;
    let path = settings.models.agentrunner_models.display();
    let mut told: Vec<Finding> = problems
        .iter()
        .map(|problem| {
            let hint = "docs/models.md says what can stand in the file";
            Finding::bad("models file", Status::Error, problem.to_string(), hint)
        })
        .collect();
    if problems.is_empty() {
        let there = settings.models.agentrunner_models.exists();
        told.push(Finding::ok(
            "models file",
            if there { format!("{path}") } else { format!("none at {path}; none is needed") },
        ));
    }
    told.extend(findings.into_iter().map(|finding| {
        let name = if finding.chosen {
            format!("model: {} (chosen)", finding.what)
        } else {
            format!("model: {}", finding.what)
        };
        Finding::ok(&name, finding.why)
    }));
    told.push(match models.default_name().as_deref() {
        Some(name) if fetch_local => Finding::bad(
            "default model",
            Status::Warning,
            format!("{name}, which is fetched when it is first needed"),
            "`agentrunner models pull` fetches it now",
        ),
        Some(name) if models.route(name).is_err() => Finding::bad(
            "default model",
            Status::Error,
            models.route(name).err().map(|error| error.to_string()).unwrap_or_default(),
            "correct AGENTRUNNER_MODEL, or start the server that it names",
        ),
        Some(name) => Finding::ok("default model", name),
        None => Finding::bad(
            "default model",
            Status::Error,
            "none",
            "set OPENAI_API_KEY or OPENAI_BASE_URL, or start Ollama, or use a build with local models",
        ),
    });
    told
}

/// Fetching model files, with a progress bar.
pub mod pull {
    #[cfg(feature = "local-models")]
    use std::path::PathBuf;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
    use llm::{LlmError, Provider};
    #[cfg(feature = "local-models")]
    use llm_local::Cache;
    #[cfg(feature = "local-models")]
    use llm_local::pull::{PullError, PullOptions, pull_default, pull_url};

    use crate::terminal::{Stream, one_line};

    /// Has a provider fetch a model.
    pub async fn at(stderr: Stream, provider: &Provider, model: &str) -> Result<(), LlmError> {
        let bar = Mutex::new(Bar::new(stderr));
        let show = |progress: llm::PullProgress| {
            let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
            bar.show(&one_line(&progress.status, 60), progress.done, progress.total);
        };
        provider.chat.pull(model, &show).await
    }

    /// Fetches the default model, unless it is here and right.
    #[cfg(feature = "local-models")]
    pub async fn default_model(stderr: Stream) -> Result<PathBuf, PullError> {
        let mut bar = Bar::new(stderr);
        pull_default(&Cache::from_env(), &mut |progress| bar.show(progress.what, progress.done, progress.total)).await
    }

    /// Fetches another model under a name.
    #[cfg(feature = "local-models")]
    pub async fn from(stderr: Stream, name: &str, source: &str, sha256: Option<&str>) -> Result<PathBuf, PullError> {
        let mut bar = Bar::new(stderr);
        let options = PullOptions::from_env();
        pull_url(&Cache::from_env(), name, source, sha256, &options, &mut |progress| {
            bar.show(progress.what, progress.done, progress.total);
        })
        .await
    }

    /// A bar on a terminal; elsewhere a line for each thing that is begun.
    struct Bar {
        progress: ProgressBar,
        quiet: bool,
        what: String,
    }

    impl Bar {
        fn new(stderr: Stream) -> Self {
            let bar = if stderr.tty {
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10))
            } else {
                ProgressBar::hidden()
            };
            bar.enable_steady_tick(Duration::from_millis(200));
            Self { progress: bar, quiet: !stderr.tty, what: String::new() }
        }

        fn show(&mut self, what: &str, done: u64, total: Option<u64>) {
            if self.what != what {
                what.clone_into(&mut self.what);
                if self.quiet {
                    eprintln!("{what}");
                }
                self.progress.set_message(what.to_owned());
                let template = match total {
                    Some(_) => "{msg:12} {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
                    None => "{spinner} {msg} {bytes}",
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    self.progress.set_style(style);
                }
            }
            if let Some(total) = total {
                self.progress.set_length(total);
            }
            self.progress.set_position(done);
        }
    }

    impl Drop for Bar {
        fn drop(&mut self) {
            self.progress.finish_and_clear();
        }
    }
}
