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
use inrush_queue::Place;

use crate::shared::Shared;

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
