//! Signature Version 4 of a request.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

const SERVICE: &str = "bedrock";
const JSON: &str = "application/json";
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// The request cannot be signed; the credentials have characters that no header carries, for example.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be signed with these credentials")]
pub(crate) struct SigningFailed;

/// The headers with which a POST of this body is signed, and which it must carry as they are.
pub(crate) fn signed_headers(
    url: &Url,
    body: &[u8],
    region: &str,
    credentials: Credentials,
    now: SystemTime,
) -> Result<HeaderMap, SigningFailed> {
    let identity = credentials.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| SigningFailed)?
        .into();
    let told = [(CONTENT_TYPE.as_str(), JSON)];
    let request = SignableRequest::new("POST", url.as_str(), told.into_iter(), SignableBody::Bytes(body))
        .map_err(|_| SigningFailed)?;
    let (instructions, _) = sign(request, &params).map_err(|_| SigningFailed)?.into_parts();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|_| SigningFailed)?;
        let mut value = HeaderValue::try_from(value).map_err(|_| SigningFailed)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
