//! Distributions: how large the messages are, how many recipients they have, how many go over a connection. The same value for the
//! same seed and number.
//!
//! | text | meaning |
//! |---|---|
//! | `4096`, `64KiB` | always this |
//! | `uniform:1024-65536` | each value between the two equally likely |
//! | `lognormal:MEDIAN,SIGMA` | as real mail is: half of them under the median, a long tail; cut at 64 times the median |
//! | `mix:1024=50,4096=40,65536=10` | these values with these weights |
//! | `file:PATH` | as they were counted: lines of `VALUE` or `VALUE COUNT`, e.g. from `find Maildir -type f -printf '%s\n'` |

use std::fs;
use std::str::FromStr;

use crate::units;

/// Largest message that can be asked for.
pub const SIZE_MAX: u64 = 1 << 30;
/// A log-normal size is cut at so many times the median, so that a run stays predictable.
const LOGNORMAL_CUT: f64 = 64.0;

/// Distribution of sizes.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// Always the same.
    Fixed(u64),
    /// Both ends included.
    Uniform(u64, u64),
    /// Median in octets, sigma of the logarithm.
    LogNormal(u64, f64),
    /// Sizes with the running sum of their weights.
    Mix(Vec<(u64, u64)>),
}

impl Sizes {
    /// Size of a message, from 64 random bits that belong to it.
    #[must_use]
    pub fn pick(&self, random: u64) -> u64 {
        match self {
            Self::Fixed(octets) => *octets,
            Self::Uniform(least, most) => least + scale(random, most - least + 1),
            Self::LogNormal(median, sigma) => {
                let octets = *median as f64 * (sigma * normal(random)).exp();
                // The cut keeps the value far inside of u64; a size below one octet becomes 0.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "cut to a range just before"
                )]
                let octets = octets.clamp(0.0, *median as f64 * LOGNORMAL_CUT) as u64;
                octets.min(SIZE_MAX)
            }
            Self::Mix(sizes) => {
                let total = sizes.last().map_or(1, |&(_, sum)| sum);
                let point = scale(random, total);
                let place = sizes.partition_point(|&(_, sum)| sum <= point);
                sizes.get(place).map_or(0, |&(octets, _)| octets)
            }
        }
    }

    /// Largest size that [`Sizes::pick`] can give.
    #[must_use]
    pub fn largest(&self) -> u64 {
        match self {
            Self::Fixed(octets) | Self::Uniform(_, octets) => *octets,
            Self::LogNormal(median, _) => median.saturating_mul(64).min(SIZE_MAX),
            Self::Mix(sizes) => sizes.iter().map(|&(octets, _)| octets).max().unwrap_or(0),
        }
    }

    /// Smallest value that [`Sizes::pick`] can give.
    #[must_use]
    pub fn smallest(&self) -> u64 {
        match self {
            Self::Fixed(octets) | Self::Uniform(octets, _) => *octets,
            Self::LogNormal(..) => 0,
            Self::Mix(sizes) => sizes.iter().map(|&(octets, _)| octets).min().unwrap_or(0),
        }
    }

    /// Values as they were counted.
    fn counted(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let mut values = Vec::new();
        let mut sum = 0_u64;
        for (index, line) in text.lines().enumerate() {
            let mut words = line.split_ascii_whitespace();
            let Some(value) = words.next() else { continue };
            let count = words.next().map_or(Ok(1), str::parse::<u32>);
            let (Ok(value), Ok(count), None) = (units::octets(value), count, words.next()) else {
                return Err(format!("{path}:{}: {line:?} is not VALUE or VALUE COUNT", index + 1));
            };
            values.push((value, u64::from(count)));
        }
        // Equal values in one entry: a file of a million sizes has far fewer different ones.
        values.sort_unstable();
        values.dedup_by(|next, kept| {
            kept.0 == next.0 && {
                kept.1 += next.1;
                true
            }
        });
        for (_, count) in &mut values {
            sum += *count;
            *count = sum;
        }
        if sum == 0 { Err(format!("{path} counts nothing")) } else { Ok(Self::Mix(values)) }
    }
}

/// Numbers of recipients or of messages: a distribution without zero and without extremes.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers(Sizes);

impl Numbers {
    /// Largest number that can be asked for.
    pub const MAX: u32 = 1_000_000;

    /// Always the same.
    #[must_use]
    pub fn fixed(number: u32) -> Self {
        Self(Sizes::Fixed(u64::from(number)))
    }

    /// A number, from 64 random bits that belong to what it is for.
    #[must_use]
    pub fn pick(&self, random: u64) -> u32 {
        // A log-normal value may come out below one.
        u32::try_from(self.0.pick(random).max(1)).unwrap_or(Self::MAX)
    }

    /// Largest number that [`Numbers::pick`] can give.
    #[must_use]
    pub fn largest(&self) -> u32 {
        u32::try_from(self.0.largest().max(1)).unwrap_or(Self::MAX)
    }
}

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Sizes = text.parse()?;
        let least =
            if matches!(sizes, Sizes::LogNormal(median, _) if median > 0) { 1 } else { sizes.smallest() };
        if least == 0 || sizes.largest() > u64::from(Self::MAX) {
            return Err(format!("{text:?} is not within 1 to {}", Self::MAX));
        }
        Ok(Self(sizes))
    }
}

/// A number below `bound` from 64 random bits, without the bias of a remainder that matters here.
fn scale(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// A standard normal value from 64 random bits (Box and Muller).
fn normal(random: u64) -> f64 {
    let first = ((random >> 32) as f64 + 1.0) / (f64::from(u32::MAX) + 2.0);
    let second = (random & 0xffff_ffff) as f64 / (f64::from(u32::MAX) + 1.0);
    (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = match text.split_once(':') {
            None => Self::Fixed(units::octets(text)?),
            Some(("uniform", range)) => {
                let (least, most) = range.split_once('-').ok_or("uniform needs LEAST-MOST")?;
                let (least, most) = (units::octets(least)?, units::octets(most)?);
                if least > most {
                    return Err(format!("{least} is more than {most}"));
                }
                Self::Uniform(least, most)
            }
            Some(("lognormal", parameters)) => {
                let (median, sigma) = parameters.split_once(',').ok_or("lognormal needs MEDIAN,SIGMA")?;
                let sigma: f64 = sigma.parse().map_err(|_| format!("{sigma:?} is not a sigma"))?;
                if !(0.0..=10.0).contains(&sigma) {
                    return Err(format!("sigma {sigma} is outside of 0 to 10"));
                }
                Self::LogNormal(units::octets(median)?, sigma)
            }
            Some(("mix", parts)) => {
                let mut sizes = Vec::new();
                let mut sum = 0_u64;
                for part in parts.split(',') {
                    let (octets, weight) =
                        part.split_once('=').ok_or_else(|| format!("{part:?} is not SIZE=WEIGHT"))?;
                    let weight: u32 = weight.parse().map_err(|_| format!("{weight:?} is not a weight"))?;
                    sum += u64::from(weight);
                    sizes.push((units::octets(octets)?, sum));
                }
                if sum == 0 {
                    return Err("the weights sum up to nothing".to_owned());
                }
                Self::Mix(sizes)
            }
            Some(("file", path)) => Self::counted(path)?,
            Some((kind, _)) => {
                return Err(format!("{kind:?} is no distribution (uniform, lognormal, mix, file)"));
            }
        };
        if sizes.largest() > SIZE_MAX {
            return Err(format!("{text:?} goes beyond {SIZE_MAX}"));
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::content::mix;

    fn sample(text: &str) -> Vec<u64> {
        let sizes: Sizes = text.parse().unwrap();
        (0..20_000).map(|n| sizes.pick(mix(7, n))).collect()
    }

    #[test]
    fn shapes() {
        assert!(sample("4KiB").iter().all(|&octets| octets == 4096));
        let uniform = sample("uniform:1000-1009");
        for size in 1000..1010 {
            let count = uniform.iter().filter(|&&octets| octets == size).count();
            assert!((1700..2300).contains(&count), "{size}: {count}");
        }
        let mut lognormal = sample("lognormal:10000,1.5");
        lognormal.sort_unstable();
        assert!((9_000..11_000).contains(&lognormal[10_000]), "{}", lognormal[10_000]);
        // One sigma up: e^1.5 times the median, at the 84th percentile.
        assert!((40_000..50_000).contains(&lognormal[16_827]), "{}", lognormal[16_827]);
        assert!(*lognormal.last().unwrap() <= 640_000);
        let mix = sample("mix:1024=50,4096=40,65536=10");
        let large = mix.iter().filter(|&&octets| octets == 65_536).count();
        assert!((1_700..2_300).contains(&large), "{large}");
    }

    #[test]
    fn counted_values() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = |lines: &str| {
            fs::write(file.path(), lines).unwrap();
            format!("file:{}", file.path().display())
        };
        let values = sample(&text("100\n2KiB 8\n\n100\n"));
        let large = values.iter().filter(|&&octets| octets == 2048).count();
        assert!((15_600..16_400).contains(&large), "{large}");
        assert!(values.iter().all(|&octets| octets == 100 || octets == 2048));
        for bad in ["", "1 0", "x", "1 2 3", "1 -1"] {
            assert!(text(bad).parse::<Sizes>().is_err(), "{bad:?}");
        }
        assert!(text("5\nfive").parse::<Sizes>().unwrap_err().contains(":2: \"five\""));
        assert!("file:/nowhere".parse::<Sizes>().is_err());
    }

    #[test]
    fn numbers() {
        let numbers: Numbers = "mix:1=9,50=1".parse().unwrap();
        assert_eq!((numbers.largest(), numbers.pick(0), numbers.pick(u64::MAX)), (50, 1, 50));
        assert_eq!(Numbers::fixed(3).pick(77), 3);
        assert!("lognormal:2,1".parse::<Numbers>().is_ok());
        for bad in ["0", "uniform:0-5", "mix:0=1,5=1", "2000000", "x"] {
            assert!(bad.parse::<Numbers>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refused_texts() {
        for bad in [
            "",
            "uniform:5",
            "uniform:9-5",
            "lognormal:1",
            "lognormal:1,x",
            "lognormal:1,99",
            "mix:1",
            "mix:1=0",
            "x:1",
            "2G",
        ] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad:?}");
        }
    }
}
