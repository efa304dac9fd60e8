//! Version 2: binary (PROXY 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Command, HEADER_OCTETS_MAX, Header, Parsed, ProxyError, Version, canonical, tlv};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const FIXED_OCTETS: usize = 16;

/// A source and a destination in a file system, 108 octets each.
const UNIX_OCTETS: usize = 216;

/// Reads the header at the front of `input`, which is not empty.
pub(super) fn parse(input: &[u8]) -> Result<Parsed<'_>, ProxyError> {
    let seen = input.len().min(SIGNATURE.len());
    if input[..seen] != SIGNATURE[..seen] {
        return Err(ProxyError::Signature);
    }
    let command = match input.get(12) {
        None => None,
        Some(0x20) => Some(Command::Local),
        Some(0x21) => Some(Command::Proxy),
        Some(octet) if octet >> 4 == 2 => return Err(ProxyError::Command),
        Some(_) => return Err(ProxyError::Version),
    };
    let (Some(command), &[_, _, _, _, _, _, _, _, _, _, _, _, _, kind, high, low, ..]) = (command, input)
    else {
        return Ok(Parsed::Incomplete { octets_min: FIXED_OCTETS.saturating_sub(input.len()) });
    };
    let octets = FIXED_OCTETS + usize::from(u16::from_be_bytes([high, low]));
    if octets > HEADER_OCTETS_MAX {
        return Err(ProxyError::HeaderTooLong);
    }
    let Some(whole) = input.get(..octets) else {
        return Ok(Parsed::Incomplete { octets_min: octets - input.len() });
    };
    let header = Header::bare(Version::Two, command);
    let header = match command {
        // PROXY 2.2: nothing else in a LOCAL header means anything, not even the family.
        Command::Local => header,
        Command::Proxy => proxied(header, kind, whole)?,
    };
    Ok(Parsed::Complete { header, consumed: octets })
}

/// The rest of a header for a client, by the octet of family and transport:
///
/// | family | stream | unspecified transport | datagrams, not assigned |
/// |---|---|---|---|
/// | unspecified | nothing more is known | nothing more is known | refused |
/// | IPv4, IPv6 | addresses and values | values | refused |
/// | Unix | values | values | refused |
/// | not assigned | refused | refused | refused |
fn proxied<'i>(header: Header<'i>, kind: u8, whole: &'i [u8]) -> Result<Header<'i>, ProxyError> {
    let rest = &whole[FIXED_OCTETS..];
    let (ends, values) = match kind >> 4 {
        0 => (None, &rest[..0]),
        1 => {
            let (block, values) = rest.split_first_chunk::<12>().ok_or(ProxyError::AddressesCut)?;
            (Some(ipv4(*block)), values)
        }
        2 => {
            let (block, values) = rest.split_first_chunk::<36>().ok_or(ProxyError::AddressesCut)?;
            (Some(ipv6(*block)), values)
        }
        3 => (None, rest.get(UNIX_OCTETS..).ok_or(ProxyError::AddressesCut)?),
        _ => return Err(ProxyError::Family),
    };
    let ends = match kind & 0xf {
        // PROXY 2.2: the addresses of an unspecified transport are ignored.
        0 => None,
        1 => ends,
        // Datagrams are what no listener of ours can have been sent.
        _ => return Err(ProxyError::Transport),
    };
    let header = Header {
        source: ends.map(|(source, _)| canonical(source)),
        destination: ends.map(|(_, destination)| canonical(destination)),
        ..header
    };
    // PROXY 2.2: behind an unspecified family addresses may stand that nobody can tell from values, so that none is read.
    tlv::read(header, whole, values)
}

fn ipv4(block: [u8; 12]) -> (SocketAddr, SocketAddr) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = block;
    ends(Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), rest)
}

fn ipv6(block: [u8; 36]) -> (SocketAddr, SocketAddr) {
    let (mut source, mut destination, mut ports) = ([0; 16], [0; 16], [0; 4]);
    source.copy_from_slice(&block[..16]);
    destination.copy_from_slice(&block[16..32]);
    ports.copy_from_slice(&block[32..]);
    ends(Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), ports)
}

fn ends(source: IpAddr, destination: IpAddr, [a, b, c, d]: [u8; 4]) -> (SocketAddr, SocketAddr) {
    let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    (SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::parse;
    use super::*;

    /// 192.0.2.1:56324 to 198.51.100.1:25.
    pub(crate) const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0, 25];

    /// A header from its parts.
    pub(crate) fn header(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, kind], &length, rest].concat()
    }

    fn complete(input: &[u8]) -> Header<'_> {
        match parse(input) {
            Ok(Parsed::Complete { header, consumed }) => {
                assert_eq!(consumed, input.len());
                header
            }
            other => panic!("{other:?}"),
        }
    }

    fn ends(source: &str, destination: &str) -> Header<'static> {
        Header {
            source: source.parse().ok(),
            destination: destination.parse().ok(),
            ..Header::bare(Version::Two, Command::Proxy)
        }
    }

    #[test]
    fn addresses_of_each_family() {
        let nobody = Header::bare(Version::Two, Command::Proxy);
        let mut ipv6 = [0; 36];
        ipv6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        ipv6[15] = 1;
        ipv6[31] = 2;
        ipv6[32..].copy_from_slice(&[0, 1, 0, 25]);
        let mut mapped = ipv6;
        mapped[16..32].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        for (kind, rest, expected) in [
            (0x11, &IPV4[..], ends("192.0.2.1:56324", "198.51.100.1:25")),
            (0x21, &ipv6, ends("[2001:db8::1]:1", "[::2]:25")),
            (0x21, &mapped, ends("[2001:db8::1]:1", "192.0.2.1:25")),
            (0x31, &[7; UNIX_OCTETS], nobody),
            (0x00, &[], nobody),
            (0x00, &[0xff; 12], nobody),
            (0x01, &IPV4, nobody),
            (0x10, &IPV4, nobody),
            (0x20, &ipv6, nobody),
        ] {
            assert_eq!(complete(&header(0x21, kind, rest)), expected, "{kind:#x}");
        }
    }

    #[test]
    fn a_local_header_says_nothing_whatever_is_in_it() {
        let nothing = Header::bare(Version::Two, Command::Local);
        for (kind, rest) in [(0x00, &[][..]), (0x11, &IPV4), (0x11, &[]), (0xff, &[0xff; 40])] {
            assert_eq!(complete(&header(0x20, kind, rest)), nothing);
        }
    }

    #[test]
    fn every_cut_asks_for_exactly_what_is_missing() {
        let whole = header(0x21, 0x11, &IPV4);
        for cut in 1..whole.len() {
            let octets_min = if cut < 16 { 16 - cut } else { whole.len() - cut };
            assert_eq!(parse(&whole[..cut]), Ok(Parsed::Incomplete { octets_min }));
        }
    }

    #[test]
    fn what_follows_is_left_alone() {
        let whole = [&header(0x21, 0x11, &IPV4)[..], b"EHLO x\r\n"].concat();
        let Ok(Parsed::Complete { consumed, .. }) = parse(&whole) else { panic!("not complete") };
        assert_eq!(consumed, 28);
    }

    #[test]
    fn refused() {
        for (input, error) in [
            (b"\r\n\r\nQ".to_vec(), ProxyError::Signature),
            (b"\r\r".to_vec(), ProxyError::Signature),
            (header(0x11, 0x11, &IPV4), ProxyError::Version),
            (header(0x31, 0x11, &IPV4), ProxyError::Version),
            (header(0x01, 0x11, &IPV4), ProxyError::Version),
            (header(0x22, 0x11, &IPV4), ProxyError::Command),
            (header(0x2f, 0x11, &IPV4), ProxyError::Command),
            (header(0x21, 0x41, &IPV4), ProxyError::Family),
            (header(0x21, 0xf0, &IPV4), ProxyError::Family),
            (header(0x21, 0x12, &IPV4), ProxyError::Transport),
            (header(0x21, 0x22, &[0; 36]), ProxyError::Transport),
            (header(0x21, 0x32, &[0; UNIX_OCTETS]), ProxyError::Transport),
            (header(0x21, 0x02, &[]), ProxyError::Transport),
            (header(0x21, 0x13, &IPV4), ProxyError::Transport),
            (header(0x21, 0x11, &IPV4[..11]), ProxyError::AddressesCut),
            (header(0x21, 0x21, &[0; 35]), ProxyError::AddressesCut),
            (header(0x21, 0x31, &[0; UNIX_OCTETS - 1]), ProxyError::AddressesCut),
        ] {
            assert_eq!(parse(&input), Err(error), "{input:?}");
        }
        // As soon as its octet is there.
        assert_eq!(parse(&header(0x11, 0x11, &IPV4)[..13]), Err(ProxyError::Version));
    }

    #[test]
    fn the_length_is_bounded_before_it_is_waited_for() {
        let longest = header(0x20, 0, &vec![0; HEADER_OCTETS_MAX - 16]);
        assert_eq!(complete(&longest), Header::bare(Version::Two, Command::Local));
        let longer = header(0x20, 0, &vec![0; HEADER_OCTETS_MAX - 15]);
        assert_eq!(parse(&longer[..16]), Err(ProxyError::HeaderTooLong));
    }
}
