//! Points in time on the command line and in output.

use std::str::FromStr;

use jiff::Timestamp;

use crate::age::Age;

/// A point in time in µs since 1970, given as RFC 3339 or as an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since(pub(crate) u64);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = match text.parse::<Timestamp>() {
            Ok(at) => at,
            Err(_) => {
                let Age(age) = text.parse().map_err(|_| {
                    "not RFC 3339 (2026-03-01T12:00:00Z) and not an age (25s, 2h, 3d)".to_owned()
                })?;
                Timestamp::now().checked_sub(age).map_err(|error| error.to_string())?
            }
        };
        // Nothing was accepted before 1970.
        Ok(Self(u64::try_from(at.as_microsecond()).unwrap_or(0)))
    }
}

/// RFC 3339 in UTC with microseconds.
pub(crate) fn rfc3339(at_us: u64) -> String {
    let at = i64::try_from(at_us).ok().and_then(|at| Timestamp::from_microsecond(at).ok());
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.6}"))
}

/// The text of the last second that was asked for: the times of an export mostly come in the second of the one before.
#[derive(Default)]
pub(crate) struct LastSecond {
    second: Option<u64>,
    text: String,
}

impl LastSecond {
    /// The text of the second in which `at_us` is, as `format` makes it.
    pub(crate) fn text(&mut self, at_us: u64, format: impl FnOnce(u64) -> String) -> &str {
        let second = at_us / 1_000_000;
        if self.second != Some(second) {
            self.text = format(at_us);
            self.second = Some(second);
        }
        &self.text
    }

    /// The same as [`rfc3339`].
    pub(crate) fn rfc3339(&mut self, at_us: u64) -> String {
        let mut text = self.text(at_us, rfc3339).to_owned();
        // `….123456Z`; a time that cannot be shown has no such end.
        if let Some(end) = text.len().checked_sub(7) {
            text.truncate(end);
            let mut rest = at_us % 1_000_000;
            let mut divisor = 100_000;
            while divisor > 0 {
                text.push(char::from(b'0' + u8::try_from(rest / divisor).unwrap_or(0)));
                (rest, divisor) = (rest % divisor, divisor / 10);
            }
            text.push('Z');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_and_ages() {
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Since(1_000_000)));
        assert_eq!("1970-01-01T01:00:00.5+01:00".parse(), Ok(Since(500_000)));
        assert_eq!("1969-12-31T00:00:00Z".parse(), Ok(Since(0)));
        let hour = 3_600_000_000;
        let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0);
        let Ok(Since(since)) = "2h".parse() else { panic!("an age") };
        assert!((now - 3 * hour..=now - hour).contains(&since));
        let Ok(Since(since)) = "3d".parse() else { panic!("an age in days") };
        assert!((now - 73 * hour..=now - 71 * hour).contains(&since));
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(rfc3339(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
        assert_eq!(rfc3339(u64::MAX), "-");
    }

    #[test]
    fn the_last_second_is_shown_like_any_other() {
        let mut last = LastSecond::default();
        for at_us in [1_700_000_000_123_456, 1_700_000_000_000_007, 1_700_000_001_999_999, 5, u64::MAX, 5] {
            assert_eq!(last.rfc3339(at_us), rfc3339(at_us));
        }
    }
}
