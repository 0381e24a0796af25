//! A point in time as text, in UTC.

use std::time::{Duration, SystemTime};

/// The parts of a date and a time.
struct Parts {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// As RFC 3339 has it: `2026-11-26T08:25:13Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let Parts { year, month, day, hour, minute, second } = Parts::of(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// As few characters as sort by time and can still be read: `261126-082513`.
pub(crate) fn compact(time: SystemTime) -> String {
    let Parts { year, month, day, hour, minute, second } = Parts::of(time);
    format!("{:02}{month:02}{day:02}-{hour:02}{minute:02}{second:02}", year % 100)
}

impl Parts {
    fn of(time: SystemTime) -> Self {
        // A clock before 1970 is not set.
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = since.as_secs();
        let (year, month, day) = civil(seconds / 86_400);
        let of_day = seconds % 86_400;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        Self { year, month, day, hour, minute, second }
    }
}

/// Year, month and day, of days since 1970.
///
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>, which counts years from
/// March, so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{compact, rfc3339};

    #[test]
    fn times_are_what_date_says() {
        // `date -u -d @N +%FT%TZ`
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_681_513, "2026-11-26T08:25:13Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339(time), expected);
        }
    }

    #[test]
    fn the_compact_form_is_the_same_time() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_681_513);
        assert_eq!(compact(time), "261126-082513");
    }
}
