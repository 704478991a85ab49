//! Times: read as Go's programs write them, and written for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::exit::{Failure, Result};

const DAY: u64 = 24 * 60 * 60;

/// The units of a duration, longer names first where one begins another.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `1h30m`, `1.5s`, `300ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write it like 30s, 1m30s or 500ms");
    let (mut rest, mut nanoseconds) = (text, 0.0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        nanoseconds += number.parse::<f64>().map_err(|_| wrong())? * *size as f64;
        rest = after;
    }
    if text.is_empty() || nanoseconds > u64::MAX as f64 {
        return Err(wrong());
    }
    Ok(Duration::from_nanos(nanoseconds as u64))
}

/// How long something is, as Docker says it: `3 minutes`.
pub(crate) fn roughly(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago.
pub(crate) fn since(then: SystemTime) -> Duration {
    then.elapsed().unwrap_or_default()
}

/// So many seconds after 1970.
pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// `2016-10-06T00:17:09.669794202Z`: RFC 3339, in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, (year, month, day)) = (since.as_secs() % DAY, date(since.as_secs() / DAY));
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// A moment: so long ago (`10m`), seconds after 1970 (`1700000000.5`), or RFC 3339 in UTC, a whole or the date alone.
pub(crate) fn moment(text: &str) -> Result<SystemTime, String> {
    let wrong =
        || format!("`{text}` is no moment: write it like 10m (ago), 1700000000 or 2026-01-31T12:00:00Z");
    if let Ok(ago) = duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(wrong);
    }
    if let Some(seconds) = text.parse::<f64>().ok().filter(|seconds| (0.0..1e12).contains(seconds)) {
        return Ok(UNIX_EPOCH + Duration::from_secs_f64(seconds));
    }
    read_rfc3339(text).ok_or_else(wrong)
}

fn read_rfc3339(text: &str) -> Option<SystemTime> {
    let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let [year, month, day] = numbers(day, '-')?;
    let (time, fraction) = time.strip_suffix('Z')?.split_once('.').unwrap_or((time.strip_suffix('Z')?, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && (1..=9).contains(&fraction.len());
    let nanoseconds: u32 = if digits { format!("{fraction:0<9}").parse().ok()? } else { return None };
    let valid =
        (1970..=9999).contains(&year) && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    let days = days(year, month, day);
    // A day that the month has not would be another date.
    if !valid || day == 0 || date(days) != (year, month, day) {
        return None;
    }
    Some(UNIX_EPOCH + Duration::new(days * DAY + hour * 3600 + minute * 60 + second, nanoseconds))
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let mut parts = text.split(between).map(|part| {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u64>().ok().filter(|number| digits && *number < 10_000)
    });
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

/// Days after 1 January 1970, of a year from 1970 on. Years begin in March here, so that the day that is not always there is the last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    (year * 365 + leaps + (month * 153 + 2) / 5 + day).saturating_sub(1 + 719_468)
}

/// The other way.
fn date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while self::days(year + 1, 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| self::days(year, *month, 1) <= days).unwrap_or(1);
    (year, month, days - self::days(year, month, 1) + 1)
}

/// For a flag that is whole seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| format!("`{text}` is no number of seconds"))
}

/// The time of something that was recorded with seconds alone.
pub(crate) fn ago(created: u64) -> String {
    format!("{} ago", roughly(since(at(created))))
}

/// One that cannot be.
pub(crate) fn order(since: Option<SystemTime>, until: Option<SystemTime>) -> Result<()> {
    match (since, until) {
        (Some(since), Some(until)) if since > until => Err(Failure::new("--since is after --until")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2h", 7_200_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "5x", "1..s", "-1s", "1s2", "99999999999999h"] {
            assert!(duration(text).is_err_and(|e| e.contains(text)), "{text}");
        }
    }

    #[test]
    fn lengths_are_said_as_docker_says_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (3 * DAY, "3 days"),
            (20 * DAY, "2 weeks"),
            (100 * DAY, "3 months"),
            (1000 * DAY, "2 years"),
        ] {
            assert_eq!(roughly(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn days_are_dates_and_dates_are_days() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2016-10-06T00:17:09Z", 1_475_713_029),
            ("2100-03-01", 4_107_542_400),
        ] {
            assert_eq!(moment(text).unwrap(), at(seconds), "{text}");
        }
        assert_eq!(rfc3339(at(1_475_713_029) + Duration::from_nanos(5)), "2016-10-06T00:17:09.000000005Z");
        for day in (0..60_000).step_by(7) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in ["", "x", "2026-02-30", "2026-13-01", "2026-01-01T25:00:00Z", "2026-01-01T00:00:00", "-5"]
        {
            assert!(moment(text).is_err(), "{text}");
        }
        assert!(since(moment("10m").unwrap()) >= Duration::from_secs(600));
    }
}
