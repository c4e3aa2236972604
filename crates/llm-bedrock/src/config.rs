//! Where Bedrock is, and who asks.

use std::path::PathBuf;
use std::time::Duration;

use llm_http::{ApiKey, ConfigError, Limits, ServerConfig};

/// Where Bedrock is, and who asks.
#[derive(Debug, Clone)]
pub struct BedrockConfig {
    /// What its models are called before the slash.
    pub provider: String,
    /// The region, such as `eu-central-1`; that of the environment or the profile when absent.
    pub region: Option<String>,
    /// The profile of AWS's configuration; that of the environment when absent.
    pub profile: Option<String>,
    /// Where requests go instead of the region's public address, such as a VPC endpoint.
    pub endpoint: Option<String>,
    /// A file with profiles, read instead of those in the home folder.
    pub profile_file: Option<PathBuf>,
    /// Keys to sign with, instead of those that the standard chain finds.
    pub keys: Option<AwsKeys>,
    /// How often a request is sent again when the service is busy or cannot be reached.
    pub max_retries: u32,
    /// The pause before the first repetition; it doubles each time, with some randomness.
    pub first_pause: Duration,
    /// How much an answer may bring.
    pub limits: Limits,
}

/// Keys that requests are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKeys {
    /// Names the key; no secret.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: ApiKey,
    /// What belongs to keys that expire.
    pub session_token: Option<ApiKey>,
}

impl BedrockConfig {
    /// Region and credentials as AWS's standard chain finds them, and the usual patience.
    pub fn new(provider: impl Into<String>) -> Self {
        let ServerConfig { provider, max_retries, first_pause, limits, .. } = ServerConfig::new(provider, "");
        Self {
            provider,
            region: None,
            profile: None,
            endpoint: None,
            profile_file: None,
            keys: None,
            max_retries,
            first_pause,
            limits,
        }
    }

    pub(crate) fn to_server_config(&self, region: &str) -> ServerConfig {
        let endpoint = self.endpoint.clone().unwrap_or_else(|| public_endpoint(region));
        let keys = self.keys.iter();
        let secrets =
            keys.flat_map(|keys| [Some(&keys.secret_access_key), keys.session_token.as_ref()]).flatten().cloned();
        ServerConfig {
            secrets: secrets.collect(),
            max_retries: self.max_retries,
            first_pause: self.first_pause,
            limits: self.limits,
            ..ServerConfig::new(self.provider.clone(), endpoint)
        }
    }
}

fn public_endpoint(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://bedrock-runtime.{region}.{domain}")
}

/// Why a configuration is refused. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BedrockConfigError {
    /// The address is of no use, or no client can be made.
    #[error(transparent)]
    Server(#[from] ConfigError),
    /// Nobody says which region.
    #[error("provider {provider} has no region; set `region`, AWS_REGION, or the region of the profile")]
    NoRegion {
        /// Whose.
        provider: String,
    },
    /// The region is no region.
    #[error("the region of provider {provider} is not of the form eu-central-1")]
    Region {
        /// Whose.
        provider: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_has_its_public_address_unless_told_otherwise() {
        let mut config = BedrockConfig::new("aws");
        assert_eq!(
            config.to_server_config("eu-central-1").base_url,
            "https://bedrock-runtime.eu-central-1.amazonaws.com"
        );
        assert_eq!(
            config.to_server_config("cn-north-1").base_url,
            "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"
        );
        config.endpoint = Some("https://vpce-1.bedrock-runtime.eu-central-1.vpce.amazonaws.com".to_owned());
        assert_eq!(config.to_server_config("eu-central-1").base_url, config.endpoint.clone().expect("just set"));
    }
}
