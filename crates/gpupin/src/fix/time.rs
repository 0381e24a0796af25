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

/// As [`rfc3339`], with milliseconds: `2026-11-26T08:25:13.042Z`.
pub(crate) fn precise(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = rfc3339(time);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), since.subsec_millis())
}

/// Reads a date, or a date and a time of UTC, with or without seconds and parts of them: what [`rfc3339`] and [`precise`] write.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let (date, time) = match text.split_once('T') {
        None => (text, "00:00"),
        Some((date, time)) => (date, time.strip_suffix('Z')?),
    };
    let [year, month, day] = numbers(date, '-')?[..] else { return None };
    let (time, millis) = match time.split_once('.') {
        None => (time, 0),
        Some((time, part)) if part.len() <= 3 && !part.is_empty() => {
            (time, format!("{part:0<3}").parse().ok()?)
        }
        Some(_) => return None,
    };
    let (hour, minute, second) = match numbers(time, ':')?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let is_day = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !is_day || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year, month, day);
    // A day that the month does not have is one of another month.
    if civil(days) != (year, month, day) {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis))
}

fn numbers(text: &str, separator: char) -> Option<Vec<u64>> {
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    text.split(separator).map(|it| is_number(it).then(|| it.parse().ok())?).collect()
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

/// The reverse of [`civil`], for years from 1970 on.
///
/// <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - u64::from(day > 0);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{compact, parse, precise, rfc3339};

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

    #[test]
    fn what_is_written_is_read_as_the_same_time() {
        // Through leap years, ends of months and a century without a leap day.
        for seconds in (0..4_200_000_000).step_by(86_399 * 13) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 42);
            assert_eq!(parse(&precise(time)), Some(time), "{}", precise(time));
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(parse(&rfc3339(time)), Some(time), "{}", rfc3339(time));
        }
        for (short, long) in [
            ("2026-11-26", "2026-11-26T00:00:00Z"),
            ("2026-11-26T08:25Z", "2026-11-26T08:25:00Z"),
            ("2026-11-26T08:25:13.5Z", "2026-11-26T08:25:13.500Z"),
        ] {
            assert_eq!(parse(short), parse(long));
            assert!(parse(long).is_some());
        }
        for wrong in [
            "",
            "yesterday",
            "2026-02-29",
            "2026-04-31",
            "2026-13-01",
            "2026-11-00",
            "2026-11-26T24:00Z",
            "2026-11-26T08:25",
            "2026-11-26T08:25:13.1234Z",
            "2026-11-26T+8:25Z",
            "1969-12-31",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
