//! Numbers and times as people say them.

use std::time::Duration;

use domain::Timestamp;

/// A length of time: `120 ms`, `1.4 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 => format!("{} ms", length.as_millis()),
        1..60 => format!("{:.1} s", length.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// The time between two moments; nothing when the clock went back.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

/// How long ago, or how soon: `3 min 20 s ago`, `in 1.4 s`.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("in {}", duration(between(now, at))) } else { format!("{} ago", duration(between(at, now))) }
}

/// A size: `812 B`, `1.5 KiB`, `94 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A count with its noun: `1 step`, `3 steps`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A moment to the second, in UTC.
pub fn moment(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_short() {
        let shown: Vec<String> = [0, 999, 1_000, 1_449, 59_949, 200_000, 7_500_000, 277_200_000]
            .map(|ms| duration(Duration::from_millis(ms)))
            .to_vec();
        assert_eq!(shown, ["0 ms", "999 ms", "1.0 s", "1.4 s", "59.9 s", "3 min 20 s", "2 h 5 min", "3 d 5 h"]);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [0, 1023, 1536, 98_362_432, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "93.8 MiB", "16777216 TiB"]
        );
        assert_eq!([count(0, "step"), count(1, "step")], ["0 steps", "1 step"]);
    }

    #[test]
    fn moments_are_told_from_now() {
        let now = Timestamp::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(relative(now + Duration::from_millis(1_400), now), "in 1.4 s");
        assert_eq!(relative(now - Duration::from_secs(2), now), "2.0 s ago");
    }
}
