//! `Retry-After`, as far as it makes sense.

use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// However long a server asks for, a task is not put off for longer.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// How long the server asks us to wait. Negative times and nonsense count as not asked.
///
/// A date is compared with the server's own `Date`, so that neither clock has to be right.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    if !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a very long time, not nonsense.
        let seconds = asked.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let at = DateTime::parse_from_rfc2822(asked).ok()?;
    let now = DateTime::parse_from_rfc2822(text(DATE)?).ok()?;
    Some((at - now).to_std().ok()?.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(asked: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, asked.parse().unwrap());
        headers.insert(DATE, "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2026 07:28:30 GMT"), Some(Duration::from_secs(30)));
    }

    #[test]
    fn an_endless_time_is_bounded() {
        for asked in ["1000000000", "99999999999999999999999", "Wed, 21 Oct 2099 07:28:00 GMT"] {
            assert_eq!(read(asked), Some(LONGEST_RETRY_AFTER), "{asked}");
        }
    }

    #[test]
    fn nonsense_counts_as_not_asked() {
        for asked in ["", "-1", "1e9", "soon", "1.5", "+3", "Wed, 21 Oct 2026 07:27:59 GMT", "0x10", "٣"] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, reqwest::header::HeaderValue::from_bytes(asked.as_bytes()).unwrap());
            headers.insert(DATE, "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
            assert_eq!(retry_after(&headers), None, "{asked}");
        }
    }

    #[test]
    fn a_date_means_nothing_without_the_servers_own() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:30 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
