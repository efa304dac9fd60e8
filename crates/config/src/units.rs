//! Numbers with units: `"25MiB"`, `"5m"`, `"500B/s"`.
//!
//! Sizes take B, KiB, MiB, GiB, TiB (powers of 1024) and kB, MB, GB, TB (powers of 1000). Durations take us, ms, s, m, h, d and
//! may be put together, largest first: `"1h30m"`. Whole numbers only: 1.5GiB is 1536MiB.

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing but itself.
    Count,
    /// Octets.
    Bytes,
    /// Octets per second.
    BytesPerSecond,
    /// Microseconds.
    Duration,
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Largest first; in microseconds.
const TIMES: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl Unit {
    /// How a value of this unit is written, for messages.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::Count => "a whole number",
            Self::Bytes => "a size such as \"25MiB\"",
            Self::BytesPerSecond => "a rate such as \"500B/s\"",
            Self::Duration => "a duration such as \"5m\"",
        }
    }

    /// The number of octets, octets per second, or microseconds that `text` says; `None` when it says none.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<u64> {
        match self {
            Self::Count => digits(text)?.1.is_empty().then_some(digits(text)?.0),
            Self::Bytes => size(text),
            Self::BytesPerSecond => size(text.strip_suffix("/s")?),
            Self::Duration => duration(text),
        }
    }

    /// Writes `value` with the largest unit that divides it; [`Unit::parse`] reads it back.
    #[must_use]
    pub fn show(self, value: u64) -> String {
        // Powers of 1000 are understood and not written: 1000000 reads better as it is.
        let binary = |value: u64| {
            let (unit, factor) = SIZES[..4]
                .iter()
                .find(|(_, factor)| value > 0 && value.is_multiple_of(*factor))
                .unwrap_or(&("B", 1));
            format!("{}{unit}", value / factor)
        };
        match self {
            Self::Count => value.to_string(),
            Self::Bytes => binary(value),
            Self::BytesPerSecond => format!("{}/s", binary(value)),
            Self::Duration => {
                let whole = TIMES.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor));
                let (unit, factor) = whole.unwrap_or(&("s", 1_000_000));
                format!("{}{unit}", value / factor)
            }
        }
    }
}

/// The digits at the front of `text` and what follows.
fn digits(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = digits(text)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0u64;
    let mut units = TIMES.iter();
    while !rest.is_empty() {
        let (number, after) = digits(rest)?;
        let end = after.bytes().position(|byte| byte.is_ascii_digit()).unwrap_or(after.len());
        // The units that are left are smaller, so that "1m1h" and "1s1s" are mistakes.
        let (_, factor) = units.find(|(name, _)| *name == &after[..end])?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = &after[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_rates_and_durations() {
        for (unit, text, value) in [
            (Unit::Count, "12", Some(12)),
            (Unit::Count, "12 ", None),
            (Unit::Bytes, "25MiB", Some(25 << 20)),
            (Unit::Bytes, "25 MiB", Some(25 << 20)),
            (Unit::Bytes, "3MB", Some(3_000_000)),
            (Unit::Bytes, "0B", Some(0)),
            (Unit::Bytes, "25", None),
            (Unit::Bytes, "25mib", None),
            (Unit::Bytes, "25M", None),
            (Unit::Bytes, "-1MiB", None),
            (Unit::Bytes, "1.5GiB", None),
            (Unit::Bytes, "MiB", None),
            (Unit::Bytes, "18446744073709551615B", Some(u64::MAX)),
            (Unit::Bytes, "18446744073709551616B", None),
            (Unit::Bytes, "99999999TiB", None),
            (Unit::BytesPerSecond, "500B/s", Some(500)),
            (Unit::BytesPerSecond, "1KiB/s", Some(1024)),
            (Unit::BytesPerSecond, "500", None),
            (Unit::Duration, "5m", Some(300_000_000)),
            (Unit::Duration, "1h30m", Some(5_400_000_000)),
            (Unit::Duration, "1s500ms", Some(1_500_000)),
            (Unit::Duration, "250us", Some(250)),
            (Unit::Duration, "0s", Some(0)),
            (Unit::Duration, "1m1h", None),
            (Unit::Duration, "1s1s", None),
            (Unit::Duration, "5", None),
            (Unit::Duration, "m", None),
            (Unit::Duration, "", None),
            (Unit::Duration, "5 m", None),
        ] {
            assert_eq!(unit.parse(text), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            for unit in [Unit::Count, Unit::Bytes, Unit::BytesPerSecond, Unit::Duration] {
                prop_assert_eq!(unit.parse(&unit.show(value)), Some(value));
            }
            prop_assert_eq!(Unit::Bytes.show(value << 10 >> 10 << 10).contains("iB"), value << 10 != 0);
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,12}") {
            for unit in [Unit::Count, Unit::Bytes, Unit::BytesPerSecond, Unit::Duration] {
                let _ = unit.parse(&text);
            }
        }
    }
}
