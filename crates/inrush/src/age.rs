//! Ages on the command line: `90s`, `2h`, `3d`, `1d12h`.

use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

const DAY: Duration = Duration::from_hours(24);

/// How long ago something was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age(pub(crate) Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map(Self).ok_or_else(|| "not a duration (90s, 2h, 3d)".to_owned())
    }
}

fn parse(text: &str) -> Option<Duration> {
    // Days have no place in a signed duration.
    let (days, rest) = match text.split_once('d') {
        Some((days, rest)) => (days.parse::<u32>().ok()?, rest),
        None => (0, text),
    };
    let days = DAY.checked_mul(days)?;
    if rest.is_empty() && !text.is_empty() {
        return Some(days);
    }
    let rest: SignedDuration = rest.parse().ok()?;
    days.checked_add(rest.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read() {
        for (text, age) in [
            ("90s", Duration::from_secs(90)),
            ("2h", Duration::from_hours(2)),
            ("3d", Duration::from_hours(72)),
            ("1d12h", Duration::from_hours(36)),
            ("1h30m", Duration::from_mins(90)),
        ] {
            assert_eq!(text.parse(), Ok(Age(age)), "{text}");
        }
        for wrong in ["", "5", "-2h", "x", "d", "-3d", "3d5", "99999999999d"] {
            assert!(wrong.parse::<Age>().is_err(), "{wrong}");
        }
    }
}
