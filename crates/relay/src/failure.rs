//! Why a recipient did not get the message: the words and codes that go into the log, the queue and the bounce.

use inrush_proto::client::{Reply, Severity};

/// What a recipient came to in one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Taken, put off, refused for good.
    pub(crate) severity: Severity,
    /// The reply code; 0 = no host has said so.
    pub(crate) code: u16,
    /// RFC 3463.
    pub(crate) enhanced: [u16; 3],
    /// The remote host's words, or ours.
    pub(crate) text: Vec<u8>,
}

impl Verdict {
    /// What a host has said.
    pub(crate) fn of(reply: &Reply<'_>) -> Self {
        let class = reply.code / 100;
        let enhanced = reply.enhanced();
        // RFC 3463 §3.1: nothing more is known.
        let enhanced = enhanced.map_or([class, 0, 0], |status| [class, status.subject, status.detail]);
        Self { severity: reply.severity(), code: reply.code, enhanced, text: reply.text.to_vec() }
    }

    /// Put off, by us or by the circumstances.
    pub(crate) fn later(enhanced: (u8, u16, u16), text: impl Into<Vec<u8>>) -> Self {
        Self::own(Severity::Transient, enhanced, text)
    }

    /// Refused for good by us.
    pub(crate) fn never(enhanced: (u8, u16, u16), text: impl Into<Vec<u8>>) -> Self {
        Self::own(Severity::Permanent, enhanced, text)
    }

    /// Taken by a mailbox here.
    pub(crate) fn stored(text: impl Into<Vec<u8>>) -> Self {
        Self::own(Severity::Completed, (2, 0, 0), text)
    }

    fn own(severity: Severity, enhanced: (u8, u16, u16), text: impl Into<Vec<u8>>) -> Self {
        let enhanced = [u16::from(enhanced.0), enhanced.1, enhanced.2];
        Self { severity, code: 0, enhanced, text: text.into() }
    }

    /// `5.1.1`.
    pub(crate) fn status(&self) -> String {
        let [class, subject, detail] = self.enhanced;
        format!("{class}.{subject}.{detail}")
    }
}

impl Default for Verdict {
    /// Nothing is known: try again.
    fn default() -> Self {
        Self::later((4, 4, 2), "no reply")
    }
}
