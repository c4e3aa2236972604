//! The REST API: one endpoint a file. A handler extracts, calls one use case, and translates.

mod agents;
mod budgets;
mod caller;
mod headers;
mod models;
mod optional_json;
mod pool_stats;
mod tasks;
mod threads;
mod tools;

use std::sync::Arc;
use std::time::Duration;

use bus::WorkQueue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{AgentsView, Pools, Tasks};
use crate::{Config, Deps};

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    tasks: Tasks,
    agents: AgentsView,
    pools: Pools,
    state: Arc<dyn state::State>,
    queue: Arc<dyn WorkQueue>,
    models: llm::Models,
    servers: Arc<dyn ::tools::servers::ToolServers>,
    clock: Arc<dyn domain::Clock>,
    streams: Arc<Semaphore>,
    max_streams: u32,
    heartbeat: Duration,
    stopping: CancellationToken,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "agent-orchestrator",
        description = "Give work to agents, and watch it being done.\n\nA task is accepted once it is committed to the \
            record; it then ends exactly once, whatever is killed in between. Errors are `application/problem+json`; \
            their `type` names a page at `/errors/`."
    ),
    tags(
        (name = "tasks", description = "Pieces of work"),
        (name = "agents", description = "Who does the work"),
        (name = "tools", description = "Servers that bring tools"),
        (name = "threads", description = "Conversations that several tasks share"),
        (name = "operations", description = "How the platform is doing")
    ),
    components(schemas(
        wire::JournalStep,
        wire::StatusEvent,
        wire::DeltaEvent,
        wire::RestartEvent,
        wire::ProgressEvent,
        wire::BudgetEvent,
        wire::TaskStatusSchema,
        wire::ExecutionModeSchema,
        wire::FailureSchema,
        wire::UsageSchema
    ))
)]
struct Documentation;

/// The routes and their description.
pub(crate) fn api(
    config: &Config,
    deps: &Deps,
    tasks: &Tasks,
    pools: &Pools,
    stopping: CancellationToken,
) -> OpenApiRouter {
    let app = App {
        tasks: tasks.clone(),
        agents: AgentsView::new(Arc::clone(&deps.state), Arc::clone(&deps.agents), pools.clone()),
        pools: pools.clone(),
        state: Arc::clone(&deps.state),
        queue: Arc::clone(&deps.queue),
        models: deps.models.clone(),
        servers: Arc::clone(&deps.servers),
        clock: Arc::clone(&deps.clock),
        streams: Arc::new(Semaphore::new(config.orchestrator_max_streams as usize)),
        max_streams: config.orchestrator_max_streams,
        heartbeat: config.orchestrator_stream_heartbeat.0,
        stopping,
    };
    let mut router = OpenApiRouter::with_openapi(Documentation::openapi())
        .routes(routes!(tasks::submit::submit_task, tasks::list::list_tasks))
        .routes(routes!(tasks::submit::queue_submit))
        .routes(routes!(tasks::get::get_task))
        .routes(routes!(tasks::journal::task_journal))
        .routes(routes!(tasks::events::task_events))
        .routes(routes!(tasks::cancel::cancel_task))
        .routes(routes!(tasks::signal::signal_task))
        .routes(routes!(tasks::retry::retry_task))
        .routes(routes!(tasks::approvals::task_approvals))
        .routes(routes!(tasks::approvals::decide_approval))
        .routes(routes!(tasks::approvals::list_approvals))
        .routes(routes!(tasks::budget::task_budget, tasks::budget::decide_budget))
        .routes(routes!(tasks::artifacts::task_artifacts))
        .routes(routes!(tasks::artifacts::download_artifact))
        .routes(routes!(budgets::list_budgets))
        .routes(routes!(tasks::dead_letters::list_dead_letters))
        .routes(routes!(agents::list_agents))
        .routes(routes!(agents::get_agent))
        .routes(routes!(threads::list_threads))
        .routes(routes!(threads::thread_messages))
        .routes(routes!(models::list_models))
        .routes(routes!(tools::list::list_tools))
        .routes(routes!(tools::approve::approve_tools))
        .routes(routes!(pool_stats::pool_stats))
        .with_state(app);
    // OpenAPI has no word for a parameter with slashes in it.
    let paths = &mut router.get_openapi_mut().paths.paths;
    *paths = std::mem::take(paths).into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    router
}
