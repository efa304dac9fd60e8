//! Moves what waits for long out of segments that are mostly done with, so that these can go.
//!
//! ```text
//! message ─▶ copy in the retry log ─▶ durable ─▶ outcome "moved" ─▶ durable ─▶ the cursor lets go of the segment
//! ```
//! A crash anywhere leaves the message where the outcomes say that it is; a copy that none knows of goes with its segment. What is being tried stays, and
//! moves another time.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inrush_log::{AppendError, ChunkRef, DiskStorage, LogKind, Lsn, Message, Reader, log_directory};
use inrush_queue::{
    ARRIVAL_SHARE, OutcomeRef, Place, RETRY_SHARE, SegmentLoad, choose_segment, outcome_flag,
};

use crate::settle::micros;
use crate::shared::{Shared, now_us};

/// Copies that are made before it is waited for the disk.
const GROUP: usize = 200;
/// How long to wait when the log has no room.
const AGAIN: Duration = Duration::from_millis(50);

/// A copy that no outcome knows of yet.
struct Copied {
    message: Arc<Message>,
    from: Place,
    to: Place,
}

/// Looks for segments to empty, for as long as the relay runs.
pub(crate) async fn run(shared: Rc<Shared>) {
    let after = shared.queue.evacuate_after;
    let interval = (after / 10).clamp(Duration::from_secs(1), Duration::from_secs(60));
    let mut stay = Stay::new();
    while !shared.stopping.get() {
        tokio::time::sleep(interval).await;
        if !shared.may_begin() {
            continue;
        }
        stay.retain(|_, until| Instant::now() < *until);
        let logs: Vec<_> = shared.ledger.borrow().lanes().map(|log| (LogKind::Arrival, log)).collect();
        for (kind, log) in logs.into_iter().chain([(LogKind::Retry, 0)]) {
            // One after the other, as long as that is of use: a log may fill more than one segment in an interval.
            loop {
                match shared.segment_to_empty(kind, log, after, &stay).await {
                    Ok(None) => break,
                    Ok(Some((segment, segment_bytes))) => {
                        let emptied = shared.empty(kind, log, segment, segment_bytes).await;
                        if !emptied.all_readable {
                            stay.insert((kind, log, segment), Instant::now() + shared.queue.retry_max);
                        }
                        if emptied.moved == 0 || shared.stopping.get() {
                            break;
                        }
                    }
                    Err(error) => {
                        let log = log_directory(kind, log);
                        tracing::warn!(%error, log, "its segments cannot be looked at now");
                        break;
                    }
                }
            }
        }
    }
}

/// What became of the messages of a segment.
struct Emptied {
    /// So many are in the retry log now.
    moved: usize,
    /// None stays because it cannot be read.
    all_readable: bool,
}

/// Segments that hold what cannot be read, so that it cannot be moved, and when they are looked at again.
type Stay = HashMap<(LogKind, u8, u64), Instant>;

/// What became of a message that was to be moved.
enum Moving {
    Copied(Copied),
    /// It is being tried, or has gone.
    Busy,
    /// It cannot be read.
    Stays,
}

/// Segments of a log: number, octets, time of the seal.
struct Segments {
    segment_bytes: u64,
    list: Vec<(u64, u64, Option<u64>)>,
}

fn segments(storage: DiskStorage, kind: LogKind, log: u8) -> io::Result<Segments> {
    let dir = log_directory(kind, log);
    let reader = Reader::on(storage, &dir).map_err(|error| io::Error::other(error.to_string()))?;
    let list = reader.segments().iter();
    let list = list.map(|one| (one.number, one.octets, one.seal.map(|seal| seal.sealed_at_us))).collect();
    Ok(Segments { segment_bytes: reader.identity().segment_bytes, list })
}

impl Shared {
    /// Nothing below is needed in the retry log, but for what the ledger knows.
    pub(crate) fn retry_floor(&self) -> Lsn {
        self.retry_floor.get().unwrap_or_else(|| self.retry.borrow().durable())
    }

    async fn segment_to_empty(
        &self,
        kind: LogKind,
        log: u8,
        after: Duration,
        stay: &Stay,
    ) -> io::Result<Option<(u64, u64)>> {
        let storage = self.reader.storage().clone();
        let looked = tokio::task::spawn_blocking(move || segments(storage, kind, log)).await;
        let Segments { segment_bytes, list } = looked.map_err(io::Error::other)??;
        let live: BTreeMap<u64, u64> = self.ledger.borrow().live_octets(kind, log, segment_bytes);
        let low = match kind {
            LogKind::Retry => self.ledger.borrow().retry_low_water(log),
            _ => self.ledger.borrow().low_water(log),
        };
        let kept = list.into_iter().filter(|(number, ..)| *number >= low.segment(segment_bytes));
        let loads: Vec<_> = kept
            .map(|(number, octets, sealed_at_us)| SegmentLoad {
                number,
                octets,
                live_octets: live.get(&number).copied().unwrap_or(0),
                sealed_at_us,
                stays: stay.contains_key(&(kind, log, number)),
            })
            .collect();
        let share = if kind == LogKind::Retry { RETRY_SHARE } else { ARRIVAL_SHARE };
        let before = now_us().saturating_sub(micros(after));
        Ok(choose_segment(&loads, before, share).map(|segment| (segment, segment_bytes)))
    }

    /// Moves the messages that wait with a segment.
    async fn empty(&self, kind: LogKind, log: u8, segment: u64, segment_bytes: u64) -> Emptied {
        let messages = self.ledger.borrow().messages_in(kind, log, segment_bytes, segment);
        tracing::info!(
            log = log_directory(kind, log),
            segment,
            messages = messages.len(),
            "moving what waits out of a segment"
        );
        let mut emptied = Emptied { moved: 0, all_readable: true };
        for group in messages.chunks(GROUP) {
            // What is appended from here on is not known to anybody until it is recorded.
            self.retry_floor.set(Some(self.retry.borrow().durable()));
            let mut copied = Vec::with_capacity(group.len());
            for &(message_id, from) in group {
                if self.stopping.get() {
                    break;
                }
                match self.copy(message_id, from).await {
                    Ok(Moving::Copied(copy)) => copied.push(copy),
                    Ok(Moving::Busy) => {}
                    Ok(Moving::Stays) => emptied.all_readable = false,
                    Err(error) => {
                        tracing::warn!(%error, "the retry log takes nothing now");
                        break;
                    }
                }
            }
            self.attention.notify_one();
            self.until_retry_durable().await;
            emptied.moved += copied.len();
            for copy in copied {
                self.record_move(&copy);
            }
            self.retry_floor.set(None);
            if self.stopping.get() {
                break;
            }
        }
        emptied
    }

    async fn copy(&self, message_id: u64, from: Place) -> Result<Moving, AppendError> {
        if !self.ledger.borrow().may_move(message_id, from) {
            return Ok(Moving::Busy);
        }
        let message = match self.reader.message(from).await {
            Ok(Some(message)) if message.id.packed() == message_id => Arc::new(message),
            _ => {
                tracing::error!(place = ?from, "a message that is owed cannot be moved");
                return Ok(Moving::Stays);
            }
        };
        let listed = message.envelope().map_or(0, |envelope| envelope.chunks().count());
        let mut chunks: Vec<ChunkRef> = Vec::with_capacity(listed);
        if listed > 0 {
            let mut pieces = self.reader.body(from, Arc::clone(&message));
            while chunks.len() < listed {
                let Some(Ok(piece)) = pieces.recv().await else {
                    tracing::error!(id = %message.id, "a message that is owed cannot be moved: its body cannot be read");
                    self.retry.borrow_mut().abandon_chunks(&chunks);
                    return Ok(Moving::Stays);
                };
                let appended = self.with_room(|retry| {
                    retry.append_chunk(std::iter::once(piece.as_slice()), piece.len(), now_us())
                });
                match appended.await {
                    Ok(chunk) => chunks.push(chunk),
                    Err(error) => {
                        self.retry.borrow_mut().abandon_chunks(&chunks);
                        return Err(error);
                    }
                }
            }
        }
        let appended = self.with_room(|retry| retry.append_copy(&message, &chunks)).await;
        match appended {
            Ok(appended) => {
                let to = Place { kind: LogKind::Retry, log: 0, lsn: appended.lsn };
                Ok(Moving::Copied(Copied { message, from, to }))
            }
            Err(error) => {
                self.retry.borrow_mut().abandon_chunks(&chunks);
                Err(error)
            }
        }
    }

    /// Appends as soon as there is a buffer for it.
    async fn with_room<T>(
        &self,
        mut append: impl FnMut(&mut inrush_log::Appender) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        loop {
            match append(&mut self.retry.borrow_mut()) {
                Err(AppendError::BatchFull) => {}
                done => return done,
            }
            self.attention.notify_one();
            let _ = tokio::time::timeout(AGAIN, self.retry_written.notified()).await;
        }
    }

    /// Waits until everything that was appended is durable.
    async fn until_retry_durable(&self) {
        while !self.retry.borrow().is_idle() {
            self.attention.notify_one();
            let _ = tokio::time::timeout(AGAIN, self.retry_written.notified()).await;
        }
    }

    fn record_move(&self, copy: &Copied) {
        // It may have been delivered, or be on its way, since.
        if !self.ledger.borrow().may_move(copy.message.id.packed(), copy.from) {
            return;
        }
        let Ok(envelope) = copy.message.envelope() else { return };
        let outcome = OutcomeRef {
            accepted_at_us: copy.message.header.accepted_at_us,
            octets: copy.message.body_octets().unwrap_or_default(),
            recipients_total: u32::try_from(envelope.recipients().count()).unwrap_or(u32::MAX),
            flags: outcome_flag::MOVED,
            sender: envelope.reverse_path(),
            ..OutcomeRef::without_attempt(copy.message.id, copy.to, now_us())
        };
        self.recorder.borrow_mut().record(&mut self.ledger.borrow_mut(), &outcome);
    }
}
