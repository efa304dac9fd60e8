//! What the live load writes into the header of each message and the next hop reads: which one it is, and when it was to be sent.

use std::time::Duration;

/// Name of the header field.
const FIELD: &str = "X-Stamp: ";
/// Octets of a message in which the field is looked for: it is the first field of the client, behind the trace header of the gateway.
const SEARCHED: usize = 4096;

/// Times count from the begin of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) number: u64,
    /// When its turn was.
    pub(super) planned: Duration,
    /// When the client began to send it: later where no session was free at its turn.
    pub(super) begun: Duration,
}

impl Stamp {
    /// The header field, with its CRLF.
    pub(super) fn field(&self) -> String {
        format!("{FIELD}{} {} {}\r\n", self.number, self.planned.as_nanos(), self.begun.as_nanos())
    }

    /// The stamp of a message.
    pub(super) fn find(message: &[u8]) -> Option<Self> {
        let head = String::from_utf8_lossy(&message[..message.len().min(SEARCHED)]);
        let line = head.split("\r\n").find_map(|line| line.strip_prefix(FIELD))?;
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            number: next()?,
            planned: Duration::from_nanos(next()?),
            begun: Duration::from_nanos(next()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let stamp =
            Stamp { number: 7, planned: Duration::from_millis(14), begun: Duration::from_nanos(14_000_321) };
        let message = format!("Received: from x\r\n\tby y\r\n{}Subject: z\r\n\r\ntext\r\n", stamp.field());
        assert_eq!(Stamp::find(message.as_bytes()), Some(stamp));
        assert_eq!(Stamp::find(b"Subject: z\r\n\r\nX-Stamp: 1 2\r\n"), None);
    }
}
