//! Records in a ring: numbers in little-endian order, texts behind their length.

use std::net::{IpAddr, SocketAddr};

/// Adds to a record.
pub(crate) struct Put<'a>(pub(crate) &'a mut Vec<u8>);

impl Put<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// At most `octets_max` of a text.
    pub(crate) fn octets(&mut self, text: &[u8], octets_max: usize) {
        let text = &text[..text.len().min(octets_max)];
        self.u16(u16::try_from(text.len()).unwrap_or(0));
        self.0.extend_from_slice(text);
    }

    pub(crate) fn address(&mut self, address: Option<SocketAddr>) {
        match address {
            None => self.u8(0),
            Some(address) => {
                match address.ip() {
                    IpAddr::V4(ip) => {
                        self.u8(4);
                        self.0.extend_from_slice(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        self.u8(6);
                        self.0.extend_from_slice(&ip.octets());
                    }
                }
                self.u16(address.port());
            }
        }
    }
}

/// Takes a record apart; `None` where it ends too early, which no record of ours does.
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn octets(&mut self) -> Option<&'a [u8]> {
        let octets = usize::from(self.u16()?);
        let (front, rest) = self.0.split_at_checked(octets)?;
        self.0 = rest;
        Some(front)
    }

    pub(crate) fn address(&mut self) -> Option<Option<SocketAddr>> {
        let ip = match self.u8()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return Some(None),
        };
        Some(Some(SocketAddr::new(ip, self.u16()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        let mut record = Vec::new();
        let addresses = ["192.0.2.1:25", "[2001:db8::1]:4000"].map(|text| text.parse::<SocketAddr>().ok());
        let mut put = Put(&mut record);
        put.u8(7);
        put.u16(513);
        put.u32(70_000);
        put.u64(1 << 40);
        put.octets(b"abcdef", 4);
        addresses.iter().for_each(|address| put.address(*address));
        put.address(None);
        let mut take = Take(&record);
        assert_eq!((take.u8(), take.u16(), take.u32()), (Some(7), Some(513), Some(70_000)));
        assert_eq!((take.u64(), take.octets()), (Some(1 << 40), Some(&b"abcd"[..])));
        assert_eq!(addresses.map(Some), [take.address(), take.address()]);
        assert_eq!(take.address(), Some(None));
        assert_eq!((take.u8(), take.octets(), take.address()), (None, None, None));
    }
}
