//! Fields and paragraphs as lines that end in CRLF.
//!
//! Text comes in one line, free of control characters ([`clean`](super::clean)). It is folded at its own spaces, so that unfolding gives
//! back what went in; only a word that no line can hold is broken. No line consists of spaces alone, since some readers take such a
//! line for the end of a header section.
//!
//! Standards: RFC 5322 §2.1.1 (78 and 998 octets), §2.2.3 (folding).

/// RFC 5322 §2.1.1: lines should not be longer, without their end.
const LINE_OCTETS: usize = 78;
/// A word is broken here. RFC 5322 §2.1.1 allows lines of 998 octets; the name of a field and its indent need some.
const WORD_OCTETS_MAX: usize = 900;

/// Appends `name: value` CRLF. The first word stays beside the name.
pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(!value.contains(['\r', '\n']), "cleaned before");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let mut column = name.len() + 2;
    let mut is_first = true;
    let mut rest = value;
    while !rest.is_empty() {
        let (spaces, word, behind) = next_word(rest);
        if !is_first && !word.is_empty() && column + spaces.len() + word.len() > LINE_OCTETS {
            out.extend_from_slice(b"\r\n");
            column = 0;
        }
        out.extend_from_slice(spaces.as_bytes());
        column = column + spaces.len() + put_word(out, word, " ");
        is_first = false;
        rest = behind;
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `text` in lines that begin with `indent`; a text without words gives none.
pub(super) fn paragraph(out: &mut Vec<u8>, indent: &str, text: &str) {
    let mut column = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if column > 0 && column + 1 + word.len() <= LINE_OCTETS {
            out.push(b' ');
            column += 1;
        } else {
            if column > 0 {
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(indent.as_bytes());
            column = indent.len();
        }
        column += put_word(out, word, indent);
    }
    if column > 0 {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a line that is not folded.
pub(super) fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a word, broken where it is too long for any line; gives back the octets behind the last line end.
fn put_word(out: &mut Vec<u8>, word: &str, indent: &str) -> usize {
    let mut rest = word;
    let mut broken = 0;
    while rest.len() > WORD_OCTETS_MAX {
        let end = rest.floor_char_boundary(WORD_OCTETS_MAX);
        out.extend_from_slice(&rest.as_bytes()[..end]);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(indent.as_bytes());
        broken = indent.len();
        rest = &rest[end..];
    }
    out.extend_from_slice(rest.as_bytes());
    broken + rest.len()
}

/// The spaces at the front of a text, the word behind them, and what follows.
fn next_word(text: &str) -> (&str, &str, &str) {
    let (spaces, rest) = text.split_at(text.len() - text.trim_start_matches(' ').len());
    let (word, behind) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
    (spaces, word, behind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// RFC 5322 §2.2.3
    #[test]
    fn a_field_unfolds_to_what_it_was() {
        let long = "word ".repeat(60);
        for value in ["", "a", "a b", "a  b ", &long, &format!("a {} b", "x".repeat(200))] {
            let folded = text(|out| field(out, "Name", value));
            let body = folded.strip_suffix("\r\n").unwrap();
            assert_eq!(body.replace("\r\n", ""), format!("Name: {value}"));
            for (number, part) in body.split("\r\n").enumerate() {
                assert!(part.len() <= LINE_OCTETS || part.len() >= 200, "{folded}");
                assert!(number == 0 || part.starts_with(' ') && !part.trim().is_empty(), "{folded}");
            }
        }
    }

    /// RFC 5322 §2.1.1
    #[test]
    fn no_line_is_too_long() {
        let value = "ü".repeat(3000);
        for written in [text(|out| field(out, "Name", &value)), text(|out| paragraph(out, "      ", &value))]
        {
            assert!(written.split("\r\n").all(|line| line.len() <= 998), "{written}");
            assert_eq!(written.matches('ü').count(), 3000);
        }
    }

    #[test]
    fn paragraphs() {
        assert_eq!(text(|out| paragraph(out, "  ", "")), "");
        assert_eq!(text(|out| paragraph(out, "  ", "a  b")), "  a b\r\n");
        let written = text(|out| paragraph(out, "  ", &"abcd ".repeat(40)));
        assert_eq!(written.lines().count(), 3);
        assert!(written.lines().all(|line| line.starts_with("  abcd") && line.len() <= LINE_OCTETS));
    }
}
