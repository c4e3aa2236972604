//! The HTTP client that all adapters of a process may share.

use std::time::Duration;

use crate::ConfigError;
use crate::failure::innermost;

/// Chooses the implementation of TLS for this process. Harmless when that was done before.
pub fn install_tls() {
    // An error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Makes a client that goes where it is told and nowhere else: no redirects, which could carry the key away, and no proxies
/// from the environment. Repeating is left to the adapter, which knows what may be repeated.
pub fn http_client() -> Result<reqwest::Client, ConfigError> {
    install_tls();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .no_gzip()
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("agentrunner/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ConfigError::Client { reason: innermost(&error) })
}
