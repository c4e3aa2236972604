//! Tokens for servers: how they are asked for, where they are kept, and that each goes to its own server alone.
//!
//! The steps of the protocol are `rmcp`'s. Every request of theirs goes through the guard of outgoing requests; a token is
//! kept under the name *and* the address of its server, so that no other one is ever sent it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::LOCATION;
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationRequest, AuthorizationSession, ClientCredentialsConfig,
    CredentialRefreshGuard, CredentialStore, OAuthClientConfig, OAuthHttpClient, OAuthHttpClientError,
    OAuthHttpClientFuture, OAuthHttpRedirectPolicy, OAuthHttpRequest, StoredCredentials,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tools::egress::{Destination, Egress};

use crate::config::{Grant, OAuthSpec};
use crate::text;

/// How much of an answer is read.
const MAX_BODY: usize = 1024 * 1024;
const MAX_REDIRECTS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a person has to allow it.
const DECISION: Duration = Duration::from_secs(600);

/// Why no token was got.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such server is declared, or it is not one that gives tokens.
    #[error("{0} is no declared server with `oauth`")]
    NotDeclared(String),
    /// This machine does not let us listen for the browser.
    #[error("could not listen for the browser's return")]
    Listen(#[source] std::io::Error),
    /// The person or the authorization server refused.
    #[error("the authorization server refused: {0}")]
    Refused(String),
    /// Nobody decided in time.
    #[error("nobody allowed it within ten minutes")]
    TimedOut,
    /// The server or the authorization server does not work as the protocol says.
    #[error("the authorization did not work: {0}")]
    Failed(String),
}

impl LoginError {
    fn failed(error: &AuthError) -> Self {
        Self::Failed(text::line(&error.to_string(), 500))
    }
}

/// Sends the requests of an authorization through the guard.
pub(crate) struct GuardedOAuth {
    pub(crate) egress: Arc<Egress>,
    /// The hosts, as `host:port`, that the operator allows to be spoken to without TLS.
    pub(crate) plain: Vec<String>,
}

impl GuardedOAuth {
    async fn send(&self, request: OAuthHttpRequest) -> Result<http::Response<Vec<u8>>, OAuthHttpClientError> {
        let (parts, body) = request.request.into_parts();
        let mut destination = Destination::parse(&parts.uri.to_string())?;
        let body = Bytes::from(body);
        for _ in 0..=MAX_REDIRECTS {
            self.check(&destination)?;
            let admitted = self.egress.admit(&destination, &[]).await?;
            let sent = self.egress.send(&admitted, parts.method.clone(), parts.headers.clone(), Some(body.clone()));
            let response = sent.await?;
            let follow =
                request.redirect_policy == OAuthHttpRedirectPolicy::Follow && response.status().is_redirection();
            if !follow {
                return collect(response).await;
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let next = destination.redirect(location)?;
            if !next.same_origin(&destination) {
                return Err("a redirect to another server".into());
            }
            destination = next;
        }
        Err("too many redirects".into())
    }

    /// Tokens and codes travel under TLS, but where the operator says otherwise.
    fn check(&self, destination: &Destination) -> Result<(), OAuthHttpClientError> {
        let url = destination.url();
        if url.scheme() == "https" || self.plain.contains(&host_port(url)) {
            return Ok(());
        }
        Err("it must be https".into())
    }
}

pub(crate) fn host_port(url: &url::Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

async fn collect(mut response: reqwest::Response) -> Result<http::Response<Vec<u8>>, OAuthHttpClientError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err("the answer is longer than 1 MiB".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut collected = http::Response::new(body);
    *collected.status_mut() = response.status();
    collected.headers_mut().clone_from(response.headers());
    Ok(collected)
}

impl OAuthHttpClient for GuardedOAuth {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let patience = request.timeout.unwrap_or(PATIENCE).min(PATIENCE);
            tokio::time::timeout(patience, self.send(request)).await.unwrap_or_else(|_| Err("no answer in time".into()))
        })
    }
}

/// The tokens of all servers, in one file that only its owner can read.
#[derive(Clone)]
pub(crate) struct Tokens {
    path: Arc<PathBuf>,
    /// One reader or writer at a time.
    turn: Arc<Mutex<()>>,
}

impl Tokens {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path: Arc::new(path), turn: Arc::default() }
    }

    /// The tokens of one server.
    pub(crate) fn of(&self, server: &str, url: &str) -> TokenStore {
        TokenStore { tokens: self.clone(), key: format!("{server} {url}"), refresh: Arc::default() }
    }

    fn read(&self) -> std::io::Result<BTreeMap<String, StoredCredentials>> {
        match std::fs::read(&*self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(std::io::Error::other),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    fn write(&self, all: &BTreeMap<String, StoredCredentials>) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;

        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let draft = self.path.with_extension("json.new");
        let _ = std::fs::remove_file(&draft);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(all)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, &*self.path)
    }
}

/// The tokens of one server at one address.
pub(crate) struct TokenStore {
    tokens: Tokens,
    key: String,
    refresh: Arc<Mutex<()>>,
}

impl TokenStore {
    async fn change(&self, credentials: Option<StoredCredentials>) -> Result<(), AuthError> {
        let _turn = self.tokens.turn.lock().await;
        let changed = self.tokens.read().and_then(|mut all| {
            match credentials {
                Some(credentials) => all.insert(self.key.clone(), credentials),
                None => all.remove(&self.key),
            };
            self.tokens.write(&all)
        });
        changed.map_err(|error| AuthError::CredentialStoreError(error.to_string()))
    }
}

#[async_trait]
impl CredentialStore for TokenStore {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        let _turn = self.tokens.turn.lock().await;
        let all = self.tokens.read().map_err(|error| AuthError::CredentialStoreError(error.to_string()))?;
        Ok(all.get(&self.key).cloned())
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        self.change(Some(credentials)).await
    }

    async fn clear(&self) -> Result<(), AuthError> {
        self.change(None).await
    }

    async fn acquire_refresh_guard(&self) -> Result<Option<CredentialRefreshGuard>, AuthError> {
        Ok(Some(CredentialRefreshGuard::new(Arc::clone(&self.refresh).lock_owned().await)))
    }
}

/// Makes the manager of a server's tokens, with those that are already there.
pub(crate) async fn manager(
    url: &str,
    spec: Option<&OAuthSpec>,
    client: Arc<GuardedOAuth>,
    store: TokenStore,
) -> Result<AuthorizationManager, AuthError> {
    let mut manager = AuthorizationManager::new_with_oauth_http_client(url, client).await?;
    let Some(spec) = spec else { return Ok(manager) };
    match spec.grant {
        Grant::AuthorizationCode => {
            manager.set_credential_store(store);
            if manager.initialize_from_store().await?
                && let Some(id) = &spec.client_id
                && let Some(secret) = secret(spec)?
            {
                manager.configure_client(OAuthClientConfig::new(id, "http://127.0.0.1/").with_client_secret(secret))?;
            }
        }
        Grant::ClientCredentials => {
            let found = manager.resolve_metadata().await?;
            manager.set_metadata(found.metadata);
            let config = ClientCredentialsConfig::ClientSecret {
                client_id: spec.client_id.clone().unwrap_or_default(),
                client_secret: secret(spec)?.unwrap_or_default(),
                scopes: spec.scopes.clone(),
                resource: Some(url.to_owned()),
            };
            manager.validate_client_credentials_metadata(&config)?;
            manager.configure_client_credentials(&config)?;
            manager.exchange_client_credentials(&config).await?;
        }
    }
    Ok(manager)
}

fn secret(spec: &OAuthSpec) -> Result<Option<String>, AuthError> {
    let found = spec.client_secret.as_ref().map(crate::config::Setting::find).transpose();
    found.map_err(|error| AuthError::InternalError(error.to_string()))
}

/// An authorization that waits for a person.
pub struct Login {
    session: AuthorizationSession,
    listener: TcpListener,
    redirect: String,
}

impl Login {
    /// Prepares an authorization; `challenge` is what the server said when it refused.
    pub(crate) async fn begin(
        url: &str,
        spec: &OAuthSpec,
        client: Arc<GuardedOAuth>,
        store: TokenStore,
        challenge: Option<&str>,
    ) -> Result<Self, LoginError> {
        let address = ("127.0.0.1", spec.redirect_port.unwrap_or(0));
        let listener = TcpListener::bind(address).await.map_err(LoginError::Listen)?;
        let port = listener.local_addr().map_err(LoginError::Listen)?.port();
        let redirect = format!("http://127.0.0.1:{port}/callback");
        let failed = |error: AuthError| LoginError::failed(&error);
        let manager = AuthorizationManager::new_with_oauth_http_client(url, client.clone()).await;
        let mut manager = manager.map_err(failed)?;
        manager.set_credential_store(store);
        let found = manager.resolve_metadata_from_challenge(challenge).await.map_err(failed)?;
        manager.set_metadata(found.metadata);
        let mut request = AuthorizationRequest::new(&redirect)
            .with_client_name("AgentRunner")
            .with_scopes(spec.scopes.clone())
            .with_initial_scope_selection();
        if let Some(document) = &spec.client_metadata_url {
            request = request.with_client_metadata_url(document);
        }
        if let Some(id) = &spec.client_id {
            request = request.with_preregistered_client(id);
            if let Some(secret) = secret(spec).map_err(failed)? {
                request = request.with_client_secret(secret);
            }
        }
        let session = AuthorizationSession::new(manager, request).await;
        let session = session.map_err(|(_, error)| LoginError::failed(&error))?;
        // A person's browser is sent there: not to a file, not to a script, not in the clear.
        let page = Destination::parse(session.get_authorization_url())
            .map_err(|blocked| LoginError::Failed(format!("the authorization page's address is refused: {blocked}")))?;
        client.check(&page).map_err(|error| LoginError::Failed(format!("the authorization page: {error}")))?;
        Ok(Self { session, listener, redirect })
    }

    /// Where a person allows it.
    pub fn url(&self) -> &str {
        self.session.get_authorization_url()
    }

    /// Waits for the person's decision, and keeps the token.
    pub async fn finish(self) -> Result<(), LoginError> {
        tokio::time::timeout(DECISION, self.wait()).await.map_err(|_| LoginError::TimedOut)?
    }

    async fn wait(self) -> Result<(), LoginError> {
        loop {
            let (mut socket, _) = self.listener.accept().await.map_err(LoginError::Listen)?;
            let asked = tokio::time::timeout(Duration::from_secs(10), request_target(&mut socket)).await;
            let Some(query) =
                asked.ok().flatten().and_then(|target| target.strip_prefix("/callback?").map(str::to_owned))
            else {
                answer(&mut socket, "404 Not Found", "There is nothing here.").await;
                continue;
            };
            let callback = format!("{}?{query}", self.redirect);
            if let Some(refused) = refusal(&callback) {
                answer(&mut socket, "200 OK", "It was refused. You can close this page.").await;
                return Err(LoginError::Refused(refused));
            }
            match self.session.handle_callback_url(&callback).await {
                Ok(_) => {
                    answer(&mut socket, "200 OK", "It is done. You can close this page.").await;
                    return Ok(());
                }
                // Somebody else's call: the right one may still come.
                Err(AuthError::InternalError(_)) => {
                    answer(&mut socket, "400 Bad Request", "This was not asked for.").await;
                }
                Err(error) => {
                    answer(&mut socket, "400 Bad Request", "It did not work. The terminal says why.").await;
                    return Err(LoginError::failed(&error));
                }
            }
        }
    }
}

fn refusal(callback: &str) -> Option<String> {
    let url = url::Url::parse(callback).ok()?;
    let error = url.query_pairs().find(|(name, _)| name == "error")?;
    Some(text::line(&error.1, 200))
}

async fn request_target(socket: &mut tokio::net::TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut chunk = [0; 2_048];
    while !head.contains(&b'\n') && head.len() < 16_384 {
        match socket.read(&mut chunk).await {
            Ok(read @ 1..) => head.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
    let line = String::from_utf8(head.split(|byte| *byte == b'\n').next()?.to_vec()).ok()?;
    let mut words = line.split_whitespace();
    (words.next()? == "GET").then_some(())?;
    words.next().map(str::to_owned)
}

async fn answer(socket: &mut tokio::net::TcpStream, status: &str, text: &str) {
    let head = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nConnection: close\r\n";
    let page = format!("HTTP/1.1 {status}\r\n{head}Content-Length: {}\r\n\r\n{text}", text.len());
    let _ = socket.write_all(page.as_bytes()).await;
    let _ = socket.shutdown().await;
}
