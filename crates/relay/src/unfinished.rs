//! Messages that were under way when the last life ended, and those that cannot be read: taken before anything else, and looked at again.
//!
//! What cannot be read stays under way: its segment is kept, `inrush queue list` shows it, and an operator may delete it. The disk may also give it
//! another time.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inrush_log::{EnvelopeError, LogKind, Lsn, Message, Poisoned, ReadError, log_directory};
use inrush_queue::{OutcomeRef, Place, ResultRef, Slot, Status, message_id};

use crate::shared::{Shared, now_us};

/// Why a message is given up of which nothing is known any more.
const UNREADABLE: &str = "the message cannot be read in its log";
/// How often it is looked whether something has to be read again.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether there is room.
const TICK: Duration = Duration::from_millis(100);

/// Takes these, and what cannot be read for as long as the relay runs.
pub(crate) async fn run(shared: Rc<Shared>, places: Vec<Place>) {
    let mut again = HashMap::new();
    for place in places {
        shared.take_again(place, &mut again).await;
    }
    while !shared.stopping.get() {
        tokio::time::sleep(INTERVAL.min(shared.queue.retry_first)).await;
        let places: Vec<_> = shared.ledger.borrow().unreadable().collect();
        again.retain(|place, _| places.contains(place));
        for place in places {
            if again.get(&place).is_none_or(|at| *at <= Instant::now()) {
                shared.take_again(place, &mut again).await;
            }
        }
    }
}

impl Shared {
    /// Takes a message that is under way already; where it cannot be read, it stays so until a later time.
    async fn take_again(&self, place: Place, again: &mut HashMap<Place, Instant>) {
        while !self.has_room() && !self.stopping.get() {
            tokio::time::sleep(TICK).await;
        }
        if self.stopping.get() {
            return;
        }
        match self.reader.message(place).await {
            Ok(Some(message)) => {
                let message = Arc::new(message);
                if let Some(total) = self.recipients_of(&message) {
                    let owed = self.ledger.borrow_mut().take(place.log, place.lsn, Lsn::ZERO, total);
                    self.dispatch(&message, place, &owed);
                } else {
                    self.ledger.borrow_mut().keep(place.log, place.lsn, Lsn::ZERO);
                    again.insert(place, Instant::now() + self.queue.retry_max);
                }
            }
            Ok(None) => {
                tracing::error!(?place, "a message that was under way is gone with its segment");
                self.ledger.borrow_mut().skip(place.log, place.lsn, Lsn::ZERO);
            }
            Err(error) => {
                tracing::error!(%error, ?place, "a message that is owed cannot be read, and is left where it is");
                self.ledger.borrow_mut().keep(place.log, place.lsn, Lsn::ZERO);
                again.insert(place, Instant::now() + self.again_after(&error));
            }
        }
        self.attention.notify_one();
    }

    /// An entry's message cannot be read: kept for an operator, who may delete it, and looked at again, until it has to be given up.
    pub(crate) fn cannot_be_read(&self, slot: Slot, error: Option<&ReadError>) {
        let now = now_us();
        let mut ledger = self.ledger.borrow_mut();
        let Some(entry) = ledger.entry(slot) else { return };
        let (id, place) = (message_id(self.node, entry), entry.place());
        let again = match error {
            Some(error) => {
                tracing::error!(%id, %error, "a message that is owed cannot be read");
                self.again_after(error)
            }
            None => {
                tracing::error!(%id, ?place, "a message that is owed is not in its place");
                self.queue.retry_max
            }
        };
        if !ledger.is_expired(entry.accepted_at(), now / 1_000_000) {
            return ledger.postpone(slot, now / 1_000_000 + again.as_secs().max(1));
        }
        let destination = ledger.destination(entry.destination).to_vec();
        let result = |recipient| ResultRef {
            recipient,
            status: Status::Expired,
            flags: entry.flags,
            attempts: entry.attempts(),
            next_attempt_us: 0,
            code: 0,
            enhanced: [4, 3, 0],
            address: b"",
            reply: UNREADABLE.as_bytes(),
        };
        let results: Vec<_> = entry.recipients.iter().map(result).collect();
        let outcome = OutcomeRef {
            accepted_at_us: entry.accepted_at() * 1_000_000,
            octets: entry.octets(),
            recipients_total: entry.recipients_total,
            destination: &destination,
            results: &results,
            ..OutcomeRef::without_attempt(id, place, now)
        };
        let recipients = results.len();
        tracing::error!(%id, recipients, "given up, since it cannot be read; nor can it be told whom that concerns, so its sender is not told");
        self.recorder.borrow_mut().record(&mut ledger, &outcome);
        drop(ledger);
        self.count(&destination, Status::Expired, recipients as u64);
    }

    /// When to look again for what could not be read: the disk may give it soon; octets that are wrong stay so.
    pub(crate) fn again_after(&self, error: &ReadError) -> Duration {
        match error {
            ReadError::Io(_) => self.queue.retry_first,
            _ => self.queue.retry_max,
        }
    }

    /// Recipients of a message; `None` when its envelope cannot be read. One of a newer version ends the process: only that program knows what it owes.
    pub(crate) fn recipients_of(&self, message: &Message) -> Option<u32> {
        let error = match message.envelope() {
            Ok(envelope) => return Some(u32::try_from(envelope.recipients().count()).unwrap_or(u32::MAX)),
            Err(error) => error,
        };
        if matches!(error, EnvelopeError::Version(_)) {
            let (log, lsn) = (message.id.log, message.header.lsn);
            let segment_bytes = self.ledger.borrow().segment_bytes(log);
            *self.failed.borrow_mut() = Some(Poisoned {
                log: log_directory(LogKind::Arrival, log),
                what: "reading",
                segment: lsn.segment(segment_bytes),
                offset: lsn.offset(segment_bytes),
                error: io::Error::other(error.to_string()),
            });
        } else {
            tracing::error!(id = %message.id, %error, "a message that is owed cannot be read, and is left where it is");
        }
        None
    }
}
