//! BDAT: mail data in counted chunks.
//!
//! The octets of a chunk follow its command whether the command is allowed or not, so they are always consumed before
//! the next command is read, and only then answered (RFC 3030 §2). When a command is so malformed that the count is not
//! known, nobody can tell where the next command begins, and the session closes.
//!
//! | situation | BDAT n | BDAT n LAST |
//! |---|---|---|
//! | no transaction | 503 | 503 |
//! | no valid recipient | 554, transaction failed | 554, transaction over |
//! | transaction failed | 503 | 503, transaction over |
//! | over the size limit | 552, transaction failed | 552, transaction over |
//! | else | 250 | message |
//!
//! A failed transaction stays open until RSET, HELO, EHLO or the last chunk that the client has pipelined.
//!
//! Standards: RFC 3030 §2, §3, §4.2 (pipelining); RFC 1870 §6.1.

use super::data::no_valid_recipients;
use super::{Event, Pause, Session, State, grow};
use crate::body::{Body, Transform};
use crate::command;
use crate::parameters;
use crate::transaction::message_octets;
use crate::{Context, Reply, Transaction};

impl Session {
    pub(super) fn bdat(&mut self, rest: &[u8]) {
        if !self.context.extensions().chunking {
            // Not offered, so nobody may send it; octets behind it cannot be told from commands.
            self.close_with(Reply::NOT_IMPLEMENTED);
            return;
        }
        let Some((octets, last)) = arguments(command::argument(rest)) else {
            self.close_with(Reply::BDAT_SYNTAX);
            return;
        };
        let refusal = match self.transaction.as_deref_mut() {
            None => Some(Reply::NO_MAIL),
            Some(transaction) => chunk_refusal(transaction, octets, &self.context),
        };
        if let Some(reply) = refusal {
            self.spoil(reply);
        }
        self.state = State::Bdat { remaining: octets, last, refusal };
    }

    /// Hands out the octets of an accepted chunk.
    pub(super) fn next_chunk<'i>(
        &mut self,
        input: &'i [u8],
        at: &mut usize,
        remaining: u64,
        last: bool,
    ) -> Option<Event<'i>> {
        let context = &*self.context;
        let limits = context.limits();
        let Some(transaction) = self.transaction.as_deref_mut() else {
            debug_assert!(false, "a chunk without a transaction");
            self.state = State::Command;
            return None;
        };
        let data = &mut transaction.data;
        if remaining == 0 && !last {
            self.state = State::Command;
            self.say(Reply::CHUNK_OK);
            return None;
        }
        let piece_max = u64::from(limits.piece_octets_max);
        // At most `piece_octets_max`, which fits.
        let want = usize::try_from(remaining.min(piece_max)).unwrap_or(0);
        let rest = &input[*at..];
        let have = rest.len().min(want);
        data.scanner.scan_opaque(&rest[data.scanned.min(have)..have]);
        data.scanned = have;
        if have < want {
            return Some(Event::NeedInput { hint: grow(have, want) });
        }
        let piece = &rest[..want];
        if let Some(reply) = data.inspect(piece, limits) {
            data.scanned = 0;
            self.spoil(reply);
            return None;
        }
        data.scanned = 0;
        *at += want;
        let remaining = remaining - want as u64;
        self.state = State::Bdat { remaining, last, refusal: None };
        if remaining == 0 && last {
            data.findings = data.scanner.findings_at_end();
            self.pause = Pause::Appended;
            return Some(Event::Message(Body::new(piece, Transform::None)));
        }
        data.handed_out = true;
        self.pause = Pause::Stored;
        Some(Event::Body(Body::new(piece, Transform::None)))
    }

    // RFC 3030 §2: the octets of a refused chunk are accepted and discarded before the reply.
    pub(super) fn drain_chunk<'i>(
        &mut self,
        input: &'i [u8],
        at: &mut usize,
        remaining: u64,
        last: bool,
        reply: &'static Reply,
    ) -> Option<Event<'i>> {
        let have = input.len() - *at;
        let take = usize::try_from(remaining).unwrap_or(usize::MAX).min(have);
        *at += take;
        let remaining = remaining - take as u64;
        if remaining > 0 {
            self.state = State::Bdat { remaining, last, refusal: Some(reply) };
            return Some(Event::NeedInput { hint: 16 * 1024 });
        }
        self.state = State::Command;
        if last {
            // In LMTP the last chunk is answered for each recipient (RFC 2033 §4.3).
            for _ in 1..self.final_replies() {
                self.say(reply);
            }
            self.drop_transaction();
        }
        self.refuse_in_sequence(reply);
        None
    }
}

/// Why the chunk is refused before its octets have come; otherwise the transaction is one of chunks from now on.
fn chunk_refusal(transaction: &mut Transaction, octets: u64, context: &Context) -> Option<&'static Reply> {
    if transaction.data.failure.is_some() {
        return Some(Reply::BDAT_FAILED);
    }
    if transaction.recipient_spans().is_empty() {
        return Some(no_valid_recipients(context.kind()));
    }
    transaction.data.chunking = true;
    let so_far = message_octets(transaction.data.scanner.findings(), true);
    // RFC 1870 §6.1; a count near the end of 64 bits must not wrap.
    (so_far.saturating_add(octets) > context.limits().message_bytes_max).then_some(Reply::TOO_BIG)
}

// RFC 3030 §2: chunk-size, then perhaps LAST, in any case.
fn arguments(argument: &[u8]) -> Option<(u64, bool)> {
    let mut words = argument.split(|&b| b == b' ' || b == b'\t').filter(|word| !word.is_empty());
    let octets = parameters::number(words.next()?).ok()?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some((octets, last))
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn counts() {
        assert_eq!(arguments(b"0"), Some((0, false)));
        assert_eq!(arguments(b"86 last"), Some((86, true)));
        assert_eq!(arguments(b"18446744073709551616 LAST"), Some((u64::MAX, true)), "stands for all beyond");
        for text in [&b""[..], b"LAST", b"-1", b"+1", b"1x", b"1 LAST LAST", b"1 FIRST", b"0x10"] {
            assert_eq!(arguments(text), None, "{}", text.escape_ascii());
        }
    }
}
