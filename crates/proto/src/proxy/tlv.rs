//! Types, lengths and values behind the addresses of version 2 (PROXY 2.2.1 to 2.2.8).
//!
//! ```text
//!   type (1) │ length (2) │ value          TLS: client bits (1) │ verify (4) │ type length value …
//! ```
//! Types that are not known are skipped, whatever is in them. One that is known and stands there twice is refused: two readers
//! of the same header must not come to different ends.

use crc_fast::{CrcAlgorithm, Digest};

use super::{Header, ProxyError, Tls, UNIQUE_ID_OCTETS_MAX};

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const TLS: u8 = 0x20;
const TLS_VERSION: u8 = 0x21;
const TLS_COMMON_NAME: u8 = 0x22;
const TLS_CIPHER: u8 = 0x23;

/// The client speaks TLS.
const CLIENT_TLS: u8 = 1;
/// It showed a certificate, on this connection or on an earlier one of the TLS session.
const CLIENT_CERTIFICATE: u8 = 2 | 4;

/// One of a chain.
struct Value<'i> {
    kind: u8,
    value: &'i [u8],
    /// Octets behind it.
    behind: usize,
}

/// Adds to `header` what `values` say, which stand at the end of the header `whole`.
pub(super) fn read<'i>(
    mut header: Header<'i>,
    whole: &[u8],
    values: &'i [u8],
) -> Result<Header<'i>, ProxyError> {
    let (mut checked, mut tls) = (None, None);
    for value in chain(values) {
        let Value { kind, value, behind } = value?;
        match kind {
            ALPN => once(&mut header.alpn, value)?,
            AUTHORITY => once(&mut header.authority, utf8(value)?)?,
            CRC32C => once(&mut checked, check(whole, value, behind)?)?,
            UNIQUE_ID if value.len() > UNIQUE_ID_OCTETS_MAX => return Err(ProxyError::UniqueIdTooLong),
            UNIQUE_ID => once(&mut header.unique_id, value)?,
            TLS => once(&mut tls, read_tls(value)?)?,
            _ => {}
        }
    }
    header.tls = tls.flatten();
    Ok(header)
}

/// PROXY 2.2.6.
fn read_tls(value: &[u8]) -> Result<Option<Tls<'_>>, ProxyError> {
    let Some((&[client, verify @ ..], values)) = value.split_first_chunk::<5>() else {
        return Err(ProxyError::ValueCut);
    };
    let client_certificate = client & CLIENT_CERTIFICATE != 0;
    let mut tls = Tls {
        client_certificate,
        // Zero is also what some senders give when there was nothing to verify.
        verified: client_certificate && verify == [0; 4],
        ..Tls::default()
    };
    for value in chain(values) {
        let Value { kind, value, .. } = value?;
        match kind {
            TLS_VERSION => once(&mut tls.version, ascii(value)?)?,
            TLS_CIPHER => once(&mut tls.cipher, ascii(value)?)?,
            TLS_COMMON_NAME => once(&mut tls.common_name, utf8(value)?)?,
            _ => {}
        }
    }
    Ok((client & CLIENT_TLS != 0).then_some(tls))
}

fn chain(mut rest: &[u8]) -> impl Iterator<Item = Result<Value<'_>, ProxyError>> {
    std::iter::from_fn(move || {
        let (&[kind, high, low], values) = match rest {
            [] => return None,
            _ => match rest.split_first_chunk::<3>() {
                Some(front) => front,
                None => {
                    rest = &[];
                    return Some(Err(ProxyError::ValueCut));
                }
            },
        };
        let Some((value, behind)) = values.split_at_checked(usize::from(u16::from_be_bytes([high, low])))
        else {
            rest = &[];
            return Some(Err(ProxyError::ValueCut));
        };
        rest = behind;
        Some(Ok(Value { kind, value, behind: behind.len() }))
    })
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), ProxyError> {
    if place.replace(value).is_some() { Err(ProxyError::ValueTwice) } else { Ok(()) }
}

fn utf8(value: &[u8]) -> Result<&str, ProxyError> {
    std::str::from_utf8(value).map_err(|_| ProxyError::Value)
}

fn ascii(value: &[u8]) -> Result<&str, ProxyError> {
    if value.iter().all(|octet| (b' '..=b'~').contains(octet)) { utf8(value) } else { Err(ProxyError::Value) }
}

/// PROXY 2.2.3: the CRC-32C of the whole header with zeros in its own place, which ends `behind` octets before the end.
fn check(whole: &[u8], value: &[u8], behind: usize) -> Result<(), ProxyError> {
    let Ok(sent) = <[u8; 4]>::try_from(value) else { return Err(ProxyError::Value) };
    let end = whole.len() - behind;
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&whole[..end - sent.len()]);
    digest.update(&[0; 4]);
    digest.update(&whole[end..]);
    if digest.finalize() == u64::from(u32::from_be_bytes(sent)) { Ok(()) } else { Err(ProxyError::Checksum) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::binary::tests::{IPV4, header};
    use super::super::{Parsed, parse};
    use super::*;

    fn value(kind: u8, value: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind, high, low], value].concat()
    }

    /// A header of IPv4 with these values.
    fn with(values: &[Vec<u8>]) -> Vec<u8> {
        header(0x21, 0x11, &[&IPV4[..], &values.concat()].concat())
    }

    fn complete(input: &[u8]) -> Header<'_> {
        match parse(input) {
            Ok(Parsed::Complete { header, .. }) => header,
            other => panic!("{other:?}"),
        }
    }

    fn tls(client: u8, verify: u32, values: &[Vec<u8>]) -> Vec<u8> {
        value(TLS, &[&[client], &verify.to_be_bytes()[..], &values.concat()].concat())
    }

    #[test]
    fn all_that_is_known() {
        let input = with(&[
            value(ALPN, b"smtp"),
            value(0x04, b"padding"),
            value(AUTHORITY, "mx.b\u{fc}cher.example".as_bytes()),
            value(UNIQUE_ID, &[0xff; 128]),
            value(0x04, b""),
            tls(
                7,
                0,
                &[
                    value(TLS_VERSION, b"TLSv1.3"),
                    value(TLS_COMMON_NAME, "J\u{f6}rg".as_bytes()),
                    value(TLS_CIPHER, b"TLS_AES_128_GCM_SHA256"),
                    value(0x24, b"RSA-SHA256"),
                ],
            ),
            value(0x30, b"netns"),
            value(0xea, &[1, 0xff]),
        ]);
        let header = complete(&input);
        assert_eq!(header.source, "192.0.2.1:56324".parse().ok());
        assert_eq!(header.alpn, Some(&b"smtp"[..]));
        assert_eq!(header.authority, Some("mx.b\u{fc}cher.example"));
        assert_eq!(header.unique_id, Some(&[0xff; 128][..]));
        let expected = Tls {
            version: Some("TLSv1.3"),
            cipher: Some("TLS_AES_128_GCM_SHA256"),
            client_certificate: true,
            common_name: Some("J\u{f6}rg"),
            verified: true,
        };
        assert_eq!(header.tls, Some(expected));
    }

    #[test]
    fn verified_needs_a_certificate() {
        for (client, verify, expected) in [
            (0, 0, None),
            (2, 0, None),
            (1, 0, Some((false, false))),
            (1, 1, Some((false, false))),
            (1 | 2, 0, Some((true, true))),
            (1 | 2, 1, Some((true, false))),
            (1 | 4, 0, Some((true, true))),
        ] {
            let input = with(&[tls(client, verify, &[])]);
            let found = complete(&input).tls.map(|tls| (tls.client_certificate, tls.verified));
            assert_eq!(found, expected, "client {client}, verify {verify}");
        }
    }

    #[test]
    fn values_of_a_unix_socket_are_read_too() {
        let rest = [&[0; 216][..], &value(UNIQUE_ID, b"x")].concat();
        let input = header(0x21, 0x31, &rest);
        let header = complete(&input);
        assert_eq!((header.source, header.unique_id), (None, Some(&b"x"[..])));
    }

    // Computed with another implementation of CRC-32C, octet by octet (RFC 9260, appendix A).
    fn crc32c(octets: &[u8]) -> u32 {
        !octets.iter().fold(!0, |crc: u32, &octet| {
            (0..8).fold(
                crc ^ u32::from(octet),
                |crc, _| {
                    if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 }
                },
            )
        })
    }

    #[test]
    fn checksum() {
        for values in [
            vec![value(CRC32C, &[0; 4])],
            vec![value(UNIQUE_ID, b"before"), value(CRC32C, &[0; 4]), value(AUTHORITY, b"behind")],
        ] {
            let mut input = with(&values);
            let at = input.windows(3).position(|three| three == [CRC32C, 0, 4]).unwrap() + 3;
            let sum = crc32c(&input).to_be_bytes();
            input[at..at + 4].copy_from_slice(&sum);
            let sound = complete(&input);
            assert!(sound.source.is_some());
            for octet in 16..input.len() {
                let mut broken = input.clone();
                broken[octet] ^= 0x10;
                assert!(
                    parse(&broken).is_err_and(|error| error != ProxyError::Signature)
                    // A length or type that was hit may hide the checksum itself.
                    || (at - 3..at).contains(&octet) || complete(&broken) != sound,
                    "octet {octet}"
                );
            }
            let mut broken = input.clone();
            broken[16] ^= 1;
            assert_eq!(parse(&broken), Err(ProxyError::Checksum));
            input[at] ^= 1;
            assert_eq!(parse(&input), Err(ProxyError::Checksum));
        }
    }

    #[test]
    fn refused() {
        for (values, error) in [
            (vec![vec![0x04]], ProxyError::ValueCut),
            (vec![vec![0x04, 0]], ProxyError::ValueCut),
            (vec![vec![0x04, 0, 1]], ProxyError::ValueCut),
            (vec![vec![0xea, 0xff, 0xff, 0]], ProxyError::ValueCut),
            (vec![value(AUTHORITY, b"a"), vec![0x04, 0, 2, 0]], ProxyError::ValueCut),
            (vec![value(TLS, &[1, 0, 0, 0])], ProxyError::ValueCut),
            (vec![value(TLS, &[1, 0, 0, 0, 0, TLS_CIPHER, 0, 1])], ProxyError::ValueCut),
            (vec![value(ALPN, b"a"), value(ALPN, b"a")], ProxyError::ValueTwice),
            (vec![value(AUTHORITY, b"a"), value(AUTHORITY, b"b")], ProxyError::ValueTwice),
            (vec![value(UNIQUE_ID, b""), value(UNIQUE_ID, b"")], ProxyError::ValueTwice),
            (vec![tls(1, 0, &[]), tls(0, 0, &[])], ProxyError::ValueTwice),
            (vec![tls(1, 0, &[value(TLS_CIPHER, b"a"), value(TLS_CIPHER, b"a")])], ProxyError::ValueTwice),
            (vec![value(AUTHORITY, b"\xff")], ProxyError::Value),
            (vec![value(CRC32C, &[0; 3])], ProxyError::Value),
            (vec![value(CRC32C, &[0; 5])], ProxyError::Value),
            (vec![tls(1, 0, &[value(TLS_VERSION, b"TLS\r\n")])], ProxyError::Value),
            (vec![tls(1, 0, &[value(TLS_CIPHER, "\u{e9}".as_bytes())])], ProxyError::Value),
            (vec![tls(1, 0, &[value(TLS_COMMON_NAME, b"\xc3")])], ProxyError::Value),
            (vec![value(UNIQUE_ID, &[0; 129])], ProxyError::UniqueIdTooLong),
            (vec![value(CRC32C, &[0; 4])], ProxyError::Checksum),
        ] {
            assert_eq!(parse(&with(&values)), Err(error), "{values:?}");
        }
    }
}
