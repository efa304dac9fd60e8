//! A line before it takes its form.

use tracing::Level;

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Microseconds since 1970, UTC.
    pub time_us: u64,
    /// How much it matters.
    pub level: Level,
    /// Who says it.
    pub module: &'static str,
    /// What it is about, for people; the words are ours, but parts of them may be those of a peer.
    pub msg: String,
    /// The facts, in order.
    pub fields: Vec<(&'static str, Value)>,
}

/// A fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text, escaped when it takes its form.
    Text(String),
    /// A number.
    Unsigned(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Switch(bool),
    /// A time in microseconds, shown in seconds.
    Seconds(u64),
    /// Several of them.
    SecondsList(Vec<u64>),
    /// Several texts.
    List(Vec<String>),
    /// How often what has happened.
    Counts(Vec<(&'static str, u64)>),
}

impl Line {
    /// Octets that it takes of the queue, about.
    pub(crate) fn weight(&self) -> usize {
        let of_value = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::List(list) => list.iter().map(|text| text.len() + 24).sum(),
            Value::SecondsList(list) => list.len() * 8,
            Value::Counts(list) => list.len() * 24,
            _ => 0,
        };
        let fields = self.fields.iter().map(|(_, value)| 48 + of_value(value));
        128 + self.msg.len() + fields.sum::<usize>()
    }

    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// Text of octets that somebody else has sent: what is not UTF-8 becomes `\xff`.
pub(crate) fn text_of(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(octets.len());
    for piece in octets.utf8_chunks() {
        text.push_str(piece.valid());
        for octet in piece.invalid() {
            // A text takes whatever is written to it.
            let _ = write!(text, "\\x{octet:02x}");
        }
    }
    text
}
