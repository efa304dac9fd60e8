//! Texts of others in quotes: nothing that a terminal, a reader of lines or a parser obeys is left in them.

/// Whether a character may stand as itself: no control character of C0 or C1, no line or paragraph separator, nothing that turns the direction
/// of the text around it.
pub(crate) fn is_plain(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    !c.is_control() && !turns
}

/// `text` as a string of JSON (RFC 8259 §7), with its quotes. The same is a quoted value of logfmt.
pub(crate) fn quoted(out: &mut String, text: &str) {
    out.push('"');
    escaped(out, text, true);
    out.push('"');
}

/// `text` with what is not plain as an escape of JSON; quotes and backslashes as well where it stands `in_quotes`.
pub(crate) fn escaped(out: &mut String, text: &str, in_quotes: bool) {
    for c in text.chars() {
        match c {
            '"' | '\\' if in_quotes => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_plain(c) => out.push(c),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let digits = b"0123456789abcdef";
                    out.push_str("\\u");
                    out.extend(
                        [12, 8, 4, 0].map(|shift| char::from(digits[usize::from(*unit >> shift & 15)])),
                    );
                }
            }
        }
    }
}

/// Whether a value of logfmt needs quotes.
pub(crate) fn needs_quotes(text: &str) -> bool {
    text.is_empty() || !text.chars().all(|c| is_plain(c) && !matches!(c, ' ' | '"' | '=' | '\\'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        let mut out = String::new();
        quoted(&mut out, "a\r\nb\u{1b}[2J\u{85}\u{9b}c\u{202e}\"\\\u{7f}\u{e000}\u{1f600}");
        assert_eq!(out, "\"a\\r\\nb\\u001b[2J\\u0085\\u009bc\\u202e\\\"\\\\\\u007f\u{e000}\u{1f600}\"");
        assert!(needs_quotes("") && needs_quotes("a b") && needs_quotes("a=b") && needs_quotes("\u{85}"));
        assert!(!needs_quotes("<a@b.example>,ü"));
    }

    proptest! {
        #[test]
        fn quoted_texts_are_json_of_the_same(text in any::<String>()) {
            let mut out = String::new();
            quoted(&mut out, &text);
            prop_assert!(out.chars().all(is_plain), "{out:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
        }
    }
}
