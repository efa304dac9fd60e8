//! Message id: where a message was first accepted.
//!
//! Text form: 20 upper-case hex digits, `NNNNLLPPPPPPPPPPPPPP` = node (16 bits), arrival log (8 bits), LSN (56 bits).
//! Fixed width, so it sorts as text in the order of acceptance. The record header keeps log and LSN in one `u64`; the node stands in the
//! segment header. The same id is in the `250`, in `Received`, in log lines and in the queue.

use std::fmt;
use std::str::FromStr;

use crate::Lsn;

/// Octets of the text form.
pub const MESSAGE_ID_OCTETS: usize = 20;

/// Identity of a message: its place in the log that first took it. Copies keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Node that accepted the message.
    pub node: u16,
    /// Arrival log of that node.
    pub log: u8,
    /// Position of the first acceptance; 56 bits.
    pub lsn: Lsn,
}

impl MessageId {
    /// The part that a record header carries: log (8 bits) ‖ LSN (56 bits).
    #[must_use]
    pub const fn packed(self) -> u64 {
        (self.log as u64) << 56 | (self.lsn.get() & Lsn::MAX.get())
    }

    /// The id from the part in a record header and the node of the segment.
    #[must_use]
    pub const fn unpack(node: u16, packed: u64) -> Self {
        Self { node, log: packed.to_be_bytes()[0], lsn: Lsn::new(packed & Lsn::MAX.get()) }
    }

    /// The text form, without allocation.
    #[must_use]
    pub fn encode(&self) -> [u8; MESSAGE_ID_OCTETS] {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut raw = [0; MESSAGE_ID_OCTETS / 2];
        raw[..2].copy_from_slice(&self.node.to_be_bytes());
        raw[2..].copy_from_slice(&self.packed().to_be_bytes());
        let mut text = [0; MESSAGE_ID_OCTETS];
        for (pair, octet) in text.chunks_exact_mut(2).zip(raw) {
            pair[0] = DIGITS[usize::from(octet >> 4)];
            pair[1] = DIGITS[usize::from(octet & 15)];
        }
        text
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.encode();
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The text is not a message id: 20 upper-case hex digits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: 20 upper-case hex digits are expected")]
pub struct InvalidMessageId;

impl FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        // One spelling only, so that equal ids are equal text.
        if digits.len() != MESSAGE_ID_OCTETS || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'A'..=b'F'))
        {
            return Err(InvalidMessageId);
        }
        let node = u16::from_str_radix(&text[..4], 16).map_err(|_| InvalidMessageId)?;
        let packed = u64::from_str_radix(&text[4..], 16).map_err(|_| InvalidMessageId)?;
        Ok(Self::unpack(node, packed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_fixed() {
        let id = MessageId { node: 0x0A1B, log: 0x2C, lsn: Lsn::new(0x0012_3456_789A_BCDE) };
        assert_eq!(id.to_string(), "0A1B2C12".to_owned() + "3456789ABCDE");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(MessageId::unpack(id.node, id.packed()), id);
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "0A1B2C123456789ABCD",
            "0a1b2c123456789abcde",
            "0A1B2C123456789ABCDEF",
            "+A1B2C123456789ABCDE",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(InvalidMessageId), "{text}");
        }
    }

    #[test]
    fn text_sorts_like_ids() {
        let low = MessageId { node: 1, log: 0, lsn: Lsn::MAX };
        let high = MessageId { node: 1, log: 1, lsn: Lsn::ZERO };
        assert!(low < high && low.to_string() < high.to_string());
    }
}
