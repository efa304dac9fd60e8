//! Which sequences end mail data: one. RFC 5321 §4.1.1.4, §2.3.8; CVE-2023-51764.

use inrush_scan::{Scanner, implementations};

use crate::oracle;

/// Sequences that some server has taken for the end of mail data. All are data.
const NOT_THE_END: &[&[u8]] = &[
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\n\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\0\n",
    b"\r\0\n.\r\n",
    b"\r\n..\r\n",
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n.\t\r\n",
    b"\n\r.\r\n",
    b"\r\n\xae\r\n",
    b"\r\n\x2e\x8d\x8a",
    b"\x8d\x8a.\r\n",
    b"\r\n\xff\xf4.\r\n",
    b".\r",
];

/// The text behind each sequence, which a server that was fooled would take for commands.
const BEHIND: &[u8] = b"MAIL FROM:<a@one.example>\r\n";

#[test]
fn only_crlf_dot_crlf_ends_data() {
    for implementation in implementations() {
        for sequence in NOT_THE_END {
            for before in 0..130 {
                let mut input = vec![b'a'; before];
                input.extend_from_slice(sequence);
                input.extend_from_slice(BEHIND);
                for split in 0..=input.len() {
                    let mut scanner = Scanner::new();
                    let (first, second) = input.split_at(split);
                    let name = implementation.name();
                    let case = || {
                        format!("{name}: {before} octets, then {:?}, split {split}", sequence.escape_ascii())
                    };
                    // At the start of data, ".CRLF" is the end; the sequences that begin with a dot are not that.
                    assert_eq!(implementation.scan_data(&mut scanner, first), None, "{}", case());
                    assert_eq!(implementation.scan_data(&mut scanner, second), None, "{}", case());
                    assert_eq!(scanner.findings(), oracle::findings_in(&input, false), "{}", case());
                }
            }
        }
    }
}

#[test]
fn the_true_end_is_found_behind_each_of_them() {
    for implementation in implementations() {
        for sequence in NOT_THE_END {
            let mut input = b"text".to_vec();
            input.extend_from_slice(sequence);
            input.extend_from_slice(b"\r\n.\r\n");
            let end = input.len();
            input.extend_from_slice(b"\0\xff\n\r");
            let mut scanner = Scanner::new();
            assert_eq!(
                implementation.scan_data(&mut scanner, &input),
                Some(end),
                "{:?}",
                sequence.escape_ascii()
            );
            assert_eq!(scanner.findings(), oracle::findings_in(&input[..end - 3], true));
        }
    }
}

#[test]
fn bare_line_ends_are_reported() {
    let bare = |data: &[u8]| {
        let mut scanner = Scanner::new();
        assert_eq!(scanner.scan_data(data), None);
        (scanner.findings().bare_cr, scanner.findings().bare_lf)
    };
    assert_eq!(bare(b"a\r\nb\r\n"), (false, false));
    assert_eq!(bare(b"a\rb"), (true, false));
    assert_eq!(bare(b"a\nb"), (false, true));
    assert_eq!(bare(b"\n"), (false, true));
    assert_eq!(bare(b"a\n\rb"), (true, true));
    assert_eq!(bare(b"a\r\r\nb"), (true, false));
    assert_eq!(bare(b"a\r\n\nb"), (false, true));
    assert_eq!(bare(b"a\r"), (false, false));
}
