//! Times as the API writes them.

use std::time::SystemTime;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

/// Now, such as `2026-11-20T20:13:09Z`.
pub fn now() -> String {
    after(0)
}

/// `seconds` from now.
pub fn after(seconds: i64) -> String {
    text(now_seconds() + seconds)
}

/// Seconds since 1970 as the API writes them.
pub fn text(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Now as the API's typed objects have it, in whole seconds.
pub fn typed_now() -> Time {
    typed(now_seconds())
}

/// Seconds since 1970 as the API's typed objects have it.
pub fn typed(seconds: i64) -> Time {
    Time(Timestamp::from_second(seconds).unwrap_or_default())
}

/// Seconds since 1970.
pub fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

/// How long ago something was, as kubectl writes it: `12s`, `3m4s`, `5h`, `2d`.
pub fn age(since: &Time) -> String {
    let seconds = (now_seconds() - since.0.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{}m{}s", seconds / 60, seconds % 60),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        let ago = |seconds: i64| age(&typed(now_seconds() - seconds));
        assert_eq!(ago(-5), "0s");
        assert_eq!(ago(7_200), "120m");
        assert_eq!(ago(200_000), "2d");
    }
}
