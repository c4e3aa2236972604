//! The models that agents can use here, and how they do.

use axum::Json;
use axum::extract::State;
use domain::Timestamp;
use llm::ModelStatus;
use wire::{ModelError, ModelKind, ModelPrice, ModelView};

use super::App;

/// Lists the models and routes that an agent's file can name, with their health and what they cost.
///
/// A provider may know more than it lists; any `provider/name` of a listed provider can be tried. Figures are those of the
/// process that answers, since it started: where pools are processes of their own, each has its own at its `/metrics`.
#[utoipa::path(get, path = "/models", operation_id = "model_list", tag = "operations",
    responses((status = 200, description = "The known routes and models, by name", body = Vec<ModelView>)))]
pub(crate) async fn list_models(State(app): State<App>) -> Json<Vec<ModelView>> {
    let (now, problem) = (app.clock.now(), app.models.problem());
    Json(app.models.status().into_iter().map(|status| view(status, now, problem.as_ref())).collect())
}

fn view(status: ModelStatus, now: Timestamp, problem: Option<&String>) -> ModelView {
    let millis = |time: std::time::Duration| time.as_millis() as u64;
    let last_error =
        status.last_error.map(|last| ModelError { kind: last.kind.as_str().to_owned(), at: now - last.ago });
    ModelView {
        kind: if status.targets.is_some() { ModelKind::Route } else { ModelKind::Model },
        name: status.name,
        default: status.default,
        note: status.note,
        targets: status.targets.into_iter().flatten().map(|target| target.nodes).collect(),
        price: status.terms.price.map(|price| ModelPrice {
            input: price.input,
            output: price.output,
            cached_input: price.cached_input,
            cache_write: price.cache_write,
        }),
        context_window: status.terms.context_window,
        max_output_tokens: status.terms.max_output_tokens,
        embeddings: status.terms.embeddings,
        health: status.health.as_str().to_owned(),
        outstanding: status.outstanding,
        latency_p50_ms: status.latency_p50.map(millis),
        latency_p95_ms: status.latency_p95.map(millis),
        calls: status.calls,
        errors: status.errors,
        input_tokens: status.input_tokens,
        output_tokens: status.output_tokens,
        spend_usd: status.spend,
        last_error,
        problem: problem.cloned(),
    }
}
