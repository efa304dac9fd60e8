//! Acknowledgements: which message got which id, written down the moment the 250 came.
//!
//! A line of the file: `ID N CRC32C OCTETS`, the checksum as 8 hex digits, `-` for an id that the reply did not tell. The lines of
//! one read are written with one system call before anything else is sent, so after a crash of the server every line
//! in the file is a message that the server must still have. Nothing is synced: the file is to survive the server's
//! process, not this machine.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use crate::content::Content;

/// Longest id that is kept.
pub const ID_OCTETS_MAX: usize = 40;

/// One acknowledged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Number of the message.
    pub n: u64,
    /// Recipients it was accepted for.
    pub recipients: u32,
    id: [u8; ID_OCTETS_MAX],
    id_octets: u8,
}

impl Acknowledged {
    /// A message and the id that the final reply told; empty when it told none.
    #[must_use]
    pub fn new(n: u64, recipients: u32, id: &[u8]) -> Self {
        let octets = id.len().min(ID_OCTETS_MAX);
        let mut kept = [0; ID_OCTETS_MAX];
        kept[..octets].copy_from_slice(&id[..octets]);
        Self { n, recipients, id: kept, id_octets: u8::try_from(octets).unwrap_or(0) }
    }

    /// The id; empty when none was told.
    #[must_use]
    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id[..usize::from(self.id_octets)]).unwrap_or_default()
    }
}

/// Where one worker puts its acknowledgements.
#[derive(Debug)]
pub struct AckSink {
    file: Option<Arc<File>>,
    lines: Vec<u8>,
    kept: Option<Vec<Acknowledged>>,
}

impl AckSink {
    /// `file` was opened for appending and is shared by the workers; `keep` for verification after the run.
    #[must_use]
    pub fn new(file: Option<Arc<File>>, keep: bool) -> Self {
        Self { file, lines: Vec::new(), kept: keep.then(Vec::new) }
    }

    /// Nobody wants to know.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.file.is_none() && self.kept.is_none()
    }

    /// Message `n` was acknowledged for so many recipients with this reply text.
    pub fn add(&mut self, n: u64, recipients: u32, reply_text: &[u8], content: &Content) {
        let acknowledged = Acknowledged::new(n, recipients, queue_id(reply_text).unwrap_or_default());
        if self.file.is_some() {
            let (checksum, octets) = content.checksum(n);
            let id = if acknowledged.id().is_empty() { "-" } else { acknowledged.id() };
            let written = writeln!(self.lines, "{id} {n} {checksum:08x} {octets}");
            debug_assert!(written.is_ok(), "writing into a Vec does not fail");
        }
        if let Some(kept) = &mut self.kept {
            kept.push(acknowledged);
        }
    }

    /// Writes the lines added since.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file
            && !self.lines.is_empty()
        {
            (&**file).write_all(&self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }

    /// The acknowledgements kept.
    #[must_use]
    pub fn into_kept(self) -> Vec<Acknowledged> {
        self.kept.unwrap_or_default()
    }
}

/// The id in a final reply: `… queued as ID` (inrush, Postfix), `… id=ID` (Exim).
#[must_use]
pub fn queue_id(text: &[u8]) -> Option<&[u8]> {
    let mark = |mark: &[u8]| text.windows(mark.len()).position(|at| at == mark).map(|at| at + mark.len());
    let start = mark(b"queued as ").or_else(|| mark(b"id="))?;
    let rest = &text[start..];
    let end = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'-').unwrap_or(rest.len());
    (end > 0).then_some(&rest[..end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn ids() {
        assert_eq!(queue_id(b"2.0.0 Ok: queued as 0001000000000000A2F0"), Some(&b"0001000000000000A2F0"[..]));
        assert_eq!(queue_id(b"OK id=1tABCD-0000000abcd-1Xyz"), Some(&b"1tABCD-0000000abcd-1Xyz"[..]));
        assert_eq!(queue_id(b"2.0.0 queued as 4B1F, thank you"), Some(&b"4B1F"[..]));
        assert_eq!(queue_id(b"2.0.0 queued as "), None);
        assert_eq!(queue_id(b"2.0.0 Ok"), None);
        let long = [b'x'; 100];
        assert_eq!(Acknowledged::new(1, 1, &long).id().len(), ID_OCTETS_MAX);
        assert_eq!(Acknowledged::new(1, 1, b"\xff").id(), "");
    }
}
