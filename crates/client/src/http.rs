//! Sending a request and reading its answer.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::{Client, ClientError, PATIENCE, Problem};

impl Client {
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.at(path)).timeout(PATIENCE)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.at(path)).timeout(PATIENCE)
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request.send().await.map_err(transport)
    }

    /// Sends, and reads a successful answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        self.json_with_status(request).await.map(|(_, body)| body)
    }

    pub(crate) async fn json_with_status<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<(StatusCode, T), ClientError> {
        let response = successful(self.send(request).await?).await?;
        let status = response.status();
        let url = response.url().to_string();
        let bytes = response.bytes().await.map_err(transport)?;
        let body = serde_json::from_slice(&bytes)
            .map_err(|error| ClientError::NotUnderstood { url, reason: error.to_string() })?;
        Ok((status, body))
    }
}

/// Turns a refusal into its problem.
pub(crate) async fn successful(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let url = response.url().to_string();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let bytes = response.bytes().await.map_err(transport)?;
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Err(ClientError::Problem(Box::new(Problem { status: status.as_u16(), retry_after, ..problem }))),
        Err(_) => Err(ClientError::NotUnderstood { url, reason: format!("status {status} without a problem") }),
    }
}

pub(crate) fn transport(source: reqwest::Error) -> ClientError {
    let url = source.url().map(ToString::to_string).unwrap_or_default();
    ClientError::Transport { url, source: source.without_url() }
}

pub(crate) fn page_query(cursor: Option<&str>, limit: u32) -> Vec<(&'static str, String)> {
    let mut query = vec![("limit", limit.to_string())];
    query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
    query
}

/// A text as one segment of a path, whatever is in it.
pub(crate) fn path_segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
