//! Days of the calendar, for what ends on a day.

use std::time::{SystemTime, UNIX_EPOCH};

use toml::value::Date;

/// Whether the day has passed at `now`, in UTC.
pub fn is_over(day: Date, now: SystemTime) -> bool {
    let today = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    days(day) < i64::try_from(today).unwrap_or(i64::MAX)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
pub fn days(date: Date) -> i64 {
    // Years begin in March, so that the leap day is the last of a year.
    let (month, day) = (i64::from(date.month), i64::from(date.day));
    let year = i64::from(date.year) - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Date {
        text.parse::<toml::value::Datetime>().unwrap().date.unwrap()
    }

    #[test]
    fn days_are_counted_as_the_calendar_counts_them() {
        let count = |text: &str| days(day(text));
        assert_eq!((count("1970-01-01"), count("1970-03-01")), (0, 59));
        assert_eq!((count("2000-02-29"), count("2000-03-01")), (11_016, 11_017));
        assert_eq!(count("2026-11-27"), 20_784);
    }

    #[test]
    fn a_day_is_over_when_the_next_has_begun() {
        let at = |seconds: u64| UNIX_EPOCH + std::time::Duration::from_secs(20_784 * 86_400 + seconds);
        assert!(!is_over(day("2026-11-27"), at(86_399)));
        assert!(is_over(day("2026-11-27"), at(86_400)));
    }
}
