//! What a status means, how often is asked again, and what errors do not tell.

use std::time::Duration;

use super::{Connected, HttpEnd, HttpReply, KEY, PROMPT, Told, Wired, ask, request};
use crate::LlmError;

/// Whatever a server asks for, nothing is put off for longer.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// No call asks more often.
const MOST_REQUESTS: usize = 6;

/// 429 with any `Retry-After`, 5xx, redirects, refusals; no secret in any error.
///
/// # Panics
///
/// When the provider spins, gives up too early, follows a redirect, or tells a secret.
pub async fn statuses(subject: &dyn Wired) {
    let connected = subject.connect().await;
    what_passes_is_repeated(subject, &connected).await;
    what_does_not_pass_ends(subject, &connected).await;
    a_long_pause_is_left_to_the_caller(subject, &connected).await;
    what_is_refused_is_asked_once(subject, &connected).await;
    no_error_tells_a_secret(subject, &connected).await;
}

async fn what_passes_is_repeated(subject: &dyn Wired, connected: &Connected) {
    let good = subject.record(&Told::text("here I am")).expect("every protocol says words").reply();
    let limited = |after: &str| subject.error(429, "slow down").header("retry-after", after);
    let date = "Wed, 21 Oct 2026 07:28:00 GMT";
    for trouble in [
        limited("0"),
        limited("-1"),
        limited("soon"),
        limited("1e9"),
        limited(""),
        limited(date).header("date", date),
        subject.error(429, "slow down"),
        subject.error(500, "oops"),
        HttpReply::new(502, "text/html", "<html>bad gateway</html>"),
        subject.error(503, "busy"),
        HttpReply::new(504, "text/plain", ""),
        subject.error(529, "overloaded"),
        HttpReply::new(200, "text/plain", "").ending(HttpEnd::Refused),
    ] {
        let before = connected.server.seen().len();
        connected.server.push(trouble.clone());
        connected.server.push(good.clone());
        let (deltas, answer) = ask(connected, &request(connected)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{trouble:?} and then an answer gave {error:?}"));
        assert_eq!((answer.text.as_str(), deltas.concat().as_str()), ("here I am", "here I am"), "{trouble:?}");
        assert_eq!(connected.server.seen().len() - before, 2, "{trouble:?}");
    }
}

async fn what_does_not_pass_ends(subject: &dyn Wired, connected: &Connected) {
    for status in [429, 500, 503, 529] {
        let before = connected.server.seen().len();
        connected.server.otherwise(subject.error(status, "not now").header("retry-after", "0"));
        let (_, answer) = ask(connected, &request(connected)).await;
        match (status, &answer) {
            (429, Err(LlmError::RateLimited { .. })) | (500.., Err(LlmError::Unavailable { .. })) => {}
            _ => panic!("{status} for ever gave {answer:?}"),
        }
        let asked = connected.server.seen().len() - before;
        assert!((1..=MOST_REQUESTS).contains(&asked), "{status} for ever was asked {asked} times");
    }
}

async fn a_long_pause_is_left_to_the_caller(subject: &dyn Wired, connected: &Connected) {
    let now = "Wed, 21 Oct 2026 07:28:00 GMT";
    for after in ["90", "1000000000", "99999999999999999999999999", "Wed, 21 Oct 2099 07:28:00 GMT"] {
        let before = connected.server.seen().len();
        connected.server.otherwise(subject.error(429, "slow down").header("retry-after", after).header("date", now));
        let (_, answer) = ask(connected, &request(connected)).await;
        let Err(LlmError::RateLimited { retry_after: Some(wait), .. }) = answer else {
            panic!("Retry-After {after} gave {answer:?}")
        };
        assert!(wait >= Duration::from_secs(90) && wait <= LONGEST_WAIT, "Retry-After {after} became {wait:?}");
        assert_eq!(connected.server.seen().len() - before, 1, "Retry-After {after} is not slept through");
    }
}

async fn what_is_refused_is_asked_once(subject: &dyn Wired, connected: &Connected) {
    for reply in [
        subject.error(400, "bad words"),
        subject.error(401, "no such key"),
        subject.error(403, "not you"),
        subject.error(404, "no such model"),
        HttpReply::new(301, "text/plain", "").header("location", "/elsewhere"),
        HttpReply::new(302, "text/plain", "").header("location", "http://127.0.0.1:9/"),
        HttpReply::new(307, "text/plain", "").header("location", "/elsewhere"),
        HttpReply::new(308, "text/plain", "").header("location", "/elsewhere"),
    ] {
        let before = connected.server.seen();
        connected.server.otherwise(reply.clone());
        let (_, answer) = ask(connected, &request(connected)).await;
        assert!(matches!(answer, Err(LlmError::Refused { .. })), "{reply:?} gave {answer:?}");
        let after = connected.server.seen();
        assert_eq!(after.len() - before.len(), 1, "{reply:?} was repeated or followed");
        assert_ne!(after.last().map(|seen| seen.path.as_str()), Some("/elsewhere"));
    }
}

async fn no_error_tells_a_secret(subject: &dyn Wired, connected: &Connected) {
    // `ask` looks at every error for the canary that is in both.
    for words in [
        format!("Incorrect key: {KEY}."),
        format!("Incorrect key: {}****", &KEY[..14]),
        format!("{}{KEY}", "x".repeat(150)),
        format!("cannot read: {PROMPT}"),
    ] {
        for status in [400, 401, 403, 404, 413, 422, 429, 500, 503, 200] {
            connected.server.otherwise(subject.error(status, &words));
            let (_, answer) = ask(connected, &request(connected)).await;
            assert!(answer.is_err(), "an error with status {status} gave {answer:?}");
        }
        for content_type in ["text/html", "text/plain", "text/event-stream", "application/json"] {
            connected.server.otherwise(HttpReply::new(502, content_type, words.as_str()));
            assert!(ask(connected, &request(connected)).await.1.is_err());
            connected.server.otherwise(HttpReply::new(200, content_type, words.as_str()));
            assert!(ask(connected, &request(connected)).await.1.is_err());
        }
    }
}
