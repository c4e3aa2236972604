//! Servers elsewhere, reached through the one door for outgoing requests.

mod client;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, common::client_side_sse::ExponentialBackoff};
use tools::egress::{Destination, Egress, EgressOptions, HostPort};

use crate::config::{SecretError, ServerSpec};
use crate::connection::NoConnection;

pub(crate) use client::Guarded;

/// The largest message, and the largest event of a stream, in bytes.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// A server elsewhere.
pub(crate) struct Remote {
    pub(crate) url: String,
    pub(crate) guarded: Guarded,
    headers: HashMap<HeaderName, HeaderValue>,
}

impl Remote {
    /// Finds the secrets and opens the door for what the operator's file names.
    pub(crate) fn new(spec: &ServerSpec, egress: &EgressOptions) -> Result<Self, String> {
        let url = spec.url.clone().unwrap_or_default();
        let destination = Destination::parse(&url).map_err(|blocked| blocked.to_string())?;
        let host = destination.url().host_str().unwrap_or_default().to_owned();
        let port = destination.url().port_or_known_default().unwrap_or(443);
        let own: HostPort = format!("{host}:{port}").parse().map_err(|error| format!("{error}"))?;
        let mut options = egress.clone();
        if spec.allow_private {
            options.allow_private.push(own);
        }
        for host in &spec.allow_private_hosts {
            options.allow_private.push(host.parse().map_err(|error| format!("{error}"))?);
        }
        // The operator named this port: it need not be a usual one.
        options.ports.push(port);
        let mut headers = HashMap::new();
        for (name, value) in &spec.headers {
            let value =
                value.find().map_err(|error: SecretError| format!("the header {name} is not known: {error}"))?;
            let name = HeaderName::try_from(name.as_str()).map_err(|_| format!("{name} is no header"))?;
            let mut value =
                HeaderValue::try_from(value).map_err(|_| format!("the header {name} has no valid value"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let guarded = Guarded::new(Arc::new(Egress::new(options)), &destination);
        Ok(Self { url, guarded, headers })
    }

    fn config(&self) -> StreamableHttpClientTransportConfig {
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str());
        config.custom_headers.clone_from(&self.headers);
        config.max_sse_event_size = MAX_MESSAGE;
        config.allow_stateless = true;
        config.reinit_on_expired_session = true;
        let mut retry = ExponentialBackoff::default();
        retry.max_times = Some(5);
        retry.base_duration = Duration::from_millis(200);
        config.retry_config = Arc::new(retry);
        config
    }

    /// Makes the transport of one conversation.
    #[expect(clippy::unused_async, reason = "tokens are looked up here")]
    pub(crate) async fn transport(&self) -> Result<StreamableHttpClientTransport<Guarded>, NoConnection> {
        Ok(StreamableHttpClientTransport::with_client(self.guarded.clone(), self.config()))
    }
}
