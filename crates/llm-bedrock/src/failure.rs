//! What Bedrock's errors mean.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_types::event_stream::Message;
use llm::LlmError;
use llm_http::{Asked, Complaint, Failed, Words, retry_after};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::frames::header;

pub(crate) const WORDS: Words = Words {
    too_long: &[
        "too long",
        "too many input tokens",
        "maximum context",
        "context length",
        "context window",
        "exceed context limit",
    ],
    no_money: &[],
    rate_limited: &[],
    refused: &[],
};

/// Errors of credentials that others may cure.
const STALE: [&str; 3] = ["ExpiredToken", "UnrecognizedClient", "InvalidClientTokenId"];

/// What an answer other than 200 means; and whether other credentials may help.
pub(crate) async fn refusal(asked: &Asked<'_>, response: Response) -> (Failed, bool) {
    let status = response.status().as_u16();
    let after = retry_after(response.headers());
    let (headers, body) = asked.error_body(response).await;
    let complaint = complaint(&headers, &body);
    let stale = STALE.iter().any(|code| complaint.code.contains(code));
    (judged(asked, status, after, complaint), stale)
}

/// What an exception in the middle of a stream means.
pub(crate) fn exception(asked: &Asked<'_>, frame: &Message) -> Failed {
    let code = header(frame, ":exception-type").or_else(|| header(frame, ":error-code")).unwrap_or_default();
    let told = header(frame, ":error-message");
    let body: Value = serde_json::from_slice(frame.payload()).unwrap_or_default();
    let message = told.or_else(|| message(&body)).unwrap_or_default().to_owned();
    let status = match code.to_ascii_lowercase().as_str() {
        "throttlingexception" => 429,
        "validationexception" => 400,
        "accessdeniedexception" => 403,
        "resourcenotfoundexception" => 404,
        "serviceunavailableexception" => 503,
        "modeltimeoutexception" => 408,
        // Of the model or of the service: both ask to be tried again.
        _ => 500,
    };
    judged(asked, status, None, Complaint { message, code: code.to_owned(), status: Some(status) })
}

/// Why there are no credentials. What the chain says may have paths and addresses, so only its kind is told.
pub(crate) fn no_credentials(asked: &Asked<'_>, error: &CredentialsError) -> Failed {
    let model = asked.model().to_owned();
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Failed::for_good(LlmError::Refused {
            model,
            reason:
                "no AWS credentials are found; set them in the environment or a profile, or give this machine a role"
                    .to_owned(),
        }),
        CredentialsError::InvalidConfiguration(_) => Failed::for_good(LlmError::Refused {
            model,
            reason: "the AWS configuration is not usable; check the profile and its file".to_owned(),
        }),
        _ => {
            let reason =
                "the AWS credentials cannot be fetched; is the sign-in (`aws sso login`) still good?".to_owned();
            Failed::for_now(LlmError::Unavailable { model, reason, retry_after: None })
        }
    }
}

fn judged(asked: &Asked<'_>, status: u16, after: Option<Duration>, mut complaint: Complaint) -> Failed {
    if complaint.code.contains("Signature") {
        // The service's own words repeat all that was signed.
        "the signature is not accepted; check the secret key and this machine's clock"
            .clone_into(&mut complaint.message);
    }
    // An error of the model is given as 424, and asks to be tried again.
    asked.refused(if status == 424 { 502 } else { status }, after, &complaint)
}

fn complaint(headers: &HeaderMap, body: &[u8]) -> Complaint {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let told = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = told.or_else(|| body.get("__type")?.as_str()).unwrap_or_default();
    // `aws.service#Code:http://…` in some answers.
    let code = code.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default();
    Complaint { message: message(&body).unwrap_or_default().to_owned(), code: code.to_owned(), status: None }
}

fn message(body: &Value) -> Option<&str> {
    ["message", "Message"].into_iter().find_map(|key| body.get(key)?.as_str())
}
