//! Dates in the calendar of Gregory.

const DAY: u64 = 86_400;

/// Year, month, day, hour, minute, second, UTC, of seconds since 1970.
pub(crate) fn utc(seconds: u64) -> [u64; 6] {
    let (second, days) = (seconds % DAY, seconds / DAY);
    // Years begin with March: the day that some have not is their last. Four hundred are an era; the first began in the year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let next = month >= 10;
    let month = if next { month - 9 } else { month + 3 };
    [era * 400 + year + next as u64, month, day, second / 3600, second / 60 % 60, second % 60]
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn each_day_of_four_hundred_years_follows_the_one_before() {
        assert_eq!(utc(1_475_713_029), [2016, 10, 6, 0, 17, 9]);
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..=146_097 {
            assert_eq!(utc(days * 86_400 + 86_399), [year, month, day, 23, 59, 59]);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((year, month, day), (2370, 1, 2));
    }
}
