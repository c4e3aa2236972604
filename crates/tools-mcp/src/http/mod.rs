//! Servers elsewhere, reached through the one door for outgoing requests.

mod client;
mod oauth;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{AuthClient, StreamableHttpClientTransport, common::client_side_sse::ExponentialBackoff};
use tools::egress::{Destination, Egress, EgressOptions, HostPort};

use crate::config::{Grant, OAuthSpec, SecretError, ServerSpec};
use crate::connection::NoConnection;
use crate::text;
use oauth::GuardedOAuth;

pub(crate) use client::Guarded;
pub(crate) use oauth::Tokens;
pub use oauth::{Login, LoginError};

/// The largest message, and the largest event of a stream, in bytes.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// A server elsewhere.
pub(crate) struct Remote {
    server: String,
    url: String,
    oauth: Option<OAuthSpec>,
    guarded: Guarded,
    authorizer: Arc<GuardedOAuth>,
    tokens: Tokens,
    headers: HashMap<HeaderName, HeaderValue>,
}

impl Remote {
    /// Finds the secrets and opens the door for what the operator's file names.
    pub(crate) fn new(
        server: &str,
        spec: &ServerSpec,
        egress: &EgressOptions,
        tokens: &Tokens,
    ) -> Result<Self, String> {
        let url = spec.url.clone().unwrap_or_default();
        let destination = Destination::parse(&url).map_err(|blocked| blocked.to_string())?;
        let host = destination.url().host_str().unwrap_or_default().to_owned();
        let port = destination.url().port_or_known_default().unwrap_or(443);
        let own: HostPort = format!("{host}:{port}").parse().map_err(|error| format!("{error}"))?;
        let mut options = egress.clone();
        let mut plain = spec.allow_private_hosts.clone();
        if spec.allow_private {
            options.allow_private.push(own);
            plain.push(oauth::host_port(destination.url()));
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
        let egress = Arc::new(Egress::new(options));
        Ok(Self {
            server: server.to_owned(),
            url,
            oauth: spec.oauth.clone(),
            guarded: Guarded::new(Arc::clone(&egress), &destination),
            authorizer: Arc::new(GuardedOAuth { egress, plain }),
            tokens: tokens.clone(),
            headers,
        })
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
    pub(crate) async fn transport(&self) -> Result<StreamableHttpClientTransport<AuthClient<Guarded>>, NoConnection> {
        let (authorizer, store) = (Arc::clone(&self.authorizer), self.tokens.of(&self.server, &self.url));
        let manager = oauth::manager(&self.url, self.oauth.as_ref(), authorizer, store).await;
        let manager = manager
            .map_err(|error| NoConnection::Failed(format!("no token: {}", text::line(&error.to_string(), 300))))?;
        let client = AuthClient::new(self.guarded.clone(), manager);
        Ok(StreamableHttpClientTransport::with_client(client, self.config()))
    }

    /// Tells whether the server refused a call because our token allows too little.
    pub(crate) fn wants_more(&self) -> bool {
        self.guarded.wants_more()
    }

    /// Prepares a person's authorization; nothing when the server wants none.
    pub(crate) async fn login(&self) -> Option<Result<Login, LoginError>> {
        let spec = self.oauth.as_ref().filter(|spec| spec.grant == Grant::AuthorizationCode)?;
        let (authorizer, store) = (Arc::clone(&self.authorizer), self.tokens.of(&self.server, &self.url));
        let challenge = self.guarded.challenge();
        Some(Login::begin(&self.url, spec, authorizer, store, challenge.as_deref()).await)
    }
}
