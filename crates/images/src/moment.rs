//! Moments, as images write them: RFC 3339, section 5.6.

use std::time::{Duration, SystemTime};

const DAY: u64 = 86_400;
/// From 0000-03-01 to 1970-01-01.
const BEFORE: u64 = 719_468;
/// Days of 400 years.
const ERA: u64 = 146_097;

/// `2024-02-29T23:59:59.5+01:00`; none for what is no moment since 1970.
pub(crate) fn read(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let at = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at_checked(at)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let ns: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let are = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=length).contains(&day);
    if !are || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Of years that begin in March, so that the odd day is the last one.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years / 400 * ERA + years % 400 * 365 + years % 400 / 4 - years % 400 / 100;
    let days = days + (153 * months + 2) / 5 + day - 1;
    let local = days.checked_sub(BEFORE)? * DAY + hour * 3600 + minute * 60 + second;
    let offset = |text: &str| numbers(text, ':').map(|[hours, minutes]| hours * 3600 + minutes * 60);
    let seconds = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => local,
        ("+", ahead) => local.checked_sub(offset(ahead)?)?,
        ("-", behind) => local + offset(behind)?,
        _ => return None,
    };
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, ns))
}

/// To the second.
pub(crate) fn write(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, clock) = (seconds / DAY + BEFORE, seconds % DAY);
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", era * 400 + year)
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    let number = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.get(..4.min(word.len()))?.parse().ok())?
    };
    text.split(between).map(number).collect::<Option<Vec<u64>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64, ns: u32) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, ns))
    }

    #[test]
    fn a_moment_is_read_wherever_it_was_written() {
        for (text, wanted) in [
            ("1970-01-01T00:00:00Z", at(0, 0)),
            ("2016-10-06T00:17:09.669794202Z", at(1_475_713_029, 669_794_202)),
            ("2024-02-29T23:59:59.5+01:00", at(1_709_247_599, 500_000_000)),
            ("2024-02-29T17:59:59-05:00", at(1_709_247_599, 0)),
            ("2023-02-29T00:00:00Z", None),
            ("0001-01-01T00:00:00Z", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01-01", None),
            ("", None),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(seconds in 0..250_000_000_000_u64) {
            let text = write(at(seconds, 0).unwrap());
            prop_assert_eq!(read(&text), at(seconds, 0), "{}", text);
        }

        #[test]
        fn any_text_is_a_moment_or_none(text in "[0-9T:.Zé+ -]{0,40}|.{0,40}") {
            read(&text);
        }
    }
}
