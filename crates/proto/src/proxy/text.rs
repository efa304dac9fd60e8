//! Version 1: one line of text (PROXY 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Command, Header, LINE_OCTETS_MAX, Parsed, ProxyError, Version, canonical};

/// What every line begins with.
const PREFIX: &[u8] = b"PROXY ";

/// `PROXY UNKNOWN CRLF`, the shortest header of both versions.
pub(super) const LINE_OCTETS_MIN: usize = 15;

/// Reads the line at the front of `input`, which is not empty.
pub(super) fn parse(input: &[u8]) -> Result<Parsed<'_>, ProxyError> {
    let seen = input.len().min(PREFIX.len());
    if input[..seen] != PREFIX[..seen] {
        return Err(ProxyError::Signature);
    }
    // PROXY 2.1: the line ends within 107 octets, with CRLF and nothing else.
    let front = &input[..input.len().min(LINE_OCTETS_MAX)];
    let Some(end) = memchr::memchr2(b'\r', b'\n', front) else {
        return incomplete(input, 2);
    };
    match (front[end], front.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) => return incomplete(input, 1),
        _ => return Err(ProxyError::LineEnd),
    }
    // A line end inside of the prefix was refused above, so the slice is in bounds.
    let header = line(&front[PREFIX.len()..end])?;
    Ok(Parsed::Complete { header, consumed: end + 2 })
}

fn incomplete(input: &[u8], line_end: usize) -> Result<Parsed<'static>, ProxyError> {
    if input.len() + line_end > LINE_OCTETS_MAX {
        return Err(ProxyError::LineTooLong);
    }
    let octets_min = LINE_OCTETS_MIN.saturating_sub(input.len()).max(line_end);
    Ok(Parsed::Incomplete { octets_min })
}

fn line(line: &[u8]) -> Result<Header<'static>, ProxyError> {
    let header = Header::bare(Version::One, Command::Proxy);
    let mut fields = line.split(|&octet| octet == b' ');
    let family = fields.next();
    let address: fn(&str) -> Option<IpAddr> = match family {
        // PROXY 2.1: what follows UNKNOWN is ignored.
        Some(b"UNKNOWN") => return Ok(header),
        // Leading zeros, octal to some, are refused by the parser of addresses.
        Some(b"TCP4") => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        // An address with dots in it is not in the grammar, but what the usual functions print for a mapped address.
        Some(b"TCP6") => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(ProxyError::Protocol),
    };
    let mut next = || fields.next().ok_or(ProxyError::Fields);
    let (source, destination, source_port, destination_port) = (next()?, next()?, next()?, next()?);
    if next().is_ok() {
        return Err(ProxyError::Fields);
    }
    let end = |host: &[u8], service: &[u8]| {
        let host = std::str::from_utf8(host).ok().and_then(address).ok_or(ProxyError::Address)?;
        Ok(canonical(SocketAddr::new(host, port(service).ok_or(ProxyError::Port)?)))
    };
    Ok(Header {
        source: Some(end(source, source_port)?),
        destination: Some(end(destination, destination_port)?),
        ..header
    })
}

/// PROXY 2.1: decimal, without leading zeros.
fn port(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) || matches!(digits, [] | [b'0', _, ..]) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const TCP4: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n";
    const LONGEST: &str = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

    fn complete(input: &str) -> (Header<'_>, usize) {
        match parse(input.as_bytes()) {
            Ok(Parsed::Complete { header, consumed }) => (header, consumed),
            other => panic!("{input:?}: {other:?}"),
        }
    }

    fn ends(source: &str, destination: &str) -> Header<'static> {
        Header {
            source: source.parse().ok(),
            destination: destination.parse().ok(),
            ..Header::bare(Version::One, Command::Proxy)
        }
    }

    #[test]
    fn accepted() {
        for (input, expected) in [
            (TCP4, ends("192.0.2.1:56324", "198.51.100.1:25")),
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                ends("255.255.255.255:65535", "255.255.255.255:65535"),
            ),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ends("0.0.0.0:0", "0.0.0.0:0")),
            ("PROXY TCP6 2001:DB8::1 ::1 1 25\r\n", ends("[2001:db8::1]:1", "[::1]:25")),
            ("PROXY TCP6 ::ffff:c000:201 ::ffff:192.0.2.2 1 25\r\n", ends("192.0.2.1:1", "192.0.2.2:25")),
            ("PROXY UNKNOWN\r\n", Header::bare(Version::One, Command::Proxy)),
            ("PROXY UNKNOWN any\0thing  at all \r\n", Header::bare(Version::One, Command::Proxy)),
            (LONGEST, Header::bare(Version::One, Command::Proxy)),
        ] {
            assert_eq!(complete(input), (expected, input.len()));
        }
        assert_eq!(LONGEST.len(), LINE_OCTETS_MAX);
    }

    #[test]
    fn what_follows_is_left_alone() {
        let input = format!("{TCP4}EHLO x\r\n");
        assert_eq!(complete(&input).1, TCP4.len());
    }

    #[test]
    fn every_cut_asks_for_more_but_never_for_too_much() {
        for line in [TCP4, LONGEST, "PROXY UNKNOWN\r\n"] {
            for cut in 0..line.len() {
                let Ok(Parsed::Incomplete { octets_min }) = parse(&line.as_bytes()[..cut]) else {
                    panic!("cut at {cut}: {line:?}")
                };
                assert!((1..=line.len() - cut).contains(&octets_min), "{octets_min} at {cut}");
            }
        }
    }

    #[test]
    fn refused() {
        for (input, error) in [
            ("PROXYTCP4 1.1.1.1 1.1.1.1 1 1\r\n", ProxyError::Signature),
            ("PROXY\r\n", ProxyError::Signature),
            ("PX", ProxyError::Signature),
            ("PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", ProxyError::Protocol),
            ("PROXY \r\n", ProxyError::Protocol),
            ("PROXY tcp4 1.1.1.1 1.1.1.1 1 1\r\n", ProxyError::Protocol),
            ("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", ProxyError::Protocol),
            ("PROXY UNKNOWNS\r\n", ProxyError::Protocol),
            ("PROXY TCP4\r\n", ProxyError::Fields),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", ProxyError::Fields),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", ProxyError::Fields),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n", ProxyError::Fields),
            ("PROXY TCP4  1.1.1.1 1.1.1.1 1\r\n", ProxyError::Address),
            ("PROXY TCP4 1.1.1.1  1.1.1.1 1\r\n", ProxyError::Port),
            ("PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP4 1.1.1.1 ::1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP6 ::1 1.1.1.1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP6 [::1] ::1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP6 1::2::3 ::1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP4 1.1.1.1\u{e9} 1.1.1.1 1 1\r\n", ProxyError::Address),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", ProxyError::Port),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", ProxyError::Port),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n", ProxyError::Port),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 99999999999999\r\n", ProxyError::Port),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 -1\r\n", ProxyError::Port),
            ("PROXY TCP4 1.1.1.1 1.1.1.1  1\r\n", ProxyError::Port),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 \r\n", ProxyError::Port),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", ProxyError::LineEnd),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r", ProxyError::LineEnd),
            ("PROXY UNKNOWN a\rb\r\n", ProxyError::LineEnd),
            ("PROXY UNKNOWN a\nb\r\n", ProxyError::LineEnd),
        ] {
            // A CR at the very end might still get its LF; behind it comes something else.
            let input = if input.ends_with('\r') { format!("{input}x") } else { input.to_owned() };
            assert_eq!(parse(input.as_bytes()), Err(error), "{input:?}");
        }
        assert_eq!(parse(b"PROXY TCP4 1.1.1.1\xff 1.1.1.1 1 1\r\n"), Err(ProxyError::Address));
    }

    #[test]
    fn a_line_over_107_octets_is_refused_as_soon_as_it_cannot_end_in_time() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(LINE_OCTETS_MAX));
        for (octets, expected) in [
            (105, Ok(Parsed::Incomplete { octets_min: 2 })),
            (106, Err(ProxyError::LineTooLong)),
            (107, Err(ProxyError::LineTooLong)),
            (121, Err(ProxyError::LineTooLong)),
        ] {
            assert_eq!(parse(&long.as_bytes()[..octets]), expected, "{octets} octets");
        }
        // The same whether it comes at once or in pieces.
        let late = format!("{}\r\n", &long[..106]);
        assert_eq!(parse(late.as_bytes()), Err(ProxyError::LineTooLong));
        let in_time = format!("{}\r\n", &long[..105]);
        assert_eq!(complete(&in_time).1, LINE_OCTETS_MAX);
    }
}
