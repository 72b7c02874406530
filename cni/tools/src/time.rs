//! Moments as people write and read them, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Milliseconds since 1970.
pub fn of(time: SystemTime) -> u64 {
    let passed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}

/// A moment in milliseconds, as RFC 3339 writes it.
pub fn text(at: u64) -> String {
    let (days, rest) = (at / DAY, at % DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE / SECOND);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads a moment: a date, a date and a time, a time of today, or how long ago it was.
///
/// # Errors
/// What of it is none.
pub fn parse(text: &str, now: u64) -> Result<u64, String> {
    let wrong =
        || format!("\"{text}\" is no time: write 2026-11-27, 2026-11-27T10:00, 10:00 (UTC), or 90m, 3h, 2d");
    ago(text)
        .map(|span| now.saturating_sub(span))
        .or_else(|| {
            let text = text.trim_end_matches('Z');
            match text.split_once(['T', ' ']) {
                Some((date, time)) => Some(days(date)? * DAY + clock(time)?),
                None if text.contains(':') => Some(now / DAY * DAY + clock(text)?),
                None => Some(days(text)? * DAY),
            }
        })
        .ok_or_else(wrong)
}

fn ago(text: &str) -> Option<u64> {
    let unit = match text.bytes().last()? {
        b's' => SECOND,
        b'm' => MINUTE,
        b'h' => HOUR,
        b'd' => DAY,
        _ => return None,
    };
    text.get(..text.len() - 1)?.parse::<u64>().ok()?.checked_mul(unit)
}

fn clock(text: &str) -> Option<u64> {
    let mut parts = text.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let is_one = hour < 24 && minute < 60 && second < 60 && parts.next().is_none();
    is_one.then_some(hour * HOUR + minute * MINUTE + second * SECOND)
}

/// Days since 1970 of a date.
fn days(text: &str) -> Option<u64> {
    let mut parts = text.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || parts.next().is_some() {
        return None;
    }
    // Years that begin in March have their odd day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day.checked_sub(1)?;
    let days = days - FROM_MARCH_0;
    let (back, month_back, day_back) = date(days);
    let same =
        (back, month_back, day_back) == (if month < 10 { year } else { year + 1 }, month_of(month), day);
    same.then_some(days)
}

/// Days from the first of March of the year 0 to 1970.
const FROM_MARCH_0: u64 = 719_468;

fn month_of(from_march: u64) -> u64 {
    if from_march < 10 { from_march + 3 } else { from_march - 9 }
}

/// The date of a day since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + FROM_MARCH_0;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let month = month_of(from_march);
    (era * 400 + year + u64::from(month < 3), month, day - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read_back() {
        for (at, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_764_237_599_000, "2025-11-27T09:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(text(at), written);
            assert_eq!(parse(written, 5), Ok(at), "{written}");
        }
    }

    #[test]
    fn short_forms_are_understood_and_anything_else_is_refused() {
        let now = parse("2026-11-27T12:30:00", 0).unwrap();
        for (short, whole) in [
            ("10:00", "2026-11-27T10:00:00Z"),
            ("2026-11-26 10:00", "2026-11-26T10:00:00Z"),
            ("2026-11-26", "2026-11-26T00:00:00Z"),
            ("90m", "2026-11-27T11:00:00Z"),
            ("2d", "2026-11-25T12:30:00Z"),
        ] {
            assert_eq!(text(parse(short, now).unwrap()), whole);
        }
        for wrong in [
            "",
            "yesterday",
            "25:00",
            "10",
            "2026-02-30",
            "2026-13-01",
            "2026-11-27T10:00+02:00",
            "9999999999999999d",
        ] {
            assert!(parse(wrong, now).unwrap_err().contains("is no time"), "{wrong}");
        }
    }
}
