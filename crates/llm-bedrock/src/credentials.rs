//! Credentials, kept until shortly before they expire: finding them may take a call to another service.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

/// Credentials that do not say when they expire may have been replaced where they come from.
const KEPT: Duration = Duration::from_mins(15);
/// So long before they expire others are fetched, so that none expires on its way.
const BEFORE_THE_END: Duration = Duration::from_mins(2);

/// Where credentials come from.
#[derive(Debug)]
pub(crate) struct CredentialsCache {
    provider: SharedCredentialsProvider,
    /// Held while credentials are fetched, so that many calls fetch them once.
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    credentials: Credentials,
    until: SystemTime,
}

impl CredentialsCache {
    pub(crate) fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, kept: Mutex::new(None) }
    }

    /// Credentials that are good at this time.
    pub(crate) async fn get(&self, now: SystemTime) -> Result<Credentials, CredentialsError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| now < kept.until) {
            return Ok(kept.credentials.clone());
        }
        let credentials = self.provider.provide_credentials().await?;
        let end = credentials.expiry().and_then(|expiry| expiry.checked_sub(BEFORE_THE_END));
        let until = end.map_or(now + KEPT, |end| end.min(now + KEPT));
        *kept = Some(Kept { credentials: credentials.clone(), until });
        Ok(credentials)
    }

    /// Forgets credentials that were not accepted.
    pub(crate) async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_credential_types::provider::future;

    use super::*;

    /// Gives numbered keys that are good for a while.
    #[derive(Debug)]
    struct Numbered {
        given: Arc<AtomicUsize>,
        good_for: Option<Duration>,
    }

    impl ProvideCredentials for Numbered {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.given.fetch_add(1, Ordering::Relaxed);
            let expiry = self.good_for.map(|time| SystemTime::UNIX_EPOCH + time);
            future::ProvideCredentials::ready(Ok(Credentials::new(format!("{number}"), "s", None, expiry, "test")))
        }
    }

    async fn key_at(cache: &CredentialsCache, seconds: u64) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        cache.get(now).await.expect("credentials").access_key_id().to_owned()
    }

    fn cache(good_for: Option<Duration>) -> CredentialsCache {
        CredentialsCache::new(SharedCredentialsProvider::new(Numbered { given: Arc::default(), good_for }))
    }

    #[tokio::test]
    async fn credentials_are_fetched_once_until_shortly_before_they_expire() {
        let expiring = cache(Some(Duration::from_secs(600)));
        assert_eq!(key_at(&expiring, 0).await, "0");
        assert_eq!(key_at(&expiring, 479).await, "0");
        assert_eq!(key_at(&expiring, 480).await, "1");
        let lasting = cache(None);
        assert_eq!(key_at(&lasting, 0).await, "0");
        assert_eq!(key_at(&lasting, 899).await, "0");
        assert_eq!(key_at(&lasting, 900).await, "1");
    }

    #[tokio::test]
    async fn credentials_that_were_not_accepted_are_fetched_anew() {
        let cache = cache(None);
        assert_eq!(key_at(&cache, 0).await, "0");
        cache.forget().await;
        assert_eq!(key_at(&cache, 0).await, "1");
    }
}
