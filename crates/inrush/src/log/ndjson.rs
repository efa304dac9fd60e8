//! One JSON object a line for each message: everything the envelope says, and the mail data as base64.

use std::io::{self, Write};

use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use inrush_log::{
    BodyFindings, BodyType, Envelope, EnvelopeRecipient, PhaseTimes, Protocol, ReadError, Ret,
    attribute_kind, notify, received,
};
use serde_json::{Map, Value, json};

use super::mail::Mail;
use super::time::rfc3339;

/// Writes a message with its line end.
pub(super) fn write(mail: &mut Mail<'_>, out: &mut impl Write) -> Result<(), ReadError> {
    let facts = facts(mail);
    let text = serde_json::to_string(&facts).map_err(io::Error::from)?;
    // The mail data comes last and in parts: it may be larger than what one wants in memory.
    out.write_all(text.strip_suffix('}').unwrap_or(&text).as_bytes())?;
    out.write_all(b",\"data\":\"")?;
    let mut encoder = EncoderWriter::new(&mut *out, &STANDARD);
    mail.read_body(|part| encoder.write_all(part))?;
    encoder.finish()?;
    drop(encoder);
    out.write_all(b"\"}\n")?;
    Ok(())
}

/// Everything but the mail data. Names and meanings stay as they are; new ones may come.
fn facts(mail: &Mail<'_>) -> Value {
    let envelope = &mail.envelope;
    let mut trace = Vec::with_capacity(512);
    received(envelope, mail.id, mail.header.accepted_at_us, &mut trace);
    json!({
        "id": mail.id.to_string(),
        "accepted_at": rfc3339(mail.header.accepted_at_us),
        "octets": mail.body_octets(),
        "reverse_path": text(envelope.reverse_path()),
        "recipients": envelope.recipients().map(|recipient| recipient_facts(&recipient)).collect::<Vec<_>>(),
        "hostname": text(envelope.hostname()),
        "listener": text(envelope.listener()),
        "peer": envelope.peer().map(|peer| peer.to_string()),
        "peer_name": envelope.peer_name().map(text),
        "local": envelope.local().map(|local| local.to_string()),
        "proxy": envelope.proxy().map(|proxy| proxy.to_string()),
        "protocol": protocol(envelope.protocol()),
        "transfer": if envelope.bdat() { "BDAT" } else { "DATA" },
        "helo": text(envelope.helo()),
        "size_declared": envelope.size_declared(),
        "body_type": match envelope.body_type() {
            BodyType::Unspecified => None,
            BodyType::SevenBit => Some("7BIT"),
            BodyType::EightBitMime => Some("8BITMIME"),
            BodyType::BinaryMime => Some("BINARYMIME"),
        },
        "smtputf8": envelope.smtputf8(),
        "requiretls": envelope.requiretls(),
        "ret": match envelope.ret() {
            Ret::Unspecified => None,
            Ret::Full => Some("FULL"),
            Ret::Headers => Some("HDRS"),
        },
        "envid": envelope.envid().map(text),
        "tls": envelope.tls_version().map(|version| json!({
            "version": text(version),
            "cipher": envelope.tls_cipher().map(text),
            "sni": envelope.tls_sni().map(text),
            "client": envelope.tls_client().map(text),
        })),
        "auth": envelope.auth_identity().map(|identity| json!({
            "identity": text(identity),
            "mechanism": envelope.auth_mechanism().map(text),
        })),
        "session": envelope.session(),
        "transaction": envelope.transaction(),
        "times": times(&envelope.times()),
        "findings": findings(&envelope.findings()),
        "attributes": attributes(envelope),
        "received": text(&trace),
    })
}

/// Text of a remote host: nearly always UTF-8; any other octets are `{"base64": …}`.
fn text(octets: &[u8]) -> Value {
    use base64::Engine as _;
    match std::str::from_utf8(octets) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "base64": STANDARD.encode(octets) }),
    }
}

fn recipient_facts(recipient: &EnvelopeRecipient<'_>) -> Value {
    let words = [
        (notify::NEVER, "NEVER"),
        (notify::SUCCESS, "SUCCESS"),
        (notify::FAILURE, "FAILURE"),
        (notify::DELAY, "DELAY"),
    ];
    let asked: Vec<&str> =
        words.iter().filter(|(bit, _)| recipient.notify & bit != 0).map(|(_, word)| *word).collect();
    json!({ "path": text(recipient.path), "orcpt": recipient.orcpt.map(text), "notify": asked })
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

fn times(times: &PhaseTimes) -> Value {
    let phases = [
        ("connected", times.connected_us),
        ("tls", times.tls_us),
        ("helo", times.helo_us),
        ("auth", times.auth_us),
        ("mail", times.mail_us),
        ("rcpt", times.rcpt_us),
        ("data_first", times.data_first_us),
        ("data_last", times.data_last_us),
    ];
    // 0 = did not happen.
    let shown = phases.map(|(name, at)| (name.to_owned(), (at > 0).then(|| rfc3339(at)).into()));
    Value::Object(Map::from_iter(shown))
}

fn findings(findings: &BodyFindings) -> Value {
    json!({
        "octets_received": findings.octets_received,
        "lines": findings.lines,
        "dot_lines": findings.dot_lines,
        "longest_line": findings.longest_line,
        "header_octets": findings.header_octets,
        "received_count": findings.received_count,
        "bare_cr": findings.bare_cr,
        "bare_lf": findings.bare_lf,
        "nul": findings.nul,
        "eight_bit": findings.eight_bit,
        "ends_with_crlf": findings.ends_with_crlf,
        "normalized": findings.normalized,
    })
}

fn attributes(envelope: &Envelope<'_>) -> Vec<Value> {
    let facts = envelope.attributes().map(|attribute| {
        let kind = match attribute.kind {
            attribute_kind::PARAMETER => "parameter",
            attribute_kind::VERDICT => "verdict",
            attribute_kind::NOTE => "note",
            _ => "other",
        };
        json!({
            "recipient": attribute.recipient,
            "kind": kind,
            "name": text(attribute.name),
            "value": attribute.value.map(text),
        })
    });
    facts.collect()
}
