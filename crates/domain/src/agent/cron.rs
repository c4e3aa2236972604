//! When an agent runs by itself: what is wrong with an expression or a time zone, said before anything waits for it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::ScheduleSpec;
use super::validate::Finding;
use crate::file::problem::closest;

const FIELDS: [&str; 5] = ["minute", "hour", "day of the month", "month", "day of the week"];

/// Finds what is wrong with a schedule.
pub(super) fn findings(schedule: &ScheduleSpec) -> Vec<Finding> {
    let finding = |path: &str, reason: String, hint: Option<String>| Finding {
        path: path.to_owned(),
        reason,
        hint,
        because_of: None,
    };
    let mut findings = Vec::new();
    if let Err((reason, hint)) = check(&schedule.cron) {
        findings.push(finding("schedule.cron", reason, hint.map(str::to_owned)));
    }
    if chrono_tz::Tz::from_str(&schedule.timezone).is_err() {
        let names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        let hint = closest(&schedule.timezone, names).map(|name| format!("did you mean {name}?"));
        let reason = "is not an IANA time zone".to_owned();
        findings.push(finding(
            "schedule.timezone",
            reason,
            hint.or_else(|| Some("for example Europe/Berlin".to_owned())),
        ));
    }
    if schedule.prompt.trim().is_empty() {
        findings.push(finding("schedule.prompt", "must not be empty".to_owned(), None));
    }
    findings
}

type Wrong = (String, Option<&'static str>);

fn check(text: &str) -> Result<(), Wrong> {
    if text.starts_with('@') {
        let hint = "write the five fields, such as 0 9 * * 1-5";
        return Err(("words such as @daily are not supported".to_owned(), Some(hint)));
    }
    if let Some(at) = text.chars().position(|c| !(c.is_ascii_graphic() || c == ' ')) {
        return Err((format!("character {} does not belong into a cron expression", at + 1), None));
    }
    let fields: Vec<&str> = text.split(' ').filter(|field| !field.is_empty()).collect();
    if fields.len() != FIELDS.len() {
        let hint = "minute, hour, day of the month, month, day of the week; seconds are not supported";
        return Err((format!("must have 5 fields, but has {}", fields.len()), Some(hint)));
    }
    for (index, field) in fields.iter().enumerate() {
        // Alone among stars a field can only fail by itself.
        let mut alone = ["*"; 5];
        alone[index] = field;
        let sound = !field.split(',').any(str::is_empty) && parse(&alone.join(" ")).is_some();
        if !sound {
            return Err((format!("field {} ({}) is not valid: {field}", index + 1, FIELDS[index]), None));
        }
    }
    let cron = parse(&fields.join(" ")).ok_or_else(|| ("is not a cron expression".to_owned(), None))?;
    // A fixed moment keeps this a pure function; whether a day ever comes does not depend on it.
    let from = DateTime::<Utc>::UNIX_EPOCH;
    match cron.find_next_occurrence(&from, false) {
        Ok(_) => Ok(()),
        Err(_) => Err(("never_fires: no such day exists".to_owned(), None)),
    }
}

fn parse(text: &str) -> Option<Cron> {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build().parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, timezone: &str) -> Vec<Finding> {
        findings(&ScheduleSpec { cron: cron.to_owned(), timezone: timezone.to_owned(), prompt: "Go.".to_owned() })
    }

    #[test]
    fn sound_expressions_are_taken() {
        for text in ["* * * * *", "0 9 * * 1-5", "*/15 8-18 * * MON", "0 0 29 2 *", "5,35  0 1 */2 0", "0 0 L * *"] {
            assert_eq!(schedule(text, "UTC"), [], "{text}");
        }
    }

    #[test]
    fn unsound_expressions_are_refused_with_their_field() {
        for (text, reason) in [
            ("* * * * * *", "must have 5 fields, but has 6"),
            ("*/0 * * * *", "field 1 (minute)"),
            ("60 * * * *", "field 1 (minute)"),
            ("0 5-1 * * *", "field 2 (hour)"),
            ("0 1,,2 * * *", "field 2 (hour)"),
            ("-1 * * * *", "field 1 (minute)"),
            ("٣ * * * *", "character 1 "),
            ("*/99999999999 * * * *", "field 1 (minute)"),
            ("0 0 * *\n*", "character 8 "),
            ("0 0 * *\0 *", "character 8 "),
            ("@reboot", "words such as"),
            ("@every 0s", "words such as"),
            ("0 0 31 2 *", "never_fires"),
            ("0 0 30 2 1#6", "field 5"),
            ("", "must have 5 fields"),
        ] {
            let found = schedule(text, "UTC");
            assert_eq!(found.len(), 1, "{text:?}");
            assert!(found[0].reason.starts_with(reason), "{text:?}: {}", found[0].reason);
        }
    }

    #[test]
    fn only_iana_time_zones_are_taken() {
        for zone in ["UTC", "Europe/Kyiv", "Europe/Kiev", "America/Argentina/Buenos_Aires"] {
            assert_eq!(schedule("0 0 * * *", zone), [], "{zone}");
        }
        for zone in ["", "../../etc/passwd", "UTC+25", "EST5EDT4,M3.2.0,M11.1.0", "europe/berlin"] {
            assert_eq!(schedule("0 0 * * *", zone).len(), 1, "{zone}");
        }
        let found = schedule("0 0 * * *", "Europe/Berln");
        assert_eq!(found[0].hint.as_deref(), Some("did you mean Europe/Berlin?"));
    }
}
