//! Names to addresses, once: what was checked is what is connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Looks names up.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// Returns all addresses of a name.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the operating system.
#[derive(Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

tokio::task_local! {
    /// The checked addresses of the request that this task is sending.
    pub(super) static PINNED: Arc<[SocketAddr]>;
}

/// Answers the HTTP client with the addresses that were checked. It cannot look anything up, so a request that
/// was not checked has nowhere to go.
pub(super) struct PinnedResolver;

impl Resolve for PinnedResolver {
    fn resolve(&self, _: Name) -> Resolving {
        let answer = match PINNED.try_with(Arc::clone) {
            Ok(addresses) => {
                let owned: Vec<SocketAddr> = addresses.to_vec();
                Ok(Box::new(owned.into_iter()) as Addrs)
            }
            Err(_) => Err("the destination was not checked".into()),
        };
        Box::pin(std::future::ready(answer))
    }
}
