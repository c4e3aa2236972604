//! The models that agents can use here.

use axum::Json;
use axum::extract::State;
use wire::ModelView;

use super::App;

/// Lists the models that an agent's file can name.
///
/// A provider may know more than it lists; any `provider/name` of a listed provider can be tried.
#[utoipa::path(get, path = "/models", operation_id = "model_list", tag = "operations",
    responses((status = 200, description = "The known models, by name", body = Vec<ModelView>)))]
pub(crate) async fn list_models(State(app): State<App>) -> Json<Vec<ModelView>> {
    let models = app.models.list().into_iter();
    Json(models.map(|model| ModelView { name: model.name, default: model.default, note: model.note }).collect())
}
