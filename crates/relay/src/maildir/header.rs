//! The two fields that final delivery puts before a message.

/// Writes `Return-Path` and `Delivered-To`, each ended by CRLF, at the end of `out`.
///
/// `return_path` is the reverse-path without angle brackets, empty for the null one; `delivered_to` is the mailbox
/// `local@domain`. UTF-8 stays as it is (RFC 6532 §3.2). Each control character and each octet that is not UTF-8 becomes `?`,
/// so that no address can end its line, much less add a field.
///
/// RFC 5321 §4.4: final delivery puts the return path at the front of the message.
pub fn prepend(return_path: &[u8], delivered_to: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"Return-Path: <");
    push_escaped(return_path, out);
    out.extend_from_slice(b">\r\nDelivered-To: ");
    push_escaped(delivered_to, out);
    out.extend_from_slice(b"\r\n");
}

fn push_escaped(address: &[u8], out: &mut Vec<u8>) {
    for chunk in address.utf8_chunks() {
        for c in chunk.valid().chars() {
            // The two separators end a line for some who show text, though not for mail.
            let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { '?' } else { c };
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        out.extend(chunk.invalid().iter().map(|_| b'?'));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn fields(return_path: &[u8], delivered_to: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        prepend(return_path, delivered_to, &mut out);
        out
    }

    #[test]
    fn fields_of_ordinary_addresses() {
        assert_eq!(
            fields(b"ann@a.example", b"joe@b.example"),
            b"Return-Path: <ann@a.example>\r\nDelivered-To: joe@b.example\r\n"
        );
        // RFC 5321 §4.5.5: the null reverse-path.
        assert_eq!(fields(b"", b"joe@b.example"), b"Return-Path: <>\r\nDelivered-To: joe@b.example\r\n");
        let umlaut = "j\u{f6}rg@b\u{fc}cher.example";
        let text = String::from_utf8(fields(umlaut.as_bytes(), b"\"a b\"@c.example")).unwrap();
        assert_eq!(text, format!("Return-Path: <{umlaut}>\r\nDelivered-To: \"a b\"@c.example\r\n"));
    }

    #[test]
    fn hostile_octets_become_question_marks() {
        assert_eq!(
            fields(b"a\r\nBcc: x@y", b"b\0\x7f\xff\xc2\x85@c"),
            b"Return-Path: <a??Bcc: x@y>\r\nDelivered-To: b????@c\r\n"
        );
    }

    proptest! {
        #[test]
        fn there_are_always_two_lines(
            return_path in proptest::collection::vec(any::<u8>(), 0..80),
            delivered_to in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let out = fields(&return_path, &delivered_to);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(text.matches(|c: char| c.is_control()).count(), 4);
            let lines: Vec<_> = text.split("\r\n").collect();
            prop_assert_eq!(lines.len(), 3);
            prop_assert!(lines[0].starts_with("Return-Path: <") && lines[0].ends_with('>'));
            prop_assert!(lines[1].starts_with("Delivered-To: "));
            prop_assert_eq!(lines[2], "");
        }
    }
}
