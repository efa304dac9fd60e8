//! PROXY headers: a header is the same however it is cut, what is accepted keeps its bounds, and it means the same when it
//! is written down and read again.

use std::net::{IpAddr, SocketAddr};

use inrush_proto::proxy::{
    Command, HEADER_OCTETS_MAX, Header, LINE_OCTETS_MAX, Parsed, UNIQUE_ID_OCTETS_MAX, Version, parse,
};

/// Runs one input; panics when a header is not what it should be.
pub fn run(input: &[u8]) {
    let whole = parse(input);
    for cut in 0..input.len() {
        match (parse(&input[..cut]), whole) {
            (Err(_), whole) => assert!(whole.is_err(), "refused at {cut} only"),
            (Ok(Parsed::Incomplete { octets_min }), Ok(Parsed::Complete { consumed, .. })) => {
                assert!((1..=consumed - cut).contains(&octets_min));
            }
            (Ok(Parsed::Incomplete { octets_min }), Ok(Parsed::Incomplete { .. })) => {
                assert!(cut + octets_min <= HEADER_OCTETS_MAX && octets_min > 0);
            }
            (Ok(Parsed::Incomplete { .. }), Err(_)) => {}
            (complete, whole) => assert_eq!(complete, whole),
        }
    }
    let Ok(Parsed::Complete { header, consumed }) = whole else { return };
    assert!(consumed <= if header.version == Version::One { LINE_OCTETS_MAX } else { HEADER_OCTETS_MAX });
    check(&header);
    let again = match header.version {
        Version::One => line(&header).into_bytes(),
        Version::Two => binary(&header),
    };
    assert_eq!(parse(&again), Ok(Parsed::Complete { header, consumed: again.len() }));
}

fn check(header: &Header<'_>) {
    assert_eq!(header.source.is_some(), header.destination.is_some());
    for end in [header.source, header.destination].into_iter().flatten() {
        assert_eq!(end.ip(), end.ip().to_canonical());
    }
    let says_more = header.authority.is_some()
        || header.alpn.is_some()
        || header.unique_id.is_some()
        || header.tls.is_some();
    assert!(!says_more || (header.version == Version::Two && header.command == Command::Proxy));
    assert!(header.source.is_none() || header.command == Command::Proxy);
    assert!(header.unique_id.is_none_or(|id| id.len() <= UNIQUE_ID_OCTETS_MAX));
    if let Some(tls) = header.tls {
        assert!(!tls.verified || tls.client_certificate);
        let names = [tls.version, tls.cipher].into_iter().flatten();
        assert!(names.flat_map(str::bytes).all(|octet| (b' '..=b'~').contains(&octet)));
    }
}

fn line(header: &Header<'_>) -> String {
    let (Some(source), Some(destination)) = (header.source, header.destination) else {
        return "PROXY UNKNOWN\r\n".to_owned();
    };
    let ports = format!("{} {}", source.port(), destination.port());
    match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            format!("PROXY TCP4 {} {} {ports}\r\n", source.ip(), destination.ip())
        }
        _ => format!("PROXY TCP6 {} {} {ports}\r\n", sixteen(source.ip()).0, sixteen(destination.ip()).0),
    }
}

/// As an IPv6 address, in text and in octets.
fn sixteen(address: IpAddr) -> (String, [u8; 16]) {
    let v6 = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    (v6.to_string(), v6.octets())
}

fn binary(header: &Header<'_>) -> Vec<u8> {
    // No form of the addresses is longer than the one that they came in, so that the bound is kept.
    let (kind, mut rest) = match (header.source, header.destination) {
        (Some(SocketAddr::V4(source)), Some(SocketAddr::V4(destination))) => {
            (0x11, [source.ip().octets(), destination.ip().octets()].concat())
        }
        (Some(source), Some(destination)) => {
            (0x21, [sixteen(source.ip()).1, sixteen(destination.ip()).1].concat())
        }
        _ => (0x10, vec![0; 12]),
    };
    for end in [header.source, header.destination].into_iter().flatten() {
        rest.extend(end.port().to_be_bytes());
    }
    value(&mut rest, 0x02, header.authority.map(str::as_bytes));
    value(&mut rest, 0x01, header.alpn);
    value(&mut rest, 0x05, header.unique_id);
    if let Some(tls) = header.tls {
        let client = if tls.client_certificate { 3 } else { 1 };
        let mut inner = vec![client, 0, 0, 0, u8::from(!tls.verified)];
        value(&mut inner, 0x23, tls.cipher.map(str::as_bytes));
        value(&mut inner, 0x22, tls.common_name.map(str::as_bytes));
        value(&mut inner, 0x21, tls.version.map(str::as_bytes));
        value(&mut rest, 0x20, Some(&inner));
    }
    let command = match header.command {
        Command::Local => 0x20,
        Command::Proxy => 0x21,
    };
    let length = u16::try_from(rest.len()).expect("at most 4 KiB").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, kind], &length, &rest].concat()
}

fn value(into: &mut Vec<u8>, kind: u8, value: Option<&[u8]>) {
    let Some(value) = value else { return };
    into.push(kind);
    into.extend(u16::try_from(value.len()).expect("at most 4 KiB").to_be_bytes());
    into.extend(value);
}
