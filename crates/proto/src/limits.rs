//! What a session may use up, and how it treats what is not quite right. Defaults stand beside their reason.

use std::str::FromStr;

/// Largest piece of mail data that leaves the session in one [`Body`](crate::Body).
pub const PIECE_OCTETS_MAX: usize = 252 * 1024;

/// What a recipient takes in a stored envelope beside its text.
pub const RECIPIENT_OCTETS: usize = 20;

/// The session never asks for a buffer larger than this (see [`Event::NeedInput`](crate::Event::NeedInput)).
pub const INPUT_OCTETS_MAX: usize = 256 * 1024;

/// Bounds of one session. Every one has its own reply and metric label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of mail data as RFC 1870 §3 counts them (CRLF counts, transparency dots do not). Above: 552 5.3.4.
    pub message_bytes_max: u64,
    /// Recipients of one transaction; then 452 4.5.3. RFC 5321 §4.5.3.1.8: never under 100.
    pub recipients_max: u32,
    /// Transactions (accepted MAIL commands) of one session; then 421 4.7.0 (RFC 9422 §4.1).
    pub transactions_max: u32,
    /// Octets of a command line with its CRLF. RFC 5321 §4.5.3.1.4 asks for 512; the parameters of the extensions need
    /// more.
    pub command_octets_max: u32,
    /// Octets of a line of DATA without its CRLF. RFC 5321 §4.5.3.1.6 asks for 998; real mail has far longer ones, and
    /// refusing them bounces wanted mail, so they are accepted up to here and visible in the findings.
    pub text_line_octets_max: u32,
    /// Octets of the header section; what comes behind is not looked at.
    pub header_bytes_max: u32,
    /// `Received` fields (RFC 5321 §6.3: a simple count, threshold at least 100).
    pub hops_max: u32,
    /// Protocol errors that are answered with their own reply; the next one gets 421 4.7.0.
    pub errors_max: u32,
    /// Commands of one session; then 421 4.7.0.
    pub commands_max: u32,
    /// Commands since the last message that lead to none (NOOP, RSET, VRFY, EXPN, HELP, HELO, EHLO, LHLO); then 421 4.7.0.
    pub junk_commands_max: u32,
    /// Recipients of one session that were refused for good; then 421 4.7.0: somebody tries names.
    pub refused_recipients_max: u32,
    /// Octets of addresses and DSN parameters of one transaction, and [`RECIPIENT_OCTETS`] more for each recipient; then
    /// 452 4.5.3. The envelope and a tail of the body share one record of 256 KiB in the log.
    pub envelope_octets_max: u32,
    /// Largest piece of mail data handed out at once, at most [`PIECE_OCTETS_MAX`]; smaller values save memory and cost
    /// records.
    pub piece_octets_max: u32,
    /// Octets of replies that may wait in a session before it stops to parse ([`Event::Output`](crate::Event::Output)),
    /// so that a peer that sends and never reads costs no more than this.
    pub output_octets_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 50 * 1024 * 1024,
            recipients_max: 1_000,
            transactions_max: 1_000,
            command_octets_max: 2_048,
            text_line_octets_max: 8_192,
            header_bytes_max: 256 * 1024,
            hops_max: 100,
            errors_max: 10,
            commands_max: 100_000,
            junk_commands_max: 100,
            refused_recipients_max: 100,
            envelope_octets_max: 192 * 1024,
            piece_octets_max: 252 * 1024,
            output_octets_max: 16 * 1024,
        }
    }
}

impl Limits {
    /// The limits with each value inside the range in which the session works as documented.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        // RFC 5321 §4.5.3.1.8: at least 100 recipients.
        self.recipients_max = self.recipients_max.max(100);
        self.transactions_max = self.transactions_max.max(1);
        // RFC 5321 §4.5.3.1.4 and the parameters of RFC 3461 §4, RFC 1870 §3, RFC 6531 §3.4.
        self.command_octets_max = self.command_octets_max.clamp(512, 64 * 1024);
        // A line must fit into half a piece, since pieces are cut behind a CRLF.
        self.piece_octets_max = self.piece_octets_max.clamp(8 * 1024, 252 * 1024);
        self.text_line_octets_max = self.text_line_octets_max.clamp(998, self.piece_octets_max / 4);
        self.envelope_octets_max = self.envelope_octets_max.clamp(4 * 1024, 192 * 1024);
        self.output_octets_max = self.output_octets_max.clamp(1024, 1024 * 1024);
        self
    }
}

/// What happens to a bare CR or LF in DATA. In every mode only `CRLF . CRLF` ends the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewline {
    /// 550 5.6.11 once the data is drained.
    #[default]
    Reject,
    /// Each bare CR or LF is handed over as CRLF.
    Normalize,
    /// Handed over as it came.
    Allow,
}

impl FromStr for BareNewline {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "reject" => Ok(Self::Reject),
            "normalize" => Ok(Self::Normalize),
            "allow" => Ok(Self::Allow),
            _ => Err(()),
        }
    }
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Port 25: mail for the domains of this host from anyone.
    #[default]
    Mx,
    /// Port 465 or 587: mail for anyone from the users of this host (RFC 6409).
    Submission,
    /// Mail for the domains of this host from a neighbour that keeps a queue, with one reply for each recipient (RFC 2033).
    Lmtp,
}

/// What happens to a client that sends more commands before it has seen that it may (RFC 2920 §3.1): behind HELO, EHLO, LHLO, DATA or
/// AUTH, and in a session where PIPELINING was not offered. Only programs that do not listen do so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnauthorizedPipelining {
    /// It is counted.
    #[default]
    Allow,
    /// 503 5.5.0, and the connection is closed.
    Reject,
}

/// Whether a listener speaks TLS, and from when on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// From STARTTLS on, if the client wants it (RFC 3207).
    StartTls,
    /// As `StartTls`, and no mail before it: 530 5.7.0 (RFC 3207 §4).
    Required,
    /// From the first octet on (RFC 8314 §3).
    Implicit,
}

/// Extensions that EHLO offers besides PIPELINING, SIZE, 8BITMIME, ENHANCEDSTATUSCODES, LIMITS and HELP. One that is
/// not offered is not understood either: its commands are 502, its parameters 555.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// CHUNKING (RFC 3030 §2).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030 §3); only together with `chunking`.
    pub binarymime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
}

impl Default for Extensions {
    fn default() -> Self {
        Self { chunking: true, binarymime: true, smtputf8: true, dsn: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        assert_eq!(Limits::default().clamped(), Limits::default());
    }

    #[test]
    fn clamped_keeps_the_rfc_minimum() {
        let limits = Limits { recipients_max: 1, command_octets_max: 1, ..Limits::default() }.clamped();
        assert_eq!((limits.recipients_max, limits.command_octets_max), (100, 512));
    }

    #[test]
    fn bare_newline_names() {
        assert_eq!("normalize".parse(), Ok(BareNewline::Normalize));
        assert_eq!("Reject".parse::<BareNewline>(), Err(()));
    }
}
