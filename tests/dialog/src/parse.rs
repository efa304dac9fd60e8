//! From text to script.

use std::error::Error;
use std::fmt;

use crate::{Expectation, Message, Script, Step, Storage, Verdict};

/// A line that is not part of the format.
#[derive(Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Name of the script.
    pub script: String,
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.smtp, line {}: {}", self.script, self.line, self.fault)
    }
}

impl Error for ParseError {}

pub(crate) fn script(name: &str, text: &str) -> Result<Script, ParseError> {
    let mut script = Script { name: name.to_owned(), ..Script::default() };
    for (index, line) in text.lines().enumerate() {
        let done = if index == 0 { title(&mut script, line) } else { self::line(&mut script, line) };
        done.map_err(|fault| ParseError { script: name.to_owned(), line: index + 1, fault })?;
    }
    Ok(script)
}

/// `# path  section`: the path ends in the name of the script.
fn title(script: &mut Script, line: &str) -> Result<(), &'static str> {
    let (path, section) = line
        .strip_prefix("# ")
        .and_then(|rest| rest.split_once(' '))
        .ok_or("the first line is not `# path  section`")?;
    if path != format!("tests/dialogs/{}.smtp", script.name) {
        return Err("the path in the first line is not the path of the script");
    }
    section.trim().clone_into(&mut script.section);
    let of_an_rfc = script.section.starts_with("RFC ") && script.section.contains('§');
    // XCLIENT has no other standard.
    if !of_an_rfc && script.section != "XCLIENT_README" {
        return Err("the first line names no section");
    }
    Ok(())
}

fn line(script: &mut Script, line: &str) -> Result<(), &'static str> {
    if let Some(comment) = line.strip_prefix('#') {
        return header(script, comment.trim());
    }
    if line.is_empty() {
        return Ok(());
    }
    let (mark, text) = line.split_at_checked(2).ok_or("too short")?;
    let text = text.strip_prefix(' ').unwrap_or(text);
    match mark {
        "C:" | "C|" | "C*" => {
            let octets = octets(mark, text)?;
            if let Some(Step::Send(last)) = script.steps.last_mut() {
                last.extend_from_slice(&octets);
            } else {
                script.steps.push(Step::Send(octets));
            }
        }
        "B:" | "B|" | "B*" => {
            let message = script.messages.last_mut().ok_or("a body without a message")?;
            message.body.get_or_insert_default().extend(octets(mark, text)?);
        }
        "S:" => expect(script, text),
        "S*" => {
            let (times, text) = text.split_once(' ').ok_or("no text to repeat")?;
            for _ in 0..times.parse().map_err(|_| "not a number")? {
                script.steps.push(Step::Expect(Expectation::Lines(vec![text.to_owned()])));
            }
        }
        "M:" => {
            let text = String::from_utf8(unescape(text)?).map_err(|_| "not UTF-8")?;
            let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
            let mut paths = inner.ok_or("paths without brackets")?.split("> <").map(str::to_owned);
            let reverse_path = paths.next().unwrap_or_default();
            let recipients = paths.collect();
            script.messages.push(Message { reverse_path, recipients, ..Message::default() });
        }
        "P:" => {
            let message = script.messages.last_mut().ok_or("a property without a message")?;
            message.properties.extend(pairs(text)?);
        }
        "T:" if text == "handshake" => script.steps.push(Step::Handshake),
        "X:" if text == "closed" => script.closes = true,
        _ => return Err("unknown mark"),
    }
    Ok(())
}

fn expect(script: &mut Script, text: &str) {
    // A line with a hyphen goes on in the next one.
    if let Some(Step::Expect(Expectation::Lines(lines))) = script.steps.last_mut()
        && lines.last().is_some_and(|last| last.as_bytes().get(3) == Some(&b'-'))
    {
        lines.push(text.to_owned());
    } else {
        script.steps.push(Step::Expect(Expectation::Lines(vec![text.to_owned()])));
    }
}

fn header(script: &mut Script, comment: &str) -> Result<(), &'static str> {
    let Some((name, value)) = comment.split_once(": ") else { return Ok(()) };
    match name {
        "start" => start(script, value)?,
        "settings" => script.settings.extend(pairs(value)?),
        "recipients" => {
            for item in value.split(", ") {
                let (address, verdict) = item.split_once(' ').ok_or("a recipient without a verdict")?;
                let verdict = match verdict {
                    "ok" => Verdict::Ok,
                    "unknown" => Verdict::Unknown,
                    "relay" => Verdict::Relay,
                    "routed" => Verdict::Routed,
                    "later" => Verdict::Later,
                    _ => return Err("unknown verdict"),
                };
                script.recipients.push((address.to_owned(), verdict));
            }
        }
        "storage" => {
            for word in value.split(", ") {
                script.storage.push(match word {
                    "ok" => Storage::Ok,
                    "full" => Storage::Full,
                    "pending" => Storage::Pending,
                    "too-large" => Storage::TooLarge,
                    "hung" => Storage::Hung,
                    "error" => Storage::Error,
                    "lost" => Storage::Lost,
                    _ => return Err("unknown outcome"),
                });
            }
        }
        _ => {}
    }
    Ok(())
}

fn start(script: &mut Script, point: &str) -> Result<(), &'static str> {
    const COMMANDS: [(&str, &str); 4] = [
        ("ehlo", "EHLO client.example"),
        ("mail", "MAIL FROM:<sender@one.example>"),
        ("rcpt", "RCPT TO:<a@two.example>"),
        ("data", "DATA"),
    ];
    let last = COMMANDS.iter().position(|(name, _)| *name == point).ok_or("unknown start")?;
    script.steps.push(Step::Expect(Expectation::Class(b'2')));
    for (name, command) in &COMMANDS[..=last] {
        script.steps.push(Step::Send(format!("{command}\r\n").into_bytes()));
        script.steps.push(Step::Expect(Expectation::Class(if *name == "data" { b'3' } else { b'2' })));
    }
    Ok(())
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split_whitespace().map(pair).collect::<Option<_>>().ok_or("not name=value")
}

fn octets(mark: &str, text: &str) -> Result<Vec<u8>, &'static str> {
    match mark.as_bytes()[1] {
        b':' => Ok([unescape(text)?.as_slice(), b"\r\n"].concat()),
        b'|' => unescape(text),
        _ => {
            let (times, text) = text.split_once(' ').ok_or("no text to repeat")?;
            let times: usize = times.parse().map_err(|_| "not a number")?;
            Ok(unescape(text)?.repeat(times))
        }
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        octets.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [rest.next().unwrap_or(b' '), rest.next().unwrap_or(b' ')];
                let digits = std::str::from_utf8(&digits).map_err(|_| "bad escape")?;
                u8::from_str_radix(digits, 16).map_err(|_| "bad escape")?
            }
            _ => return Err("bad escape"),
        });
    }
    Ok(octets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a script of the test that does not parse is a failure of the test")]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<Script, ParseError> {
        script("a", &format!("# tests/dialogs/a.smtp  RFC 5321 §1\n{rest}"))
    }

    #[test]
    fn everything_at_once() {
        let script = parse(concat!(
            "# start: ehlo\n# a comment: without meaning\n# settings: errors_max=3 bare_newline=allow\n",
            "# recipients: a@b ok, c@d unknown\n# storage: ok, full\n",
            "C: one\\\\\nC| two\\r\nC* 3 x\\x00\n\nS: 250-a\nS: 250 b\nS: 221 ~\n",
            "M: <> <a@b> <c@d>\nB: x\nB| y\nP: smtputf8=yes\nX: closed\n"
        ))
        .unwrap();
        assert_eq!(script.section, "RFC 5321 §1");
        assert_eq!(script.steps.len(), 3 + 3);
        assert_eq!(script.steps[3], Step::Send(b"one\\\r\ntwo\rx\0x\0x\0".to_vec()));
        let lines = |lines: &[&str]| Expectation::Lines(lines.iter().map(|&line| line.to_owned()).collect());
        assert_eq!(script.steps[4], Step::Expect(lines(&["250-a", "250 b"])));
        assert_eq!(script.steps[5], Step::Expect(lines(&["221 ~"])));
        assert_eq!(script.messages[0].recipients, ["a@b", "c@d"]);
        assert_eq!(script.messages[0].body.as_deref(), Some(&b"x\r\ny"[..]));
        assert_eq!(script.verdict("c@d"), Verdict::Unknown);
        assert_eq!((script.storage(0), script.storage(5)), (Storage::Ok, Storage::Full));
        assert!(script.closes);
        assert_eq!(script.settings.len(), 2);
    }

    #[test]
    fn faults_name_their_line() {
        for rest in [
            "Q: x",
            "C",
            "C: \\q",
            "C: \\x0",
            "C* x y",
            "C* 3",
            "S* x y",
            "B: x",
            "P: a=b",
            "M: a",
            "X: open",
            "T: x",
            "# start: x",
            "# settings: a",
            "# recipients: a",
            "# recipients: a b",
            "# storage: x",
        ] {
            assert_eq!(parse(rest).unwrap_err().line, 2, "{rest}");
        }
        assert_eq!(script("a", "# tests/dialogs/b.smtp  RFC 5321 §1").unwrap_err().line, 1);
        assert_eq!(script("a", "# tests/dialogs/a.smtp  none").unwrap_err().line, 1);
    }
}
