//! Mail data: from the `354` reply to the end-of-data indication.
//!
//! The data stays in the caller's buffer until it is complete, so that a message of ordinary size leaves the session as
//! one slice. What is larger leaves in pieces that are cut behind a CRLF, so that each begins a line. A message that is
//! spoilt is thrown away as it comes, up to its real end, and only then refused (RFC 5321 §4.2.5).
//!
//! What spoils it is decided in this order, whatever the slices were: size, bare CR or LF, line length (findings of the
//! scanner, which sees all of it), then header, then storage (which end the looking).
//!
//! NUL is let through and visible in the findings: RFC 5321 §4.1.1.4 allows all 128 codes in mail data and only advises
//! the sender against control characters, and large receivers take it; where it must not be, policy can see it.
//!
//! Standards: RFC 5321 §2.3.8 (lines), §4.1.1.4 (DATA), §4.5.2 (transparency), §4.5.3.1.6 (text line), §6.3 (loops);
//! RFC 1870 §6; RFC 3030 §3.

use inrush_scan::Findings;
use memchr::memmem;

use super::{Event, Pause, Session, State, grow};
use crate::body::{Body, Transform};
use crate::parameters::BodyType;
use crate::transaction::{Data, message_octets};
use crate::{BareNewline, Kind, Limits, Reply};

/// `.CRLF`, the part of the end-of-data indication that does not belong to the data.
const TERMINATOR_OCTETS: usize = 3;

/// Octets of an end-of-data indication under way that the scanner still counts as data.
const UNDECIDED_OCTETS: u64 = 3;

impl Session {
    pub(super) fn data(&mut self, rest: &[u8]) {
        match self.data_allowed(rest) {
            Ok(()) => {
                self.state = State::Data;
                self.say(Reply::START_MAIL_INPUT);
            }
            Err(reply) => self.refuse_in_sequence(reply),
        }
    }

    fn data_allowed(&self, rest: &[u8]) -> Result<(), &'static Reply> {
        let Some(transaction) = self.transaction.as_deref() else { return Err(Reply::NO_MAIL) };
        if !rest.is_empty() {
            return Err(Reply::NO_ARGUMENT_ALLOWED);
        }
        if transaction.data.failure.is_some() {
            return Err(Reply::BDAT_FAILED);
        }
        // RFC 3030 §2: DATA and BDAT are not mixed in one transaction.
        if transaction.data.chunking {
            return Err(Reply::AFTER_BDAT);
        }
        // RFC 3030 §3: BINARYMIME goes with BDAT only.
        if transaction.body_type() == BodyType::BinaryMime {
            return Err(Reply::BINARYMIME_DATA);
        }
        if transaction.recipient_spans().is_empty() {
            return Err(no_valid_recipients(self.context.kind()));
        }
        Ok(())
    }

    pub(super) fn next_data<'i>(&mut self, input: &'i [u8], at: &mut usize) -> Option<Event<'i>> {
        let context = &*self.context;
        let (limits, bare_newline) = (context.limits(), context.bare_newline());
        let rest = &input[*at..];
        let Some(transaction) = self.transaction.as_deref_mut() else {
            debug_assert!(false, "mail data without a transaction");
            self.state = State::Command;
            return None;
        };
        let data = &mut transaction.data;
        data.scan(rest);
        let findings = data.scanner.findings();
        let slack = if data.end.is_some() { 0 } else { UNDECIDED_OCTETS };

        let mut verdict = spoilt(findings, limits, bare_newline, slack).or(data.failure);
        if verdict.is_none() {
            let piece_max = match bare_newline {
                // A piece may double when each octet of it is a bare newline.
                BareNewline::Normalize => limits.piece_octets_max as usize / 2,
                BareNewline::Reject | BareNewline::Allow => limits.piece_octets_max as usize,
            };
            let (octets, last) = match data.end.map(|end| end - TERMINATOR_OCTETS) {
                Some(octets) if octets <= piece_max => (octets, true),
                None if rest.len() < piece_max => {
                    let declared = transaction.size_declared().and_then(|size| usize::try_from(size).ok());
                    let want = declared.map_or(piece_max, |size| size.saturating_add(1024).min(piece_max));
                    let hint = grow(rest.len(), want).max(rest.len() + 4096).min(crate::INPUT_OCTETS_MAX);
                    return Some(Event::NeedInput { hint });
                }
                _ => (cut(rest, piece_max, bare_newline), false),
            };
            verdict = if octets == 0 && !last {
                Some(Reply::TEXT_LINE_TOO_LONG)
            } else {
                data.inspect(&rest[..octets], limits)
            };
            if verdict.is_none() {
                let transform = match bare_newline {
                    BareNewline::Normalize if findings.bare_cr || findings.bare_lf => Transform::Normalize,
                    _ if findings.dot_lines > 0 => Transform::Unstuff,
                    _ => Transform::None,
                };
                let body = Body::new(&rest[..octets], transform);
                if last {
                    data.findings = findings;
                    *at += octets + TERMINATOR_OCTETS;
                    self.pause = Pause::Appended;
                    return Some(Event::Message(body));
                }
                data.handed_out(octets);
                *at += octets;
                self.pause = Pause::Stored;
                return Some(Event::Body(body));
            }
        }

        // Spoilt: thrown away as it comes, so that the real end is found and memory stays bounded.
        let reply = verdict?;
        data.failure = Some(reply);
        self.aborted |= std::mem::take(&mut data.handed_out);
        if let Some(end) = data.end {
            *at += end;
            self.answer_message(reply);
            self.finish_transaction();
            self.state = State::Command;
            return None;
        }
        *at = input.len();
        data.scanned = 0;
        if self.aborted {
            return None;
        }
        Some(Event::NeedInput { hint: 16 * 1024 })
    }

    /// Says the final reply to a message, in LMTP once for each recipient (RFC 2033 §4.2).
    pub(super) fn answer_message(&mut self, reply: &'static Reply) {
        for _ in 0..self.final_replies() {
            self.say(reply);
        }
    }

    /// How many final replies the open transaction has.
    pub(super) fn final_replies(&self) -> usize {
        match self.context.kind() {
            Kind::Lmtp => self.transaction().recipient_spans().len().max(1),
            Kind::Mx | Kind::Submission => 1,
        }
    }

    /// The mail data under way is refused with `reply` once it has all come.
    pub(super) fn spoil(&mut self, reply: &'static Reply) {
        let Some(transaction) = self.transaction.as_deref_mut() else { return };
        let data = &mut transaction.data;
        self.aborted |= std::mem::take(&mut data.handed_out);
        data.failure.get_or_insert(reply);
        if let State::Bdat { refusal, .. } = &mut self.state {
            refusal.get_or_insert(reply);
        }
    }
}

impl Data {
    /// Scans what is new in the unconsumed input.
    fn scan(&mut self, rest: &[u8]) {
        if self.end.is_none() {
            debug_assert!(self.scanned <= rest.len(), "unconsumed input is kept");
            let from = self.scanned.min(rest.len());
            self.end = self.scanner.scan_data(&rest[from..]).map(|octets| from + octets);
            self.scanned = rest.len();
        }
    }

    /// Looks at the header section in the next piece.
    pub(super) fn inspect(&mut self, piece: &[u8], limits: &Limits) -> Option<&'static Reply> {
        self.header.inspect(piece);
        if self.header.octets() > limits.header_bytes_max {
            return Some(Reply::HEADER_TOO_BIG);
        }
        // RFC 5321 §6.3: loop detection by counting the Received fields.
        (self.header.hops() > limits.hops_max).then_some(Reply::TOO_MANY_HOPS)
    }

    fn handed_out(&mut self, octets: usize) {
        debug_assert!(octets <= self.scanned);
        self.handed_out = true;
        self.scanned -= octets.min(self.scanned);
        self.end = self.end.map(|end| end - octets);
    }
}

/// RFC 5321 §3.3: 554 or 503 when no recipient was accepted. RFC 2033 §4.2: 503 in LMTP.
pub(super) fn no_valid_recipients(kind: Kind) -> &'static Reply {
    if kind == Kind::Lmtp { Reply::NO_VALID_RECIPIENTS_LMTP } else { Reply::NO_VALID_RECIPIENTS }
}

/// What the findings say against the message; with all octets seen this is the last word. `slack` octets of the size are
/// not counted yet.
fn spoilt(
    findings: Findings,
    limits: &Limits,
    bare_newline: BareNewline,
    slack: u64,
) -> Option<&'static Reply> {
    // RFC 1870 §6.1: 552 when the message turns out to be too big.
    if message_octets(findings, false) > limits.message_bytes_max.saturating_add(slack) {
        return Some(Reply::TOO_BIG);
    }
    // Where bare newlines are let in, mail may have no other: what a line is, is then not for CRLF to say.
    if bare_newline != BareNewline::Reject {
        return None;
    }
    // RFC 5321 §2.3.8: CR and LF only together.
    if findings.bare_cr || findings.bare_lf {
        return Some(Reply::BARE_NEWLINE);
    }
    (findings.longest_line > limits.text_line_octets_max).then_some(Reply::TEXT_LINE_TOO_LONG)
}

/// Where a piece of at most `octets_max` octets ends: behind its last CRLF. Where lines may end otherwise and there is none near,
/// anywhere but in a CRLF or before a dot, which at the start of a piece would be taken for one of transparency. 0: nowhere, in
/// a line far over the limit.
fn cut(rest: &[u8], octets_max: usize, bare_newline: BareNewline) -> usize {
    let window = &rest[..octets_max];
    let behind_crlf = memmem::rfind(window, b"\r\n").map_or(0, |cr| cr + 2);
    if bare_newline == BareNewline::Reject || behind_crlf > octets_max / 4 * 3 {
        return behind_crlf;
    }
    let harmless = |pair: &[u8; 2]| pair[0] != b'\r' && pair[1] != b'.';
    window.array_windows().rposition(harmless).map_or(behind_crlf, |at| at + 1)
}
