//! The list of a server's models.

use std::time::Duration;

use llm::LlmError;
use llm_http::{Server, in_time};
use serde::Deserialize;

const TIMEOUT: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// The names of the server's models, sorted; asked once, without repetition.
pub(crate) async fn list_models(server: &Server) -> Result<Vec<String>, LlmError> {
    let asked = server.asked("*", Vec::new());
    let listed = async {
        let response = asked.send(server.get(&server.url("models"))).await?;
        let list = asked.read_json(response, MOST_BYTES, TIMEOUT).await?;
        let list: List = serde_json::from_value(list).map_err(|_| asked.invalid(&"it gives no list of models"))?;
        let mut names: Vec<String> = list.data.into_iter().map(|model| model.id).collect();
        names.sort_unstable();
        Ok(names)
    };
    in_time(asked.model(), TIMEOUT, async { listed.await.map_err(|failed: llm_http::Failed| failed.error) }).await
}
