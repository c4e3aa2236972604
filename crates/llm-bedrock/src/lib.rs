//! Chat models behind the Converse API of AWS Bedrock.
//!
//! AWS's own crates find the credentials (the standard chain: environment, profiles with SSO and roles, web identity,
//! containers, instances), sign the requests (Signature Version 4) and check the frames of the event stream. The requests and
//! answers themselves are ours, on the same ground as every other dialect of HTTP, so that one set of rules says what a
//! broken answer means, how long is waited, and where a request may go. Nothing here repeats by AWS's own rules.
//!
//! The protocol is read strictly: an answer counts when `messageStop` has come, tools are run only when it said `tool_use`
//! and each call's block has been closed, and each call is one whole JSON object. Signed thoughts are kept as they came and
//! given back word for word before the calls that followed from them.
//!
//! How much a model may think is no part of Converse: it is said in the words of the model's vendor, which is a part of the
//! model's id. Those of Anthropic are known here; for others the effort is left out. Pictures go as data; one that is given
//! by its address is refused, because Bedrock fetches nothing. What an account may use is told by another service of AWS, so
//! no models are listed.

mod adapter;
mod answer;
mod config;
mod credentials;
mod failure;
mod frames;
mod request;
mod sign;

pub use adapter::Bedrock;
pub use config::{AwsKeys, BedrockConfig, BedrockConfigError};
pub use llm_http::{ApiKey, ConfigError, Limits, install_tls};

/// Who understands the reasoning that this adapter keeps.
const DIALECT: &str = "bedrock";
