//! The parameters of RFC 3461 as a relay hands them on with MAIL and RCPT.
//!
//! Called only when the next hop offers DSN. What came as xtext goes on as xtext, unchanged, once it has been seen to be xtext; anything
//! else is left out, since a refused command would cost the message and not only its reports.
//!
//! Standards: RFC 3461 §4.1–§4.4 (syntax), §5.2.1 (what is handed on); RFC 6533 §3 (ORCPT of type `utf-8`).

use super::Return;
use super::notify::Notify;
use super::xtext::{self, OriginalRecipient};

/// Appends `RET=HDRS ENVID=QQ314159`, or what there is of it, ready to send and without a leading space.
pub fn write_mail_parameters(out: &mut Vec<u8>, ret: Return, envid: Option<&[u8]>) {
    match ret {
        Return::Unspecified => {}
        Return::Full => word(out, "RET=FULL"),
        Return::Headers => word(out, "RET=HDRS"),
    }
    // RFC 3461 §5.2.1: ENVID is handed on as it came.
    if let Some(envid) = envid.filter(|envid| xtext::envelope_id(envid).is_some()) {
        word(out, "ENVID=");
        out.extend_from_slice(envid);
    }
}

/// Appends `NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;user@example.com`, or what there is of it, ready to send and without a leading space.
///
/// `smtputf8`: MAIL carries SMTPUTF8 in this transaction. Without it an ORCPT of type `utf-8` is written in US-ASCII.
/// An ORCPT that the sender did not give is not made up (RFC 3461 §5.2.1 leaves that to us).
pub fn write_rcpt_parameters(out: &mut Vec<u8>, notify: Notify, orcpt: Option<&[u8]>, smtputf8: bool) {
    if notify != Notify::UNSPECIFIED {
        word(out, "NOTIFY=");
        let names = [
            (Notify::NEVER, "NEVER"),
            (Notify::SUCCESS, "SUCCESS"),
            (Notify::FAILURE, "FAILURE"),
            (Notify::DELAY, "DELAY"),
        ];
        let mut given = names.iter().filter(|(member, _)| notify.contains(*member));
        if let Some((_, name)) = given.next() {
            out.extend_from_slice(name.as_bytes());
        }
        for (_, name) in given {
            out.push(b',');
            out.extend_from_slice(name.as_bytes());
        }
    }
    let Some(orcpt) = orcpt else { return };
    let Some(original) = OriginalRecipient::decode(orcpt) else { return };
    word(out, "ORCPT=");
    if orcpt.is_ascii() || smtputf8 {
        out.extend_from_slice(orcpt);
    } else {
        // RFC 6533 §3: UTF-8 may stand in ORCPT only under SMTPUTF8.
        out.extend_from_slice(original.address_type.as_bytes());
        out.push(b';');
        out.extend_from_slice(xtext::encode_utf8(&original.address).as_bytes());
    }
}

/// Begins a parameter.
fn word(out: &mut Vec<u8>, text: &str) {
    if !out.is_empty() {
        out.push(b' ');
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn mail(ret: Return, envid: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write_mail_parameters(&mut out, ret, envid);
        String::from_utf8(out).unwrap()
    }

    fn rcpt(bits: u8, orcpt: Option<&str>, smtputf8: bool) -> String {
        let mut out = Vec::new();
        write_rcpt_parameters(&mut out, Notify::from_bits(bits), orcpt.map(str::as_bytes), smtputf8);
        String::from_utf8(out).unwrap()
    }

    /// RFC 3461 §4.3, §4.4
    #[test]
    fn of_mail() {
        assert_eq!(mail(Return::Unspecified, None), "");
        assert_eq!(mail(Return::Full, None), "RET=FULL");
        assert_eq!(mail(Return::Headers, Some(b"a+2Bb")), "RET=HDRS ENVID=a+2Bb");
        for bad in [&b""[..], b"a b", b"a+0A", b"a\r\nRSET"] {
            assert_eq!(mail(Return::Unspecified, Some(bad)), "");
        }
    }

    /// RFC 3461 §4.1, §4.2
    #[test]
    fn of_rcpt() {
        assert_eq!(rcpt(0, None, false), "");
        assert_eq!(rcpt(1, None, false), "NOTIFY=NEVER");
        assert_eq!(rcpt(14, None, false), "NOTIFY=SUCCESS,FAILURE,DELAY");
        assert_eq!(rcpt(6, Some("rfc822;a+2Bb@c"), false), "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@c");
        assert_eq!(rcpt(0, Some("rfc822;a b@c"), false), "");
        assert_eq!(rcpt(8, Some("a@c\r\nDATA"), false), "NOTIFY=DELAY");
    }

    /// RFC 6533 §3
    #[test]
    fn utf8_needs_smtputf8() {
        assert_eq!(rcpt(0, Some("utf-8;用@c"), true), "ORCPT=utf-8;用@c");
        assert_eq!(rcpt(0, Some("utf-8;用@c"), false), "ORCPT=utf-8;\\x{7528}@c");
        assert_eq!(rcpt(0, Some("utf-8;\\x{7528}@c"), true), "ORCPT=utf-8;\\x{7528}@c");
    }
}
