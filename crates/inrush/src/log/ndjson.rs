//! One JSON object a line for each message: everything the envelope says, and the mail data as base64.

use std::io::{self, Write};

use base64_simd::STANDARD;
use inrush_log::{
    BodyFindings, BodyType, Envelope, PhaseTimes, Protocol, ReadError, Ret, attribute_kind, notify, prepended,
};
use serde::{Serialize, Serializer};

use super::mail::Mail;
use super::time::LastSecond;

/// Writes messages, with room that is used again for each.
pub(super) struct Ndjson<W> {
    out: W,
    trace: Vec<u8>,
    line: Vec<u8>,
    data: Base64,
    time: LastSecond,
}

impl<W: Write> Ndjson<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            trace: Vec::new(),
            line: Vec::new(),
            data: Base64::default(),
            time: LastSecond::default(),
        }
    }

    /// What is written to.
    pub(super) fn get_ref(&self) -> &W {
        &self.out
    }

    /// What was written to.
    pub(super) fn into_inner(self) -> W {
        self.out
    }

    /// Writes a message with its line end.
    pub(super) fn write(&mut self, mail: &mut Mail<'_>) -> Result<(), ReadError> {
        let Self { out, trace, line, data, time } = self;
        trace.clear();
        prepended(&mail.envelope, mail.id, mail.header.accepted_at_us, trace);
        line.clear();
        serde_json::to_writer(&mut *line, &Facts::new(mail, trace, time)).map_err(io::Error::from)?;
        // The mail data comes last and in parts: it may be larger than what one wants in memory.
        out.write_all(line.strip_suffix(b"}").unwrap_or(line))?;
        out.write_all(b",\"data\":\"")?;
        data.clear();
        mail.read_body(|part| data.write(part, out))?;
        data.end(out)?;
        out.write_all(b"\"}\n")?;
        Ok(())
    }
}

/// Base64 of octets that come in parts of any length.
#[derive(Default)]
struct Base64 {
    /// What is left of the parts before: fewer than three.
    rest: Vec<u8>,
    encoded: Vec<u8>,
}

impl Base64 {
    /// Forgets what a message has left that came to no end.
    fn clear(&mut self) {
        self.rest.clear();
    }

    fn write(&mut self, part: &[u8], out: &mut impl Write) -> io::Result<()> {
        self.encoded.clear();
        let missing = (3 - self.rest.len() % 3) % 3;
        let (first, part) = part.split_at(part.len().min(missing));
        self.rest.extend_from_slice(first);
        if self.rest.len() == 3 {
            STANDARD.encode_append(&self.rest, &mut self.encoded);
            self.rest.clear();
        }
        let (whole, rest) = part.split_at(part.len() / 3 * 3);
        STANDARD.encode_append(whole, &mut self.encoded);
        self.rest.extend_from_slice(rest);
        out.write_all(&self.encoded)
    }

    fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.encoded.clear();
        STANDARD.encode_append(&self.rest, &mut self.encoded);
        self.rest.clear();
        out.write_all(&self.encoded)
    }
}

/// Everything but the mail data. Names and meanings stay as they are; new ones may come.
#[derive(Serialize)]
struct Facts<'a> {
    id: String,
    accepted_at: String,
    octets: u64,
    reverse_path: Text<'a>,
    recipients: Vec<RecipientFacts<'a>>,
    hostname: Text<'a>,
    listener: Text<'a>,
    peer: Option<String>,
    peer_name: Option<Text<'a>>,
    local: Option<String>,
    proxy: Option<String>,
    protocol: &'static str,
    transfer: &'static str,
    helo: Text<'a>,
    size_declared: Option<u64>,
    body_type: Option<&'static str>,
    smtputf8: bool,
    requiretls: bool,
    ret: Option<&'static str>,
    envid: Option<Text<'a>>,
    tls: Option<Tls<'a>>,
    auth: Option<Auth<'a>>,
    session: u64,
    transaction: u32,
    times: Times,
    findings: Findings,
    attributes: Vec<AttributeFacts<'a>>,
    received: Text<'a>,
}

#[derive(Serialize)]
struct Tls<'a> {
    version: Text<'a>,
    cipher: Option<Text<'a>>,
    sni: Option<Text<'a>>,
    client: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Auth<'a> {
    identity: Text<'a>,
    mechanism: Option<Text<'a>>,
}

impl<'a> Facts<'a> {
    fn new(mail: &'a Mail<'_>, trace: &'a [u8], time: &mut LastSecond) -> Self {
        let envelope = &mail.envelope;
        Self {
            id: mail.id.to_string(),
            accepted_at: time.rfc3339(mail.header.accepted_at_us),
            octets: mail.body_octets(),
            reverse_path: Text(envelope.reverse_path()),
            recipients: recipients(envelope),
            hostname: Text(envelope.hostname()),
            listener: Text(envelope.listener()),
            peer: envelope.peer().map(|peer| peer.to_string()),
            peer_name: envelope.peer_name().map(Text),
            local: envelope.local().map(|local| local.to_string()),
            proxy: envelope.proxy().map(|proxy| proxy.to_string()),
            protocol: protocol(envelope.protocol()),
            transfer: if envelope.bdat() { "BDAT" } else { "DATA" },
            helo: Text(envelope.helo()),
            size_declared: envelope.size_declared(),
            body_type: match envelope.body_type() {
                BodyType::Unspecified => None,
                BodyType::SevenBit => Some("7BIT"),
                BodyType::EightBitMime => Some("8BITMIME"),
                BodyType::BinaryMime => Some("BINARYMIME"),
            },
            smtputf8: envelope.smtputf8(),
            requiretls: envelope.requiretls(),
            ret: match envelope.ret() {
                Ret::Unspecified => None,
                Ret::Full => Some("FULL"),
                Ret::Headers => Some("HDRS"),
            },
            envid: envelope.envid().map(Text),
            tls: envelope.tls_version().map(|version| Tls {
                version: Text(version),
                cipher: envelope.tls_cipher().map(Text),
                sni: envelope.tls_sni().map(Text),
                client: envelope.tls_client().map(Text),
            }),
            auth: envelope.auth_identity().map(|identity| Auth {
                identity: Text(identity),
                mechanism: envelope.auth_mechanism().map(Text),
            }),
            session: envelope.session(),
            transaction: envelope.transaction(),
            times: Times::new(&envelope.times(), time),
            findings: Findings::new(&envelope.findings()),
            attributes: attributes(envelope),
            received: Text(trace),
        }
    }
}

/// Text of a remote host: nearly always UTF-8; any other octets are `{"base64": …}`.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Encoded {
            base64: String,
        }
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Encoded { base64: STANDARD.encode_to_string(self.0) }.serialize(serializer),
        }
    }
}

#[derive(Serialize)]
struct RecipientFacts<'a> {
    path: Text<'a>,
    orcpt: Option<Text<'a>>,
    notify: Vec<&'static str>,
}

fn recipients<'a>(envelope: &'a Envelope<'_>) -> Vec<RecipientFacts<'a>> {
    let words = [
        (notify::NEVER, "NEVER"),
        (notify::SUCCESS, "SUCCESS"),
        (notify::FAILURE, "FAILURE"),
        (notify::DELAY, "DELAY"),
    ];
    let facts = envelope.recipients().map(|recipient| RecipientFacts {
        path: Text(recipient.path),
        orcpt: recipient.orcpt.map(Text),
        notify: words.iter().filter(|(bit, _)| recipient.notify & bit != 0).map(|(_, word)| *word).collect(),
    });
    facts.collect()
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Smtp => "SMTP",
        Protocol::Esmtp => "ESMTP",
        Protocol::Lmtp => "LMTP",
        Protocol::Internal => "internal",
        Protocol::Other => "other",
    }
}

#[derive(Serialize)]
struct Times {
    connected: Option<String>,
    tls: Option<String>,
    helo: Option<String>,
    auth: Option<String>,
    mail: Option<String>,
    rcpt: Option<String>,
    data_first: Option<String>,
    data_last: Option<String>,
}

impl Times {
    fn new(times: &PhaseTimes, last: &mut LastSecond) -> Self {
        // 0 = did not happen.
        let mut shown = |at: u64| (at > 0).then(|| last.rfc3339(at));
        Self {
            connected: shown(times.connected_us),
            tls: shown(times.tls_us),
            helo: shown(times.helo_us),
            auth: shown(times.auth_us),
            mail: shown(times.mail_us),
            rcpt: shown(times.rcpt_us),
            data_first: shown(times.data_first_us),
            data_last: shown(times.data_last_us),
        }
    }
}

#[derive(Serialize)]
struct Findings {
    octets_received: u64,
    lines: u64,
    dot_lines: u64,
    longest_line: u32,
    header_octets: u32,
    received_count: u32,
    bare_cr: bool,
    bare_lf: bool,
    nul: bool,
    eight_bit: bool,
    ends_with_crlf: bool,
    normalized: bool,
}

impl Findings {
    fn new(findings: &BodyFindings) -> Self {
        Self {
            octets_received: findings.octets_received,
            lines: findings.lines,
            dot_lines: findings.dot_lines,
            longest_line: findings.longest_line,
            header_octets: findings.header_octets,
            received_count: findings.received_count,
            bare_cr: findings.bare_cr,
            bare_lf: findings.bare_lf,
            nul: findings.nul,
            eight_bit: findings.eight_bit,
            ends_with_crlf: findings.ends_with_crlf,
            normalized: findings.normalized,
        }
    }
}

#[derive(Serialize)]
struct AttributeFacts<'a> {
    recipient: Option<u32>,
    kind: &'static str,
    name: Text<'a>,
    value: Option<Text<'a>>,
}

fn attributes<'a>(envelope: &'a Envelope<'_>) -> Vec<AttributeFacts<'a>> {
    let facts = envelope.attributes().map(|attribute| AttributeFacts {
        recipient: attribute.recipient,
        kind: match attribute.kind {
            attribute_kind::PARAMETER => "parameter",
            attribute_kind::VERDICT => "verdict",
            attribute_kind::NOTE => "note",
            attribute_kind::ADDED_FIELD => "added_field",
            _ => "other",
        },
        name: Text(attribute.name),
        value: attribute.value.map(Text),
    });
    facts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_same_however_it_is_cut() {
        let octets: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for part in [1, 2, 3, 4, 5, 1000, 4999, 5000] {
            for length in [0, 1, 2, 3, 1001, octets.len()] {
                let (mut base64, mut out) = (Base64::default(), Vec::new());
                let written = octets[..length].chunks(part).try_for_each(|part| base64.write(part, &mut out));
                assert!(written.and_then(|()| base64.end(&mut out)).is_ok());
                assert!(
                    out == STANDARD.encode_to_string(&octets[..length]).into_bytes(),
                    "{length} in parts of {part}"
                );
            }
        }
    }
}
