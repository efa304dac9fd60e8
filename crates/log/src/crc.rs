//! CRC-32C (Castagnoli), as iSCSI uses it (RFC 3720 §12.1).

use crc_fast::CrcAlgorithm;

/// CRC-32C of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32C of the salt (little-endian) followed by at most 60 octets.
pub(crate) fn crc32c_salted(salt: u64, bytes: &[u8]) -> u32 {
    debug_assert!(bytes.len() <= 60);
    let mut salted = [0; 68];
    salted[..8].copy_from_slice(&salt.to_le_bytes());
    salted[8..8 + bytes.len()].copy_from_slice(bytes);
    crc32c(&salted[..8 + bytes.len()])
}

/// CRC-32C of two pieces, from the CRC-32C of each and the length of the second.
pub(crate) fn crc32c_combine(first: u32, second: u32, second_octets: u64) -> u32 {
    let both =
        crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, first.into(), second.into(), second_octets);
    u32::try_from(both & 0xFFFF_FFFF).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c_combine(crc32c(b"1234"), crc32c(b"56789"), 5), 0xE306_9283);
        assert_eq!(crc32c_combine(crc32c(b""), crc32c(b"123456789"), 9), 0xE306_9283);
        assert_eq!(crc32c_salted(u64::from_le_bytes(*b"12345678"), b"9"), 0xE306_9283);
    }
}
