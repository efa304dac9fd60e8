//! The forms of a line: text for people, logfmt, JSON.
//!
//! ```text
//! 2026-11-23T14:41:00.123456Z  INFO listening listener=mx address=[::]:25
//! time=2026-11-23T14:41:00.123456Z level=info module=inrush::serve msg=listening listener=mx address=[::]:25
//! {"time":"2026-11-23T14:41:00.123456Z","level":"info","module":"inrush::serve","msg":"listening","listener":"mx","address":"[::]:25"}
//! ```
//! Each is one line of valid UTF-8 without any control character, whatever the values hold. JSON and the quoted values of logfmt share
//! their escapes (RFC 8259 §7).

use std::fmt::Write as _;

use tracing::Level;

use crate::escape::{escaped, needs_quotes, quoted};
use crate::line::{Line, Value};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people; with a coloured level on a terminal.
    Text {
        /// Whether escape sequences are understood.
        colour: bool,
    },
    /// `key=value`.
    Logfmt,
    /// An object.
    Json,
}

impl Form {
    /// Its name in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Logfmt => "logfmt",
            Self::Json => "json",
        }
    }

    /// Adds `line` to `out`, with the line feed behind it.
    pub fn write(self, line: &Line, out: &mut String) {
        match self {
            Self::Text { colour } => text(line, colour, out),
            Self::Logfmt => logfmt(line, out),
            Self::Json => json(line, out),
        }
        out.push('\n');
    }
}

fn text(line: &Line, colour: bool, out: &mut String) {
    let (on, off) = match (colour, line.level) {
        (false, _) => ("", ""),
        (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
        (true, _) => ("\x1b[34m", "\x1b[0m"),
    };
    time(out, line.time_us);
    let _ = write!(out, " {on}{:>5}{off} ", line.level.as_str());
    text_body(line, out);
}

/// The line without its time and level, as the journal shows it.
pub(crate) fn text_body(line: &Line, out: &mut String) {
    escaped(out, &line.msg, false);
    for (name, value) in &line.fields {
        let _ = write!(out, " {name}=");
        plain_value(value, out);
    }
}

fn logfmt(line: &Line, out: &mut String) {
    out.push_str("time=");
    time(out, line.time_us);
    let _ = write!(out, " level={} module={} msg=", level(line.level), line.module);
    plain_text(&line.msg, out);
    for (name, value) in &line.fields {
        let _ = write!(out, " {name}=");
        plain_value(value, out);
    }
}

fn json(line: &Line, out: &mut String) {
    out.push_str("{\"time\":\"");
    time(out, line.time_us);
    let _ = write!(out, "\",\"level\":\"{}\",\"module\":\"{}\",\"msg\":", level(line.level), line.module);
    quoted(out, &line.msg);
    for (name, value) in &line.fields {
        let _ = write!(out, ",\"{name}\":");
        json_value(value, out);
    }
    out.push('}');
}

/// The word of a level.
pub(crate) fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// A value without the quotes where it needs none.
pub(crate) fn plain_value(value: &Value, out: &mut String) {
    let joined;
    let text = match value {
        Value::Text(text) => text,
        Value::List(list) => {
            joined = list.join(",");
            &joined
        }
        Value::Counts(counts) => {
            joined =
                counts.iter().map(|(what, count)| format!("{what}:{count}")).collect::<Vec<_>>().join(",");
            &joined
        }
        Value::SecondsList(list) => {
            for (index, micros) in list.iter().enumerate() {
                if index > 0 {
                    out.push('/');
                }
                seconds(*micros, out);
            }
            return;
        }
        number => return json_value(number, out),
    };
    plain_text(text, out);
}

fn plain_text(text: &str, out: &mut String) {
    if needs_quotes(text) { quoted(out, text) } else { out.push_str(text) }
}

fn json_value(value: &Value, out: &mut String) {
    match value {
        Value::Text(text) => quoted(out, text),
        Value::Unsigned(number) => _ = write!(out, "{number}"),
        Value::Signed(number) => _ = write!(out, "{number}"),
        // JSON knows no others (RFC 8259 §6).
        Value::Float(number) if number.is_finite() => _ = write!(out, "{number}"),
        Value::Float(number) => quoted(out, &number.to_string()),
        Value::Switch(switch) => _ = write!(out, "{switch}"),
        Value::Seconds(micros) => seconds(*micros, out),
        Value::SecondsList(_) => {
            out.push('"');
            plain_value(value, out);
            out.push('"');
        }
        Value::List(list) => {
            out.push('[');
            for (index, text) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quoted(out, text);
            }
            out.push(']');
        }
        Value::Counts(counts) => {
            out.push('{');
            for (index, (what, count)) in counts.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(out, "{comma}\"{what}\":{count}");
            }
            out.push('}');
        }
    }
}

fn seconds(micros: u64, out: &mut String) {
    let _ = write!(out, "{}.{:06}", micros / 1_000_000, micros % 1_000_000);
}

/// RFC 3339 with microseconds, UTC.
pub(crate) fn time(out: &mut String, time_us: u64) {
    let time = i64::try_from(time_us).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    let _ = write!(out, "{:.6}", time.unwrap_or(jiff::Timestamp::UNIX_EPOCH));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::escape::is_plain;

    fn line(msg: &str, fields: Vec<(&'static str, Value)>) -> Line {
        Line {
            time_us: 1_795_444_860_123_456,
            level: Level::INFO,
            module: "inrush::serve",
            msg: msg.to_owned(),
            fields,
        }
    }

    fn written(form: Form, line: &Line) -> String {
        let mut out = String::new();
        form.write(line, &mut out);
        out
    }

    /// Reads a line of logfmt; anything that is not exactly `key=value key="value"…` is an error.
    fn parse_logfmt(line: &str) -> Result<Vec<(String, String)>, String> {
        let mut rest = line.strip_suffix('\n').ok_or("no line feed")?;
        let mut pairs = Vec::new();
        loop {
            let (key, behind) = rest.split_once('=').ok_or_else(|| format!("no pair: {rest}"))?;
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                return Err(format!("no key: {key:?}"));
            }
            let (value, behind) = if behind.starts_with('"') {
                let mut stream = serde_json::Deserializer::from_str(behind).into_iter::<String>();
                let value = stream.next().ok_or("no value")?.map_err(|error| error.to_string())?;
                (value, &behind[stream.byte_offset()..])
            } else {
                let end = behind.find(' ').unwrap_or(behind.len());
                let value = &behind[..end];
                if value.is_empty() || value.contains(['"', '=', '\\']) {
                    return Err(format!("a value that needs quotes: {value:?}"));
                }
                (value.to_owned(), &behind[end..])
            };
            pairs.push((key.to_owned(), value));
            match behind.strip_prefix(' ') {
                Some(behind) => rest = behind,
                None if behind.is_empty() => return Ok(pairs),
                None => return Err(format!("no space: {behind:?}")),
            }
        }
    }

    #[test]
    fn one_line_in_each_form() {
        let line = line(
            "session ended",
            vec![
                ("to", Value::List(vec!["<a@b.example>".to_owned(), "<c d@b.example>".to_owned()])),
                ("delay", Value::Seconds(1_000_042)),
                ("delays", Value::SecondsList(vec![0, 1_500_000])),
                ("refused", Value::Counts(vec![("user_unknown", 2), ("tls_required", 1)])),
                ("nrcpt", Value::Unsigned(2)),
                ("held", Value::Switch(true)),
            ],
        );
        let text = written(Form::Text { colour: false }, &line);
        let at = "2026-11-23T14:41:00.123456Z";
        let facts = "to=\"<a@b.example>,<c d@b.example>\" delay=1.000042 delays=0.000000/1.500000 refused=user_unknown:2,tls_required:1 nrcpt=2 held=true";
        assert_eq!(text, format!("{at}  INFO session ended {facts}\n"));
        let logfmt = written(Form::Logfmt, &line);
        assert_eq!(
            logfmt,
            format!("time={at} level=info module=inrush::serve msg=\"session ended\" {facts}\n")
        );
        let json: serde_json::Value = serde_json::from_str(&written(Form::Json, &line)).expect("JSON");
        let expected = serde_json::json!({
            "time": at, "level": "info", "module": "inrush::serve", "msg": "session ended",
            "to": ["<a@b.example>", "<c d@b.example>"], "delay": 1.000_042, "delays": "0.000000/1.500000",
            "refused": { "user_unknown": 2, "tls_required": 1 }, "nrcpt": 2, "held": true,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn colours_are_for_terminals() {
        let line = line("x", Vec::new());
        assert!(written(Form::Text { colour: true }, &line).contains("\x1b[32m INFO\x1b[0m x"));
        assert!(written(Form::Json, &line).ends_with("\"msg\":\"x\"}\n"));
    }

    proptest! {
        #[test]
        fn nothing_of_a_peer_breaks_a_line(
            msg in any::<String>(),
            octets in proptest::collection::vec(any::<u8>(), 0..64),
            list in proptest::collection::vec(any::<String>(), 0..4),
            number in any::<f64>(),
        ) {
            let helo = crate::line::text_of(&octets);
            let line = line(&msg, vec![
                ("helo", Value::Text(helo.clone())),
                ("to", Value::List(list.clone())),
                ("load", Value::Float(number)),
            ]);
            for form in [Form::Text { colour: false }, Form::Logfmt, Form::Json] {
                let written = written(form, &line);
                let body = written.strip_suffix('\n').expect("a line feed");
                prop_assert!(body.chars().all(is_plain), "{:?}: {:?}", form, body);
            }
            let pairs = parse_logfmt(&written(Form::Logfmt, &line)).expect("logfmt");
            prop_assert_eq!(&pairs[3].1, &msg);
            prop_assert_eq!(&pairs[4].1, &helo);
            let json: serde_json::Value = serde_json::from_str(&written(Form::Json, &line)).expect("JSON");
            prop_assert_eq!(&json["msg"], &msg);
            prop_assert_eq!(&json["helo"], &helo);
            prop_assert_eq!(&json["to"], &serde_json::json!(list));
        }
    }
}
