//! How one kind of sender behaves: what a table `[[sender]]` of a profile says, what the command line says instead, and what follows.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use inrush_proto::client::{Pipelining, Transfer};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::content::mix;
use crate::sizes::{Numbers, Sizes};
use crate::template::Template;
use crate::units;

/// Most transactions in flight on a connection: with four commands each as many as may go unanswered at all.
const IN_FLIGHT_MAX: u32 = 256;
/// Octets of a message beside its payload: header, commands, TLS.
const ENVELOPE_OCTETS: f64 = 16_384.0;
/// Bound of what slow senders may take behind the end of a run, seconds.
const OWN_TIME_MAX: f64 = 24.0 * 3600.0;
/// Longest think time.
const THINK_TIME_MAX: Duration = Duration::from_secs(3600);

/// `pipelining`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PipeliningOption {
    /// Send groups even when the server does not offer PIPELINING.
    On,
    /// One command, one reply.
    Off,
    /// When offered.
    Auto,
}

/// `tls`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Everything in the clear.
    Off,
    /// RFC 3207.
    Starttls,
    /// From the first octet on (RFC 8314).
    Implicit,
}

/// Messages of one connection.
#[derive(Clone, Debug, PartialEq)]
pub enum PerConnection {
    /// As many as the server takes.
    Unlimited,
    /// So many.
    Numbers(Numbers),
}

impl FromStr for PerConnection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" { Ok(Self::Unlimited) } else { text.parse().map(Self::Numbers) }
    }
}

/// Time between two messages of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThinkTime {
    /// The next one follows at once.
    #[default]
    None,
    /// Always so long.
    Fixed(Duration),
    /// Each time from nothing to this equally likely.
    Random(Duration),
}

impl ThinkTime {
    /// A time, from 64 random bits that belong to it.
    pub(crate) fn pick(self, random: u64) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(time) => time,
            Self::Random(most) => most.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64),
        }
    }
}

impl FromStr for ThinkTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| match units::duration(text)? {
            time if time > THINK_TIME_MAX => Err(format!("{text:?} is longer than an hour")),
            time => Ok(time),
        };
        match text.strip_prefix("random:") {
            Some(most) => time(most).map(Self::Random),
            None => time(text).map(|time| if time.is_zero() { Self::None } else { Self::Fixed(time) }),
        }
    }
}

/// What is said about a sender; the rest is as in [`Sender::default`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderSettings {
    /// Name in reports.
    pub name: Option<String>,
    /// Share of the messages.
    pub weight: Option<u32>,
    /// Share of the sessions; else as `weight`.
    pub sessions_weight: Option<u32>,
    /// Payload sizes.
    #[serde(default, deserialize_with = "parsed")]
    pub length: Option<Sizes>,
    /// Percent of the payload's lines that begin with a dot.
    pub dot_lines: Option<u8>,
    /// Recipients of a message.
    #[serde(default, deserialize_with = "parsed")]
    pub recipients: Option<Numbers>,
    /// Messages of a connection.
    #[serde(default, deserialize_with = "parsed")]
    pub messages_per_connection: Option<PerConnection>,
    /// Transactions under way at once.
    pub in_flight: Option<u32>,
    /// Grouping of commands.
    pub pipelining: Option<PipeliningOption>,
    /// Percent of the messages that go by BDAT.
    pub bdat_percent: Option<u8>,
    /// TLS.
    pub tls: Option<TlsMode>,
    /// Percent of the connections that use it.
    pub tls_percent: Option<u8>,
    /// Pause between messages.
    #[serde(default, deserialize_with = "parsed")]
    pub think_time: Option<ThinkTime>,
    /// Slow sender.
    pub octets_per_second: Option<u32>,
    /// Reverse-path.
    pub from: Option<String>,
    /// Forward-path.
    pub to: Option<String>,
}

/// A string or a whole number, read as on the command line.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a string or a whole number")]
    enum Word {
        Text(String),
        Number(u64),
    }
    let text = match Word::deserialize(deserializer)? {
        Word::Text(text) => text,
        Word::Number(number) => number.to_string(),
    };
    text.parse().map(Some).map_err(D::Error::custom)
}

impl SenderSettings {
    /// What `self` says, else what `below` says. Names and weights are the profile's alone.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        Self {
            name: below.name.clone(),
            weight: below.weight,
            sessions_weight: below.sessions_weight,
            length: self.length.clone().or_else(|| below.length.clone()),
            dot_lines: self.dot_lines.or(below.dot_lines),
            recipients: self.recipients.clone().or_else(|| below.recipients.clone()),
            messages_per_connection: self
                .messages_per_connection
                .clone()
                .or_else(|| below.messages_per_connection.clone()),
            in_flight: self.in_flight.or(below.in_flight),
            pipelining: self.pipelining.or(below.pipelining),
            bdat_percent: self.bdat_percent.or(below.bdat_percent),
            tls: self.tls.or(below.tls),
            tls_percent: self.tls_percent.or(below.tls_percent),
            think_time: self.think_time.or(below.think_time),
            octets_per_second: self.octets_per_second.or(below.octets_per_second),
            from: self.from.clone().or_else(|| below.from.clone()),
            to: self.to.clone().or_else(|| below.to.clone()),
        }
    }

    /// Checks, and fills in what is not said. `sequence`: a number that does not repeat in front of each recipient.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self, sequence: bool) -> Result<Sender, String> {
        let percent = |key: &str, value: Option<u8>, default| match value {
            Some(value) if value > 100 => Err(format!("{key} {value} is more than 100")),
            value => Ok(value.unwrap_or(default)),
        };
        let in_flight = self.in_flight.unwrap_or(1);
        if !(1..=IN_FLIGHT_MAX).contains(&in_flight) {
            return Err(format!("in_flight {in_flight} is outside of 1 to {IN_FLIGHT_MAX}"));
        }
        let pipelining = self.pipelining.unwrap_or(PipeliningOption::Auto);
        if in_flight > 1 && pipelining == PipeliningOption::Off {
            return Err("in_flight above 1 needs pipelining".to_owned());
        }
        let messages_per_connection = match &self.messages_per_connection {
            None => Some(Numbers::fixed(1)),
            Some(PerConnection::Unlimited) => None,
            Some(PerConnection::Numbers(numbers)) => Some(numbers.clone()),
        };
        let think_time = self.think_time.unwrap_or_default();
        let is_kept = messages_per_connection.as_ref().is_none_or(|numbers| numbers.largest() > 1);
        if in_flight > 1 && !is_kept {
            return Err("in_flight above 1 needs more than one message of a connection".to_owned());
        }
        if think_time != ThinkTime::None && !is_kept {
            return Err("a pause lies between two messages of a connection, which has one only".to_owned());
        }
        if self.octets_per_second == Some(0) {
            return Err("octets_per_second must be at least 1".to_owned());
        }
        let weight = self.weight.unwrap_or(1);
        let sessions_weight = self.sessions_weight.unwrap_or(weight);
        if weight == 0 || sessions_weight == 0 {
            return Err("a weight must be at least 1".to_owned());
        }
        let recipients = self.recipients.clone().unwrap_or_else(|| Numbers::fixed(1));
        let several = recipients.largest() > 1;
        let to = Template::parse(self.to.as_deref().unwrap_or(TO), several && !sequence)?;
        Ok(Sender {
            name: self.name.clone().unwrap_or_else(|| "sender".to_owned()),
            weight,
            sessions_weight,
            length: self.length.clone().unwrap_or(Sizes::Fixed(4096)),
            dot_lines: percent("dot_lines", self.dot_lines, 0)?,
            messages_per_connection,
            in_flight: in_flight as usize,
            pipelining: match pipelining {
                PipeliningOption::On => Pipelining::Force,
                PipeliningOption::Off => Pipelining::Off,
                PipeliningOption::Auto => Pipelining::Auto,
            },
            bdat_percent: percent("bdat_percent", self.bdat_percent, 0)?,
            tls: self.tls.unwrap_or(TlsMode::Off),
            tls_percent: percent("tls_percent", self.tls_percent, 100)?,
            think_time,
            octets_per_second: self.octets_per_second,
            from: Template::parse(self.from.as_deref().unwrap_or(FROM), false)?,
            to: if sequence { to.numbered(recipients.largest()) } else { to },
            recipients,
        })
    }
}

/// Reverse-path when none is given.
pub const FROM: &str = "load@inrush.example";
/// Forward-path when none is given.
const TO: &str = "recipient@inrush.example";

/// A checked sender.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Name in reports.
    pub name: String,
    /// Share of the messages, against those of the others.
    pub weight: u32,
    /// Share of the sessions, against those of the others.
    pub sessions_weight: u32,
    /// Payload sizes.
    pub length: Sizes,
    /// Percent of the payload's lines that begin with a dot.
    pub dot_lines: u8,
    /// Recipients of a message.
    pub recipients: Numbers,
    /// Messages of a connection; None: no end.
    pub messages_per_connection: Option<Numbers>,
    /// Transactions in flight on a connection.
    pub in_flight: usize,
    /// Grouping of commands.
    pub pipelining: Pipelining,
    /// Percent of the messages that go by BDAT.
    pub bdat_percent: u8,
    /// TLS.
    pub tls: TlsMode,
    /// Percent of the connections that use it.
    pub tls_percent: u8,
    /// Pause between messages of a connection.
    pub think_time: ThinkTime,
    /// Octets a second at which it sends; None: no limit.
    pub octets_per_second: Option<u32>,
    /// Reverse-path.
    pub from: Template,
    /// Forward-path.
    pub to: Template,
}

impl Sender {
    /// Its own slowness is a part of its times, which are therefore not those of the server.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.octets_per_second.is_some()
    }

    /// Its sessions are busy with themselves for a part of their time.
    #[must_use]
    pub fn has_own_pace(&self) -> bool {
        self.is_slow() || self.think_time != ThinkTime::None
    }

    /// How long the largest messages under way take by its own slowness alone, twice over for what lies between them.
    #[must_use]
    pub fn own_time_max(&self) -> Duration {
        let Some(octets_per_second) = self.octets_per_second else { return Duration::ZERO };
        let octets = (self.length.largest() as f64 + ENVELOPE_OCTETS) * self.in_flight as f64;
        Duration::from_secs_f64((2.0 * octets / f64::from(octets_per_second)).min(OWN_TIME_MAX))
    }

    /// How the message with these random bits goes.
    pub(crate) fn transfer(&self, random: u64) -> Transfer {
        if happens(mix(random, 11), self.bdat_percent) { Transfer::Chunks } else { Transfer::Data }
    }

    /// TLS of the connection with these random bits.
    pub(crate) fn tls(&self, random: u64) -> TlsMode {
        if happens(mix(random, 12), self.tls_percent) { self.tls } else { TlsMode::Off }
    }
}

/// An event of so many percent, from 64 random bits that belong to it.
fn happens(random: u64, percent: u8) -> bool {
    (u128::from(random) * 100) >> 64 < u128::from(percent)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn percent() {
        for percent in [0, 1, 30, 99, 100] {
            let count = (0..100_000).filter(|&n| happens(mix(3, n), percent)).count();
            assert!(count.abs_diff(usize::from(percent) * 1000) < 600, "{percent}: {count}");
        }
        assert!(!(0..100_000).any(|n| happens(mix(3, n), 0)));
        assert!((0..100_000).all(|n| happens(mix(3, n), 100)));
    }

    #[test]
    fn think_times() {
        assert_eq!("0".parse(), Ok(ThinkTime::None));
        assert_eq!("1.5s".parse(), Ok(ThinkTime::Fixed(Duration::from_millis(1500))));
        let random: ThinkTime = "random:2s".parse().unwrap();
        let times: Vec<_> = (0..1000).map(|n| random.pick(mix(1, n))).collect();
        assert!(times.iter().all(|&time| time <= Duration::from_secs(2)));
        assert!(times.iter().any(|&time| time > Duration::from_millis(1500)));
        for bad in ["x", "2h", "random:", "random:2h"] {
            assert!(bad.parse::<ThinkTime>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_upper_settings_win_but_for_name_and_weight() {
        let below = SenderSettings {
            name: Some("news".to_owned()),
            weight: Some(7),
            in_flight: Some(4),
            bdat_percent: Some(50),
            ..SenderSettings::default()
        };
        let above = SenderSettings { in_flight: Some(1), weight: Some(9), ..SenderSettings::default() };
        let sender = above.over(&below).check(false).unwrap();
        assert_eq!((sender.name.as_str(), sender.weight, sender.sessions_weight), ("news", 7, 7));
        assert_eq!((sender.in_flight, sender.bdat_percent), (1, 50));
    }

    #[test]
    fn bounds() {
        let of = |change: fn(&mut SenderSettings)| {
            let mut settings = SenderSettings::default();
            change(&mut settings);
            settings.check(false)
        };
        assert!(of(|_| ()).is_ok());
        assert!(of(|s| s.dot_lines = Some(101)).is_err());
        assert!(of(|s| s.tls_percent = Some(101)).is_err());
        assert!(of(|s| s.bdat_percent = Some(101)).is_err());
        assert!(of(|s| s.in_flight = Some(0)).is_err());
        assert!(of(|s| s.in_flight = Some(257)).is_err());
        assert!(of(|s| s.weight = Some(0)).is_err());
        assert!(of(|s| s.octets_per_second = Some(0)).is_err());
        assert!(of(|s| s.to = Some("a<b".to_owned())).is_err());
        assert!(of(|s| (s.in_flight, s.pipelining) = (Some(2), Some(PipeliningOption::Off))).is_err());
    }
}
