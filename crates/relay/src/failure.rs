//! Why a recipient did not get the message: the words and codes that go into the log, the queue and the bounce.

use inrush_proto::client::{Reply, Severity};

/// RFC 3463 §3.6.
const TOO_MANY_RECIPIENTS: [u16; 3] = [4, 5, 3];

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

    /// A refusal of RCPT behind others that were accepted. RFC 5321 §4.5.3.1.10: 552 is what 452 was before, too many recipients.
    pub(crate) fn of_recipient(self) -> Self {
        match (self.code, self.enhanced) {
            (452 | 552, [_, 0, 0] | [_, 5, 3]) => {
                Self { severity: Severity::Transient, enhanced: TOO_MANY_RECIPIENTS, ..self }
            }
            _ => self,
        }
    }

    /// Whether this recipient is only one too many for the transaction.
    pub(crate) fn is_too_many(&self) -> bool {
        self.enhanced == TOO_MANY_RECIPIENTS
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
