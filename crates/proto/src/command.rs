//! Command lines: where one ends, what is wrong with it, which verb it begins with.
//!
//! A line ends with CRLF and nothing else (RFC 5321 §2.3.8). A bare LF ends no command but is where the damage is cut off:
//! the octets up to it are refused as one line and never executed, with a reply at once, since a client that ends its lines
//! so waits for one. What follows is the next line: a lone LF in front of a command costs one more reply, a 500. A line with
//! a bare CR in it is refused whole.
//!
//! Nothing here allocates; a line is looked at once for its LF and once for its forbidden octets.
//!
//! Standards: RFC 5321 §2.3.8, §2.4 (case), §4.1.1 (commands, trailing white space), §4.5.3.1.4 (length).

/// The verb of a command, also as the label of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verb {
    /// RFC 5321 §4.1.1.1
    Helo,
    /// RFC 5321 §4.1.1.1
    Ehlo,
    /// RFC 5321 §4.1.1.2
    Mail,
    /// RFC 5321 §4.1.1.3
    Rcpt,
    /// RFC 5321 §4.1.1.4
    Data,
    /// RFC 3030 §2
    Bdat,
    /// RFC 5321 §4.1.1.5
    Rset,
    /// RFC 5321 §4.1.1.9
    Noop,
    /// RFC 5321 §4.1.1.6
    Vrfy,
    /// RFC 5321 §4.1.1.7
    Expn,
    /// RFC 5321 §4.1.1.8
    Help,
    /// RFC 5321 §4.1.1.10
    Quit,
    /// RFC 3207 §4
    StartTls,
    /// RFC 4954 §4
    Auth,
    /// RFC 2033 §4.1
    Lhlo,
    /// Postfix's XCLIENT_README
    Xclient,
    /// A known command of SMTP or an extension that is not offered here: ETRN, SEND, TURN …
    NotOffered,
    /// A request line of HTTP: a browser, a scanner, or someone who makes a browser talk to us.
    Http,
    /// Anything else.
    Unknown,
}

impl Verb {
    /// Every verb, in the order of [`Verb::index`].
    pub const ALL: [Self; 19] = [
        Self::Helo,
        Self::Ehlo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Bdat,
        Self::Rset,
        Self::Noop,
        Self::Vrfy,
        Self::Expn,
        Self::Help,
        Self::Quit,
        Self::StartTls,
        Self::Auth,
        Self::Lhlo,
        Self::Xclient,
        Self::NotOffered,
        Self::Http,
        Self::Unknown,
    ];

    /// Place in [`Verb::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The label of a metric, lower case.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Helo => "helo",
            Self::Ehlo => "ehlo",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Bdat => "bdat",
            Self::Rset => "rset",
            Self::Noop => "noop",
            Self::Vrfy => "vrfy",
            Self::Expn => "expn",
            Self::Help => "help",
            Self::Quit => "quit",
            Self::StartTls => "starttls",
            Self::Auth => "auth",
            Self::Lhlo => "lhlo",
            Self::Xclient => "xclient",
            Self::NotOffered => "not_offered",
            Self::Http => "http",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a command by itself leads to no mail.
    pub(crate) const fn leads_nowhere(self) -> bool {
        use Verb::{Ehlo, Expn, Helo, Help, Lhlo, Noop, Rset, Vrfy};
        matches!(self, Helo | Ehlo | Lhlo | Rset | Noop | Vrfy | Expn | Help)
    }

    /// Splits a line without its CRLF into the verb and what follows it, from the separating space on.
    pub(crate) fn split(line: &[u8]) -> (Self, &[u8]) {
        let end = line.iter().position(|&b| b == b' ' || b == b'\t').unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        (Self::recognise(word), rest)
    }

    // RFC 5321 §2.4: verbs are not case sensitive.
    fn recognise(word: &[u8]) -> Self {
        if let [a, b, c, d] = *word {
            // Clearing bit 5 maps exactly two octets on each upper-case letter, the letter in its two cases.
            return match &[a & 0xdf, b & 0xdf, c & 0xdf, d & 0xdf] {
                b"MAIL" => Self::Mail,
                b"RCPT" => Self::Rcpt,
                b"DATA" => Self::Data,
                b"BDAT" => Self::Bdat,
                b"EHLO" => Self::Ehlo,
                b"HELO" => Self::Helo,
                b"RSET" => Self::Rset,
                b"NOOP" => Self::Noop,
                b"QUIT" => Self::Quit,
                b"VRFY" => Self::Vrfy,
                b"EXPN" => Self::Expn,
                b"HELP" => Self::Help,
                b"AUTH" => Self::Auth,
                b"LHLO" => Self::Lhlo,
                b"BURL" | b"ETRN" | b"ATRN" | b"TURN" | b"SEND" | b"SOML" | b"SAML" => Self::NotOffered,
                b"POST" | b"HEAD" => Self::Http,
                _ => Self::Unknown,
            };
        }
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"STARTTLS") {
            return Self::StartTls;
        }
        if is(b"XCLIENT") {
            return Self::Xclient;
        }
        if is(b"XFORWARD") {
            return Self::NotOffered;
        }
        // HTTP methods are upper case by definition (RFC 9110 §9.1).
        match word {
            b"GET" | b"PUT" | b"PATCH" | b"TRACE" | b"DELETE" | b"CONNECT" | b"OPTIONS" => Self::Http,
            _ => Self::Unknown,
        }
    }
}

/// What the front of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'i> {
    /// No line end yet.
    Incomplete,
    /// Longer than allowed, whether its end is there or not.
    TooLong,
    /// A line to execute: without CRLF and without trailing white space. `octets` are to be consumed.
    Command { text: &'i [u8], octets: usize },
    /// A line that must not be executed.
    Broken { fault: Fault, octets: usize },
}

/// Why a line must not be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    BareNewline,
    Nul,
}

/// Takes the first line of `input`, of which the first `scanned` octets hold no LF. `octets_max` counts the CRLF.
pub(crate) fn first_line(input: &[u8], scanned: usize, octets_max: usize) -> Line<'_> {
    debug_assert!(scanned <= input.len());
    let window = &input[..input.len().min(octets_max)];
    let from = scanned.min(window.len());
    let Some(at) = memchr::memchr(b'\n', &window[from..]) else {
        return if input.len() >= octets_max { Line::TooLong } else { Line::Incomplete };
    };
    let octets = from + at + 1;
    // RFC 5321 §2.3.8: only CRLF ends a line; CR and LF must not be sent otherwise.
    let Some(text) = input[..octets - 1].strip_suffix(b"\r") else {
        return Line::Broken { fault: Fault::BareNewline, octets };
    };
    if let Some(at) = memchr::memchr2(b'\r', 0, text) {
        let fault = if text[at] == 0 { Fault::Nul } else { Fault::BareNewline };
        return Line::Broken { fault, octets };
    }
    Line::Command { text: trim_end(text), octets }
}

// RFC 5321 §4.1.1: trailing white space is tolerated.
fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The argument behind a verb, without the white space in front of it.
pub(crate) fn argument(mut rest: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', tail @ ..] = rest {
        rest = tail;
    }
    rest
}

/// Takes `keyword` (upper case, with its colon) off the front of an argument, in any case, and the white space that
/// some clients put behind the colon.
pub(crate) fn strip_keyword<'i>(argument: &'i [u8], keyword: &[u8]) -> Option<&'i [u8]> {
    let (front, rest) = argument.split_at_checked(keyword.len())?;
    front.eq_ignore_ascii_case(keyword).then(|| self::argument(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_in_any_case() {
        for (word, verb) in [
            (&b"MAIL"[..], Verb::Mail),
            (b"mAiL", Verb::Mail),
            (b"rcpt", Verb::Rcpt),
            (b"Data", Verb::Data),
            (b"starttls", Verb::StartTls),
            (b"BURL", Verb::NotOffered),
            (b"TURN", Verb::NotOffered),
            (b"GET", Verb::Http),
            (b"get", Verb::Unknown),
            (b"MAI", Verb::Unknown),
            (b"MAILS", Verb::Unknown),
            (b"", Verb::Unknown),
            (b"\xcd\xc1\xc9\xcc", Verb::Unknown),
        ] {
            assert_eq!(Verb::split(word).0, verb, "{}", word.escape_ascii());
        }
        assert_eq!(Verb::split(b"MAIL\tFROM:<>"), (Verb::Mail, &b"\tFROM:<>"[..]));
    }

    // Every octet string of four that is not one of the verbs in some case is unknown: the bit trick maps nothing else.
    #[test]
    fn only_letters_fold() {
        for position in 0..4 {
            for octet in 0..=255u8 {
                let mut word = *b"QUIT";
                word[position] = octet;
                let expected = word.eq_ignore_ascii_case(b"QUIT");
                assert_eq!(Verb::split(&word).0 == Verb::Quit, expected, "{}", word.escape_ascii());
            }
        }
    }

    #[test]
    fn verb_index_is_dense() {
        for (index, verb) in Verb::ALL.iter().enumerate() {
            assert_eq!(verb.index(), index);
        }
    }

    #[test]
    fn lines() {
        use Line::*;
        assert_eq!(first_line(b"", 0, 10), Incomplete);
        assert_eq!(first_line(b"NOOP\r", 0, 10), Incomplete);
        assert_eq!(first_line(b"NOOP \t\r\nX", 0, 10), Command { text: b"NOOP", octets: 8 });
        assert_eq!(first_line(b"\r\n", 0, 10), Command { text: b"", octets: 2 });
        let bare = |octets| Broken { fault: Fault::BareNewline, octets };
        assert_eq!(first_line(b"NOOP\nQUIT\r\n", 0, 20), bare(5));
        assert_eq!(first_line(b"\n", 0, 20), bare(1));
        assert_eq!(first_line(b"NO\rOP\r\n", 0, 20), bare(7));
        assert_eq!(first_line(b"NOOP\r\r\n", 0, 20), bare(7));
        assert_eq!(first_line(b"NO\0P\r\n", 0, 20), Broken { fault: Fault::Nul, octets: 6 });
        // The limit counts the CRLF.
        assert_eq!(first_line(b"12345678\r\n", 0, 10), Command { text: b"12345678", octets: 10 });
        assert_eq!(first_line(b"123456789\r\n", 0, 10), TooLong);
        assert_eq!(first_line(b"1234567890", 0, 10), TooLong);
        assert_eq!(first_line(b"123456789", 9, 10), Incomplete);
    }
}
