//! CRC-32C (Castagnoli), as iSCSI uses it (RFC 3720 §12.1).

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c_salted(u64::from_le_bytes(*b"12345678"), b"9"), 0xE306_9283);
    }
}
