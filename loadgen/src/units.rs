//! Numbers with units as people write them on a command line: octets and durations.

use std::time::Duration;

/// `4096`, `64KiB`, `1M`: octets. K, M and G are powers of 1024 with and without `iB`.
///
/// # Errors
/// A sentence that names what was not understood.
pub fn octets(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a number of octets"))?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(format!("{unit:?} in {text:?} is no unit of size (KiB, MiB, GiB)")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// `500ms`, `5s`, `2m`, `1h`; a bare number means seconds.
///
/// # Errors
/// A sentence that names what was not understood.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a duration"))?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("{unit:?} in {text:?} is no unit of time (ms, s, m, h)")),
    };
    // A year is beyond any run, and keeps every sum of times in range.
    if seconds > 366.0 * 86_400.0 {
        return Err(format!("{text:?} is too long"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{text:?} is not a duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octet_forms() {
        assert_eq!(octets("4096"), Ok(4096));
        assert_eq!(octets("64KiB"), Ok(65_536));
        assert_eq!(octets("25m"), Ok(25 << 20));
        for bad in ["", "x", "-1", "4X", "99999999999999999999", "9999999999999G"] {
            assert!(octets(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn duration_forms() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "5x", "1e9", "-1s", "99999999h", ".", "1.2.3"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
