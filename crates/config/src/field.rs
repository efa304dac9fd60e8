//! What a setting holds: reading it from a TOML value and writing it back.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use inrush_gateway::settings::Engine;
use inrush_log::Durability;
use inrush_logging::{Destination, FormatChoice, Levels};
use inrush_policy::Rate;
use inrush_proto::{BareNewline, Kind, Tls, UnauthorizedPipelining};
use inrush_relay::dns::Addresses;
use inrush_relay::tls::TlsPolicy;
use toml::Spanned;
use toml::de::DeValue;

use crate::error::nearest;
use crate::schema::HopKind;
use crate::units::Unit;

/// A number of any width: octets, microseconds or a count.
pub(crate) trait Number {
    /// The value in the unit of its row.
    fn value(&self) -> u64;
    /// Takes a value that the range of the row allows; those ranges fit the type.
    fn take(&mut self, value: u64);
}

macro_rules! numbers {
    ($($type:ty),+) => {
        $(impl Number for $type {
            fn value(&self) -> u64 {
                u64::from(*self)
            }
            fn take(&mut self, value: u64) {
                *self = Self::try_from(value).unwrap_or(Self::MAX);
            }
        })+
    };
}
numbers!(u8, u16, u32, u64);

impl Number for Duration {
    fn value(&self) -> u64 {
        u64::try_from(self.as_micros()).unwrap_or(u64::MAX)
    }
    fn take(&mut self, value: u64) {
        *self = Self::from_micros(value);
    }
}

/// One of a few words.
pub(crate) trait Choice {
    /// All words.
    fn words(&self) -> &'static [&'static str];
    /// The index of the word that is chosen.
    fn chosen(&self) -> usize;
    /// Chooses the word at `index`, or says why that word does not work.
    fn choose(&mut self, index: usize) -> Result<(), String>;
}

macro_rules! choices {
    ($($type:ty { $($word:literal => $value:expr),+ $(,)? })+) => {
        $(impl Choice for $type {
            fn words(&self) -> &'static [&'static str] {
                &[$($word),+]
            }
            fn chosen(&self) -> usize {
                [$($value),+].iter().position(|value| value == self).unwrap_or(0)
            }
            fn choose(&mut self, index: usize) -> Result<(), String> {
                *self = [$($value),+][index];
                Ok(())
            }
        })+
    };
}
choices! {
    Engine { "auto" => Engine::Auto, "io_uring" => Engine::IoUring, "epoll" => Engine::Epoll }
    Durability { "strict" => Durability::Strict, "relaxed" => Durability::Relaxed }
    Tls {
        "off" => Tls::Off,
        "starttls" => Tls::StartTls,
        "required" => Tls::Required,
        "implicit" => Tls::Implicit,
    }
    Kind { "mx" => Kind::Mx, "submission" => Kind::Submission, "lmtp" => Kind::Lmtp }
    UnauthorizedPipelining {
        "allow" => UnauthorizedPipelining::Allow,
        "reject" => UnauthorizedPipelining::Reject,
    }
    HopKind {
        "smtp" => HopKind::Smtp,
        "lmtp" => HopKind::Lmtp,
        "maildir" => HopKind::Maildir,
        "hold" => HopKind::Hold,
    }
    TlsPolicy {
        "off" => TlsPolicy::Off,
        "opportunistic" => TlsPolicy::Opportunistic,
        "required" => TlsPolicy::Required,
    }
    FormatChoice {
        "auto" => FormatChoice::Auto,
        "text" => FormatChoice::Text,
        "logfmt" => FormatChoice::Logfmt,
        "json" => FormatChoice::Json,
    }
    Destination { "stderr" => Destination::Stderr, "journald" => Destination::Journald }
    Addresses { "both" => Addresses::Both, "ipv4" => Addresses::Ipv4, "ipv6" => Addresses::Ipv6 }
    BareNewline {
        "reject" => BareNewline::Reject,
        "normalize" => BareNewline::Normalize,
        "allow" => BareNewline::Allow,
    }
}

/// The place of a setting in the settings.
pub(crate) enum Field<'a> {
    Number(&'a mut dyn Number, Unit, RangeInclusive<u64>),
    Choice(&'a mut dyn Choice),
    Switch(&'a mut bool),
    Text(&'a mut String),
    Texts(&'a mut Vec<String>),
    Rate(&'a mut Rate),
    Levels(&'a mut Levels),
    Path(&'a mut PathBuf),
    OptionalPath(&'a mut Option<PathBuf>),
    Address(&'a mut SocketAddr),
    Addresses(&'a mut Vec<SocketAddr>),
}

impl Field<'_> {
    /// Takes `value`, or says what is wrong with it.
    pub(crate) fn assign(self, value: &Spanned<DeValue<'_>>) -> Result<(), String> {
        let value = value.get_ref();
        let expected = self.expected();
        let unexpected = || format!("expected {expected}, found {}", found(value));
        match self {
            Self::Number(number, unit, range) => {
                let parsed = match (value, unit) {
                    (DeValue::Integer(integer), _) => {
                        let integer = i128::from_str_radix(integer.as_str(), integer.radix());
                        let integer = integer.map_err(|_| unexpected())?;
                        if unit != Unit::Count && integer != 0 {
                            return Err(format!("{integer} lacks its unit: expected {expected}"));
                        }
                        u64::try_from(integer).map_err(|_| unexpected())?
                    }
                    (DeValue::String(_), Unit::Count) => return Err(unexpected()),
                    (DeValue::String(text), _) => unit.parse(text).ok_or_else(unexpected)?,
                    _ => return Err(unexpected()),
                };
                if !range.contains(&parsed) {
                    let (low, high) = (unit.show(*range.start()), unit.show(*range.end()));
                    return Err(format!("{} is out of range: from {low} to {high}", unit.show(parsed)));
                }
                number.take(parsed);
            }
            Self::Choice(choice) => {
                let word = value.as_str().ok_or_else(unexpected)?;
                let words = choice.words();
                let Some(index) = words.iter().position(|known| *known == word) else {
                    let meant = nearest(word, words.iter().copied());
                    let meant = meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
                    return Err(format!("{}{meant}", unexpected()));
                };
                choice.choose(index)?;
            }
            Self::Switch(switch) => *switch = value.as_bool().ok_or_else(unexpected)?,
            Self::Text(text) => value.as_str().ok_or_else(unexpected)?.clone_into(text),
            Self::Texts(texts) => {
                let list = value.as_array().ok_or_else(unexpected)?;
                let parsed = list.iter().map(|item| {
                    let text = nonempty(item.get_ref().as_str()).map(str::to_owned);
                    text.ok_or_else(|| {
                        format!("expected a list of texts, found {} in it", found(item.get_ref()))
                    })
                });
                *texts = parsed.collect::<Result<_, _>>()?;
            }
            Self::Rate(rate) => {
                *rate = match value {
                    DeValue::Integer(integer) if integer.as_str() == "0" => Rate::UNLIMITED,
                    DeValue::String(text) => parse_rate(text).ok_or_else(unexpected)?,
                    _ => return Err(unexpected()),
                };
            }
            Self::Levels(levels) => {
                let text = value.as_str().ok_or_else(unexpected)?;
                *levels = text.parse().map_err(|error| format!("{error}"))?;
            }
            Self::Path(path) => *path = PathBuf::from(nonempty(value.as_str()).ok_or_else(unexpected)?),
            Self::OptionalPath(path) => {
                *path = Some(PathBuf::from(nonempty(value.as_str()).ok_or_else(unexpected)?));
            }
            Self::Address(address) => {
                *address = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(unexpected)?;
            }
            Self::Addresses(addresses) => {
                let list = value.as_array().ok_or_else(unexpected)?;
                let parsed = list.iter().map(|item| {
                    let address = item.get_ref().as_str().and_then(|text| text.parse().ok());
                    address.ok_or_else(|| {
                        format!("expected an address such as \"[::]:25\", found {}", found(item.get_ref()))
                    })
                });
                *addresses = parsed.collect::<Result<_, _>>()?;
            }
        }
        Ok(())
    }

    /// The value as TOML; `None` when there is none.
    pub(crate) fn show(&self) -> Option<String> {
        Some(match self {
            Self::Number(number, Unit::Count, _) => number.value().to_string(),
            Self::Number(number, unit, _) => quoted(&unit.show(number.value())),
            Self::Choice(choice) => quoted(choice.words()[choice.chosen()]),
            Self::Switch(switch) => switch.to_string(),
            Self::Text(text) => quoted(text),
            Self::Texts(texts) => {
                format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
            }
            Self::Rate(rate) if rate.count == 0 => "0".to_owned(),
            Self::Rate(rate) => quoted(&format!("{}/{}", rate.count, Unit::Duration.show(rate.per.value()))),
            Self::Levels(levels) => quoted(&levels.to_string()),
            Self::Path(path) => quoted(&path.to_string_lossy()),
            Self::OptionalPath(path) => quoted(&path.as_deref()?.to_string_lossy()),
            Self::Address(address) => quoted(&address.to_string()),
            Self::Addresses(addresses) => {
                let list: Vec<String> =
                    addresses.iter().map(|address| quoted(&address.to_string())).collect();
                format!("[{}]", list.join(", "))
            }
        })
    }

    /// What a value looks like, for people.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Number(_, unit, _) => unit.example().to_owned(),
            Self::Choice(choice) => {
                let words: Vec<String> = choice.words().iter().map(|word| quoted(word)).collect();
                if words.len() == 1 { words.concat() } else { format!("one of {}", words.join(", ")) }
            }
            Self::Switch(_) => "true or false".to_owned(),
            Self::Text(_) => "a text".to_owned(),
            Self::Texts(_) => "a list of texts".to_owned(),
            Self::Rate(_) => "a number in a time such as \"600/1m\", or 0".to_owned(),
            Self::Levels(_) => "a level such as \"info\", or \"info,inrush_gateway=debug\"".to_owned(),
            Self::Path(_) | Self::OptionalPath(_) => "a path".to_owned(),
            Self::Address(_) => "an address such as \"127.0.0.1:9925\"".to_owned(),
            Self::Addresses(_) => "a list of addresses such as [\"[::]:25\"]".to_owned(),
        }
    }

    /// The lowest and highest value of a number.
    pub(crate) fn range(&self) -> Option<(String, String)> {
        match self {
            Self::Number(_, unit, range) => Some((unit.show(*range.start()), unit.show(*range.end()))),
            _ => None,
        }
    }
}

/// `600/1m`.
fn parse_rate(text: &str) -> Option<Rate> {
    let (count, per) = text.split_once('/')?;
    let count = count.parse().ok().filter(|count| *count > 0)?;
    let per = Unit::Duration.parse(per).filter(|per| (1_000..=86_400_000_000).contains(per))?;
    Some(Rate::new(count, Duration::from_micros(per)))
}

fn nonempty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// A value as it is repeated in a message: short, on one line.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 60 => quoted(text),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(switch) => switch.to_string(),
        DeValue::String(_) => "a long text".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `text` as a basic string of TOML.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
