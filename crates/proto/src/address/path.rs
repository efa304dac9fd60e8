//! The grammar of a path, one pass from left to right.

use super::{
    DOMAIN_OCTETS_MAX, LABEL_OCTETS_MAX, LOCAL_PART_OCTETS_MAX, Literal, PATH_OCTETS_MAX, Path, PathError,
};

/// May stand in an atom (RFC 5322 §3.2.3; RFC 6531 §3.3 adds UTF-8).
const ATEXT: u8 = 1;
/// May stand anywhere in a label: letter, digit, `_`, UTF-8.
const LABEL: u8 = 2;
/// May stand in a quoted string without a backslash (RFC 5321 §4.1.2 qtextSMTP; RFC 6531 §3.3 adds UTF-8).
const QTEXT: u8 = 4;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0u8;
    loop {
        let octet = byte as usize;
        let high = byte >= 0x80;
        if byte.is_ascii_alphanumeric() || high {
            class[octet] |= ATEXT | LABEL;
        }
        if matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'_'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
                | b'~'
        ) {
            class[octet] |= ATEXT;
        }
        if byte == b'_' {
            class[octet] |= LABEL;
        }
        if matches!(byte, 32..=33 | 35..=91 | 93..=126) || high {
            class[octet] |= QTEXT;
        }
        if byte == u8::MAX {
            break class;
        }
        byte += 1;
    }
};

fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// Octets at the front of `input` that belong to `class`.
fn run(input: &[u8], class: u8) -> usize {
    input.iter().position(|&b| !is(b, class)).unwrap_or(input.len())
}

/// `"<" [ A-d-l ":" ] Mailbox ">"`, `<>`, `<postmaster>`.
pub(super) fn bracketed(input: &[u8]) -> Result<(Path<'_>, &[u8]), PathError> {
    let [b'<', inner @ ..] = input else { return Err(PathError::Brackets) };
    if let [b'>', rest @ ..] = inner {
        return Ok((Path::NULL, rest));
    }
    let inner = source_route(inner)?;
    let local = local_part(inner)?;
    let (octets, domain_follows) = match inner.get(local) {
        Some(b'@') => (local + 1 + domain(&inner[local + 1..])?, true),
        _ => (local, false),
    };
    let Some((b'>', rest)) = inner[octets..].split_first() else {
        let route = domain_follows && matches!(inner.get(octets), Some(b'@' | b'%' | b'!'));
        return Err(if route { PathError::Route } else { PathError::Syntax });
    };
    if input.len() - rest.len() > PATH_OCTETS_MAX {
        // Which part is to blame is more help than the sum.
        check_lengths(local, octets)?;
        return Err(PathError::PathTooLong);
    }
    let path = finish(&inner[..octets], local)?;
    // RFC 5321 §4.1.1.3: only postmaster may stand without a domain.
    if !domain_follows && !path.is_bare_postmaster() {
        let route = memchr::memchr3(b'@', b'%', b'!', path.as_str().as_bytes()).is_some();
        return Err(if route { PathError::Route } else { PathError::NoDomain });
    }
    Ok((path, rest))
}

/// `Local-part "@" ( Domain / address-literal )`, nothing before or behind.
pub(super) fn mailbox(input: &[u8]) -> Result<Path<'_>, PathError> {
    let local = local_part(input)?;
    if input.len() == local {
        return Err(PathError::NoDomain);
    }
    if input[local] != b'@' || local + 1 + domain(&input[local + 1..])? != input.len() {
        return Err(PathError::Syntax);
    }
    finish(input, local)
}

fn finish(mailbox: &[u8], local: usize) -> Result<Path<'_>, PathError> {
    check_lengths(local, mailbox.len())?;
    let text = std::str::from_utf8(mailbox).map_err(|_| PathError::Syntax)?;
    let local_octets = u16::try_from(local).map_err(|_| PathError::LocalPartTooLong)?;
    Ok(Path::from_parts(text, local_octets))
}

fn check_lengths(local: usize, octets: usize) -> Result<(), PathError> {
    if local > LOCAL_PART_OCTETS_MAX {
        return Err(PathError::LocalPartTooLong);
    }
    if octets.saturating_sub(local + 1) > DOMAIN_OCTETS_MAX {
        return Err(PathError::DomainTooLong);
    }
    Ok(())
}

// RFC 5321 §3.6.1, Appendix C: a source route is accepted and stripped: `@a,@b:`.
fn source_route(input: &[u8]) -> Result<&[u8], PathError> {
    let mut rest = input;
    if rest.first() != Some(&b'@') {
        return Ok(rest);
    }
    loop {
        let [b'@', tail @ ..] = rest else { return Err(PathError::Syntax) };
        let octets = domain(tail)?;
        match tail.get(octets) {
            Some(b',') => rest = &tail[octets + 1..],
            Some(b':') => return Ok(&tail[octets + 1..]),
            _ => return Err(PathError::Syntax),
        }
    }
}

/// Octets of the local part at the front of `input`.
fn local_part(input: &[u8]) -> Result<usize, PathError> {
    if input.first() == Some(&b'"') {
        return quoted_string(input);
    }
    let mut at = 0;
    loop {
        let atom = run(&input[at..], ATEXT);
        if atom == 0 {
            return Err(PathError::Syntax);
        }
        at += atom;
        if input.get(at) != Some(&b'.') {
            return Ok(at);
        }
        at += 1;
    }
}

// RFC 5321 §4.1.2: Quoted-string = DQUOTE *QcontentSMTP DQUOTE; the quoted pair covers 32 to 126.
fn quoted_string(input: &[u8]) -> Result<usize, PathError> {
    let mut at = 1;
    loop {
        at += run(&input[at..], QTEXT);
        match input[at..] {
            [b'"', ..] => return Ok(at + 1),
            [b'\\', 32..=126, ..] => at += 2,
            _ => return Err(PathError::Syntax),
        }
    }
}

/// Octets of the domain or address literal at the front of `input`.
fn domain(input: &[u8]) -> Result<usize, PathError> {
    if input.first() == Some(&b'[') {
        let end = memchr::memchr(b']', input).ok_or(PathError::Literal)?;
        let inner = std::str::from_utf8(&input[1..end]).map_err(|_| PathError::Literal)?;
        return Literal::parse(inner).map(|_| end + 1).ok_or(PathError::Literal);
    }
    let mut at = 0;
    let mut label_too_long = false;
    loop {
        let label = label(&input[at..])?;
        label_too_long |= label > LABEL_OCTETS_MAX;
        at += label;
        if input.get(at) != Some(&b'.') {
            break;
        }
        at += 1;
    }
    if label_too_long { Err(PathError::DomainTooLong) } else { Ok(at) }
}

/// `sub-domain = Let-dig [Ldh-str]`: no hyphen at either end.
fn label(input: &[u8]) -> Result<usize, PathError> {
    let octets = input.iter().position(|&b| !is(b, LABEL) && b != b'-').unwrap_or(input.len());
    match input[..octets] {
        [] | [b'-', ..] | [.., b'-'] => Err(PathError::Syntax),
        _ => Ok(octets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn parse(text: &str) -> Result<Path<'_>, PathError> {
        bracketed(text.as_bytes()).map(|(path, rest)| {
            assert!(rest.is_empty(), "{text}");
            path
        })
    }

    #[test]
    fn accepted() {
        for (text, mailbox, local) in [
            ("<a@b>", "a@b", "a"),
            ("<john.q.public@example.com>", "john.q.public@example.com", "john.q.public"),
            ("<!#$%&'*+-/=?^_`{|}~@example.com>", "!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~"),
            (r#"<"a b"@c.example>"#, r#""a b"@c.example"#, r#""a b""#),
            (r#"<"a\"@>\\"@c.example>"#, r#""a\"@>\\"@c.example"#, r#""a\"@>\\""#),
            (r#"<""@c.example>"#, r#"""@c.example"#, r#""""#),
            ("<a@under_score.example>", "a@under_score.example", "a"),
            ("<a@1.2.3>", "a@1.2.3", "a"),
            ("<@one.example:a@b.example>", "a@b.example", "a"),
            ("<@one.example,@two.example:a@b.example>", "a@b.example", "a"),
            ("<PostMaster>", "PostMaster", "PostMaster"),
            ("<用户@例子.example>", "用户@例子.example", "用户"),
        ] {
            let path = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!((path.as_str(), path.local_part()), (mailbox, local));
        }
        assert_eq!(bracketed(b"<a@b> SIZE=1"), Ok((Path::from_parts("a@b", 1), &b" SIZE=1"[..])));
        assert!(parse("<>").expect("null").is_null());
        assert!(parse("<POSTMASTER>").expect("postmaster").is_bare_postmaster());
        assert!(!parse("<postmaster@a>").expect("with domain").is_bare_postmaster());
    }

    #[test]
    fn literals() {
        let literal = |text| parse(text).map(|path| path.literal().expect("a literal"));
        assert_eq!(literal("<a@[192.0.2.1]>"), Ok(Literal::V4(Ipv4Addr::new(192, 0, 2, 1))));
        assert_eq!(literal("<a@[ipv6:::1]>"), Ok(Literal::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(literal("<a@[x400:c=de]>"), Ok(Literal::General { tag: "x400", content: "c=de" }));
        for text in [
            "<a@[]>",
            "<a@[192.0.2]>",
            "<a@[192.0.2.256]>",
            "<a@[192.0.2.01]>",
            "<a@[IPv6:1::2::3]>",
            "<a@[x-:y]>",
            "<a@[:y]>",
            "<a@[x:]>",
            "<a@[x:\\]>",
            "<a@[192.0.2.1>",
            "<a@[x: y]>",
        ] {
            assert_eq!(parse(text), Err(PathError::Literal), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "<",
            "<a",
            "<a@",
            "<a@>",
            "<@b>",
            "<a@b",
            "<.a@b>",
            "<a.@b>",
            "<a..b@c>",
            "<a@.b>",
            "<a@b.>",
            "<a@b..c>",
            "<a@-b>",
            "<a@b->",
            "<a@b-.c>",
            "<a b@c>",
            "<a@b c>",
            r#"<"a@b>"#,
            r#"<"a"b@c>"#,
            r#"<"a\"@c>"#,
            "<@a:>",
            "<@a,b:c@d>",
            "<@a;b@c>",
            "<a,b@c>",
            "<(a)@b>",
            "<<a@b>>",
            "< a@b>",
            "<a@b >",
            "<:a@b>",
            "<a@[192.0.2.1]x>",
        ] {
            assert_eq!(parse(text), Err(PathError::Syntax), "{text}");
        }
        for (text, error) in [
            ("", PathError::Brackets),
            ("a@b", PathError::Brackets),
            ("<user>", PathError::NoDomain),
            ("<postmaster2>", PathError::NoDomain),
            ("<a@b@c>", PathError::Route),
            ("<a@b%c@d>", PathError::Route),
            ("<a@b!c>", PathError::Route),
            ("<a@[192.0.2.1]@b>", PathError::Route),
            ("<a%b>", PathError::Route),
            ("<b!a>", PathError::Route),
            (r#"<"a@b">"#, PathError::Route),
            ("<@c:a%b>", PathError::Route),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(bracketed(b"<\xff@b>"), Err(PathError::Syntax), "not UTF-8");
        assert_eq!(bracketed(b"<a\x00@b>"), Err(PathError::Syntax));
        assert_eq!(bracketed(b"<\"a\x01\"@b>"), Err(PathError::Syntax));
        assert_eq!(bracketed(b"<\"a\x7f\"@b>"), Err(PathError::Syntax));
    }

    // RFC 5321 §4.5.3.1.1 to §4.5.3.1.3: at the limit and one above.
    #[test]
    fn lengths() {
        let local = |n| format!("<{}@b>", "a".repeat(n));
        assert!(parse(&local(64)).is_ok());
        assert_eq!(parse(&local(65)), Err(PathError::LocalPartTooLong));

        let label = "d".repeat(63);
        assert!(parse(&format!("<a@{label}.b>")).is_ok());
        assert_eq!(parse(&format!("<a@d{label}.b>")), Err(PathError::DomainTooLong));

        let long = format!("{label}.{label}.{label}.{label}.");
        assert_eq!(parse(&format!("<a@{long}b>")), Err(PathError::DomainTooLong));
        // 255 octets of domain never fit into a path of 256 with brackets, local part and at sign.
        assert_eq!(parse(&format!("<a@{}>", &long[..255])), Err(PathError::PathTooLong));
        assert!(parse(&format!("<a@{}>", &long[..252])).is_ok());
        assert_eq!(parse(&format!("<aa@{}>", &long[..252])), Err(PathError::PathTooLong));
        assert_eq!(parse(&format!("<@{}:a@b.example>", &long[..250])), Err(PathError::PathTooLong));
        assert!(mailbox(format!("a@{}", &long[..255]).as_bytes()).is_ok());
    }

    #[test]
    fn unquoted_local_part() {
        let chars = |text| parse(text).expect("valid").local_part_chars().collect::<String>();
        assert_eq!(chars(r#"<"a\"b\\ c"@d>"#), r#"a"b\ c"#);
        assert_eq!(chars(r#"<"joe"@d>"#), "joe");
        assert_eq!(chars("<joe@d>"), "joe");
    }

    #[test]
    fn whole_mailboxes() {
        assert!(mailbox(b"a@b.example").is_ok());
        assert_eq!(mailbox(b"a"), Err(PathError::NoDomain));
        assert_eq!(mailbox(b"a@b.example "), Err(PathError::Syntax));
        assert_eq!(mailbox(b""), Err(PathError::Syntax));
        assert_eq!(mailbox(b"<a@b>"), Err(PathError::Syntax));
    }
}
