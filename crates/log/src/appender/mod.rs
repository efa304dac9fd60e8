//! Appender: group commit without I/O of its own.
//!
//! ```text
//! append_* ──▶ open batch ──(1 MiB, or next_write)──▶ queue ──▶ next_write ──▶ [ring, thread] ──▶ write_done ──▶ durable LSN
//!                  │ record does not fit the segment: pad, seal, next segment                          │
//!                  └────────── buffers from a bounded pool ◀───────────────────────────────────────────┘──▶ fresh queue
//! ```
//! One write is in flight at a time, so writes reach the segment in order, and each record can tell what was durable before it. A failed write
//! or sync poisons the log for good: after it the kernel may have dropped data that a second sync would report as safe.
//!
//! Bounds: [`LogSettings::batch_buffers`] of 1 MiB; nothing is allocated for a message in one record.

mod rolling;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use crate::batch::Batch;
use crate::buffer::Pool;
use crate::envelope::{ChunkRef, EnvelopeRef, encode, envelope_octets_max, relocated};
use crate::error::{AppendError, NoSpace, Poisoned};
use crate::fresh::{FreshReceiver, FreshSender};
use crate::layout::{BLOCK, CHUNK_OCTETS_MAX, RECORD_OCTETS_MAX};
use crate::open_chunks::OpenChunks;
use crate::reader::Message;
use crate::record::{RECORD_HEADER_OCTETS, RecordFlags, RecordHeader, RecordKind, record_octets};
use crate::retention::SealedSegment;
use crate::segment::{LogIdentity, NO_CHUNKS, SealReason, SegmentHeader, SegmentSummary};
use crate::settings::{Durability, LogSettings};
use crate::stats::AppenderStats;
use crate::storage::disk::DiskStorage;
use crate::storage::{Storage, StorageFile};
use crate::supply::{ReadySegment, Supply};
use crate::write::{Completion, Sync, Write, WriteKind};
use crate::{ENVELOPE_VERSION, Lsn, MessageId};

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position of the record.
    pub lsn: Lsn,
    /// Committed when [`Appender::committed`] is not below.
    pub gate: Lsn,
    /// Id of the message.
    pub id: MessageId,
}

/// The segment that is being filled.
struct Active<F> {
    header: SegmentHeader,
    file: Arc<F>,
    /// Offset of the next batch; a multiple of 4 KiB.
    tail: u64,
    summary: SegmentSummary,
}

/// Takes records for one log and says what to write. Owned by one core.
pub struct Appender<S: Storage = DiskStorage> {
    identity: LogIdentity,
    name: String,
    strict: bool,
    sync_interval_us: u64,
    settings: LogSettings,
    storage: S,
    supply: Arc<Supply<S::File>>,
    helper: Option<Thread>,
    pool: Arc<Pool>,
    active: Active<S::File>,
    open: Option<Batch>,
    /// Chunks whose message is still to come.
    open_chunks: OpenChunks,
    /// Segments whose seals are on their way to the disk, in this order.
    sealing: VecDeque<SealedSegment>,
    queue: VecDeque<Write<S::File>>,
    in_flight: bool,
    syncing: bool,
    closed: bool,
    poisoned: bool,
    hung: bool,
    written: Lsn,
    /// File and segment of the last finished write, for the next sync.
    written_to: Option<(Arc<S::File>, u64)>,
    synced_at_us: u64,
    durable: Lsn,
    durable_shared: Arc<AtomicU64>,
    fresh: FreshSender,
    stats: AppenderStats,
}

impl<S: Storage> Appender<S> {
    pub(crate) fn new(
        storage: S,
        settings: &LogSettings,
        name: String,
        supply: Arc<Supply<S::File>>,
        helper: Option<Thread>,
        first: ReadySegment<S::File>,
    ) -> Self {
        let identity = first.header.identity;
        let durable = first.header.base().plus(BLOCK);
        let durable_shared = supply.durable_shared();
        durable_shared.store(durable.get(), Ordering::Release);
        let stats = AppenderStats { segments_opened: 1, ..AppenderStats::default() };
        Self {
            identity,
            name,
            strict: settings.durability == Durability::Strict,
            sync_interval_us: u64::try_from(settings.relaxed_sync_interval.as_micros()).unwrap_or(u64::MAX),
            settings: settings.clone(),
            storage,
            supply,
            helper,
            pool: Pool::new(settings.batch_buffers.into(), settings.fresh_buffers.into()),
            active: Active::new(first),
            open: None,
            open_chunks: OpenChunks::default(),
            sealing: VecDeque::new(),
            // A seal and a pad block come on top of the batches.
            queue: VecDeque::with_capacity(usize::from(settings.batch_buffers) * 3 + 3),
            in_flight: false,
            syncing: false,
            closed: false,
            poisoned: false,
            hung: false,
            written: durable,
            written_to: None,
            synced_at_us: 0,
            durable,
            durable_shared,
            fresh: FreshSender::new(settings.fresh_queue_messages as usize),
            stats,
        }
    }

    /// Copies a message into the open batch. `body` yields its pieces in order, at most `body_octets_max` octets in all and at most
    /// [`CHUNK_OCTETS_MAX`]; they come behind the chunks of the envelope. When envelope and body together are over 256 KiB, the body goes into a
    /// chunk record before the message.
    ///
    /// # Errors
    /// The message was not taken; see [`AppendError`]. A chunk record that was written for it dies with its segment.
    pub fn append_message<'a>(
        &mut self,
        envelope: &EnvelopeRef<'_>,
        body: impl Iterator<Item = &'a [u8]>,
        body_octets_max: usize,
        accepted_at_us: u64,
    ) -> Result<Appended, AppendError> {
        self.admission()?;
        let envelope_max = envelope_octets_max(envelope);
        let whole = record_octets(envelope_max, body_octets_max);
        if whole <= RECORD_OCTETS_MAX {
            let sizes = Sizes { envelope_max, body_max: body_octets_max };
            return self.append_record(envelope, None, body, sizes, accepted_at_us);
        }
        let alone = record_octets(envelope_max, 0);
        if alone > RECORD_OCTETS_MAX || body_octets_max > CHUNK_OCTETS_MAX {
            return Err(self.count(AppendError::TooLarge { octets: whole }));
        }
        let chunk = self.append_chunk(body, body_octets_max, accepted_at_us)?;
        let sizes = Sizes { envelope_max, body_max: 0 };
        let appended = self.append_record(envelope, Some(chunk), std::iter::empty(), sizes, accepted_at_us);
        if appended.is_err() {
            self.abandon_chunks(&[chunk]);
        }
        appended
    }

    /// Copies a message that another log has taken before, under the id that it has there: envelope and own body as they stood in its record. `chunks`
    /// are the parts of its body that are in this log now, as [`append_chunk`](Self::append_chunk) gave them, in the order of the envelope.
    ///
    /// # Errors
    /// The message was not taken; see [`AppendError`].
    pub fn append_copy(&mut self, message: &Message, chunks: &[ChunkRef]) -> Result<Appended, AppendError> {
        self.admission()?;
        let (envelope, body) = message.content();
        let octets = record_octets(envelope.len(), body.len());
        let Some(envelope) = relocated(message.header.envelope_version, envelope, chunks) else {
            return Err(self.count(AppendError::TooLarge { octets }));
        };
        self.make_room(octets)?;
        let durable = self.durable;
        let Some(batch) = self.open.as_mut() else { return Err(AppendError::BatchFull) };
        let lsn = batch.lsn();
        batch.room()[..envelope.len()].copy_from_slice(&envelope);
        let (body_octets, body_crc) =
            batch.body(envelope.len(), std::iter::once(body), body.len()).ok_or(AppendError::BodyTooLong)?;
        let (envelope_octets, envelope_crc) = batch.envelope(envelope.len());
        if let Some(lowest) = chunks.iter().map(ChunkRef::lsn).min() {
            batch.note_chunks(lowest);
        }
        batch.commit(RecordHeader {
            lsn,
            durable,
            envelope_octets,
            body_octets,
            envelope_crc,
            body_crc,
            flags: message.header.flags.with(RecordFlags::RETRY_COPY),
            ..message.header
        });
        let gate = batch.lsn();
        self.close_chunks(chunks);
        self.stats.messages += 1;
        self.stats.body_octets += u64::from(body_octets);
        Ok(Appended { lsn, gate, id: message.id })
    }

    /// Copies a record about a message, [`RecordKind::Outcome`] or [`RecordKind::Checkpoint`], into the open batch; `version` is that of its content. Taken
    /// also while new mail is refused for want of free space: what is recorded makes room.
    ///
    /// # Errors
    /// Nothing was taken; see [`AppendError`].
    pub fn append_note(
        &mut self,
        kind: RecordKind,
        message_id: u64,
        version: u16,
        content: &[u8],
        at_us: u64,
    ) -> Result<Appended, AppendError> {
        debug_assert!(matches!(kind, RecordKind::Outcome | RecordKind::Checkpoint));
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        if self.closed {
            return Err(AppendError::Closed);
        }
        let octets = record_octets(content.len(), 0);
        if octets > RECORD_OCTETS_MAX {
            return Err(self.count(AppendError::TooLarge { octets }));
        }
        self.make_room(octets)?;
        let durable = self.durable;
        let Some(batch) = self.open.as_mut() else { return Err(AppendError::BatchFull) };
        let lsn = batch.lsn();
        batch.room()[..content.len()].copy_from_slice(content);
        let (envelope_octets, envelope_crc) = batch.envelope(content.len());
        batch.commit(RecordHeader {
            envelope_version: version,
            message_id,
            envelope_octets,
            envelope_crc,
            ..RecordHeader::empty(kind, lsn, durable, at_us)
        });
        let gate = batch.lsn();
        self.stats.notes += 1;
        Ok(Appended { lsn, gate, id: MessageId::unpack(self.identity.node, message_id) })
    }

    /// Copies a part of a large body into the open batch. The result belongs into [`EnvelopeRef::chunks`] of the message that commits it, or,
    /// when that will not come, into [`abandon_chunks`](Self::abandon_chunks): until then no segment from there on is retired.
    ///
    /// # Errors
    /// Nothing was taken; see [`AppendError`].
    pub fn append_chunk<'a>(
        &mut self,
        body: impl Iterator<Item = &'a [u8]>,
        body_octets_max: usize,
        accepted_at_us: u64,
    ) -> Result<ChunkRef, AppendError> {
        self.admission()?;
        let total = record_octets(0, body_octets_max);
        if body_octets_max > CHUNK_OCTETS_MAX {
            return Err(self.count(AppendError::TooLarge { octets: total }));
        }
        self.make_room(total)?;
        let durable = self.durable;
        let packed = |lsn: Lsn| MessageId { node: 0, log: self.identity.log, lsn }.packed();
        let Some(batch) = self.open.as_mut() else { return Err(AppendError::BatchFull) };
        let lsn = batch.lsn();
        let (octets, crc) = batch.body(0, body, body_octets_max).ok_or(AppendError::BodyTooLong)?;
        batch.commit(RecordHeader {
            kind: RecordKind::Chunk,
            flags: RecordFlags::default(),
            envelope_version: 0,
            lsn,
            message_id: packed(lsn),
            durable,
            envelope_octets: 0,
            body_octets: octets,
            envelope_crc: 0,
            body_crc: crc,
            accepted_at_us,
        });
        self.open_chunks.open(lsn);
        self.tell_needed();
        self.stats.chunks += 1;
        self.stats.body_octets += u64::from(octets);
        Ok(ChunkRef { lsn: lsn.get(), octets, crc })
    }

    /// No message will list these chunks.
    pub fn abandon_chunks(&mut self, chunks: &[ChunkRef]) {
        if !chunks.is_empty() {
            self.close_chunks(chunks);
        }
    }

    /// Writes down what is durable by now, so that later damage there is not taken for a torn tail. For the owner of the log to call after a second
    /// without any append; does nothing when the log says so already.
    ///
    /// # Errors
    /// Nothing was taken; see [`AppendError`].
    pub fn append_mark(&mut self, now_us: u64) -> Result<(), AppendError> {
        if self.stats.batches == 0 || self.stats.mark_at == self.durable.get() {
            return Ok(());
        }
        self.admission()?;
        self.make_room(RECORD_HEADER_OCTETS)?;
        let durable = self.durable;
        let Some(batch) = self.open.as_mut() else { return Err(AppendError::BatchFull) };
        let lsn = batch.lsn();
        batch.commit(RecordHeader::empty(RecordKind::Mark, lsn, durable, now_us));
        // The mark itself will be durable one batch further on; another one says nothing new.
        self.stats.mark_at = batch.end_when_closed().get();
        self.stats.marks += 1;
        Ok(())
    }

    /// The next write, when there is something to write and none is in flight.
    pub fn next_write(&mut self) -> Option<Write<S::File>> {
        if self.in_flight || self.poisoned {
            return None;
        }
        if self.queue.is_empty() && self.open.as_ref().is_some_and(|batch| !batch.is_empty()) {
            self.close_batch(false);
        }
        let mut write = self.queue.pop_front()?;
        if write.kind == WriteKind::Batch && write.done == 0 {
            // Whatever stood in the batch when its first record was copied: by now everything before the batch is durable (strict), and that this
            // batch exists at all proves it to recovery.
            crate::batch::stamp(&mut write, self.durable);
        }
        self.in_flight = true;
        Some(write)
    }

    /// Takes back a write with its result: octets written, or the error of the write or of the sync after it. A short write is continued by the next
    /// [`next_write`](Self::next_write).
    ///
    /// # Errors
    /// The write failed, and the log is poisoned for good.
    pub fn write_done(
        &mut self,
        mut write: Write<S::File>,
        result: io::Result<usize>,
    ) -> Result<Completion, Poisoned> {
        debug_assert!(self.in_flight, "a write comes back once");
        self.in_flight = false;
        let octets = match result {
            Ok(octets) => octets.min(write.bytes().len()),
            Err(error) => return Err(self.poison("write", write.segment, write.offset(), error)),
        };
        self.stats.octets_written += octets as u64;
        if octets < write.bytes().len() {
            self.stats.short_writes += 1;
            write.advance(octets);
            // The same block over and over, or nothing at all: the disk does not move.
            if octets == 0 || write.stuck > 8 {
                let error = io::ErrorKind::WriteZero.into();
                return Err(self.poison("write", write.segment, write.offset(), error));
            }
            self.queue.push_front(write);
            return Ok(self.completion(SegmentSummary::default(), octets));
        }
        self.written = write.end;
        if self.strict || write.sync_after {
            self.set_durable(write.end);
        }
        self.written_to = Some((Arc::clone(&write.file), write.segment));
        match write.kind {
            WriteKind::Batch => self.stats.batches += 1,
            WriteKind::Pad => {}
            WriteKind::Seal => {
                self.stats.segments_sealed += 1;
                if let Some(sealed) = self.sealing.pop_front() {
                    debug_assert_eq!(sealed.number, write.segment);
                    self.supply.sealed(sealed);
                    self.tell_needed();
                }
            }
        }
        let completion = self.completion(write.summary, octets);
        if write.kind == WriteKind::Batch {
            self.hand_on(write);
        }
        Ok(completion)
    }

    /// Under relaxed durability: the sync that is due at `now_us`, if any. Runs beside a write.
    pub fn next_sync(&mut self, now_us: u64) -> Option<Sync<S::File>> {
        if self.strict || self.syncing || self.poisoned || self.written <= self.durable {
            return None;
        }
        if now_us < self.synced_at_us.saturating_add(self.sync_interval_us) {
            return None;
        }
        let (file, segment) = self.written_to.clone()?;
        self.syncing = true;
        self.synced_at_us = now_us;
        Some(Sync { file, segment, end: self.written })
    }

    /// When [`next_sync`](Self::next_sync) will have something, in µs since 1970; `None`: not before the next write.
    #[must_use]
    pub fn sync_due_us(&self) -> Option<u64> {
        let due = !self.strict && !self.syncing && !self.poisoned && self.written > self.durable;
        due.then(|| self.synced_at_us.saturating_add(self.sync_interval_us))
    }

    /// Takes back a sync with its result.
    ///
    /// # Errors
    /// The sync failed, and the log is poisoned for good.
    pub fn sync_done(&mut self, sync: &Sync<S::File>, result: io::Result<()>) -> Result<(), Poisoned> {
        self.syncing = false;
        match result {
            Ok(()) => {
                self.stats.syncs += 1;
                if sync.end > self.durable {
                    self.set_durable(sync.end);
                }
                Ok(())
            }
            Err(error) => Err(self.poison("sync", sync.segment, 0, error)),
        }
    }

    /// Orderly stop: no more records; the open batch, a pad and the seal are still to be written by [`next_write`](Self::next_write) until
    /// [`is_idle`](Self::is_idle).
    pub fn close(&mut self) {
        if self.closed || self.poisoned {
            return;
        }
        self.closed = true;
        // A segment without records is a spare again at the next start.
        if self.active.tail > BLOCK || self.open.as_ref().is_some_and(|batch| !batch.is_empty()) {
            self.end_segment(SealReason::Closed);
        }
    }

    /// Whether nothing is in flight and nothing waits to be written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let nothing_open = self.open.as_ref().is_none_or(Batch::is_empty);
        !self.in_flight && !self.syncing && self.queue.is_empty() && nothing_open
    }

    /// Whether new mail would be taken at all, for a refusal at MAIL. Costs one relaxed load.
    ///
    /// # Errors
    /// What [`append_message`](Self::append_message) would say.
    pub fn admission(&self) -> Result<(), AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        if self.closed {
            return Err(AppendError::Closed);
        }
        if self.hung {
            return Err(AppendError::Hung);
        }
        match self.supply.trouble() {
            Some(low @ (NoSpace::FreeSpaceLow | NoSpace::FreeInodesLow)) => Err(AppendError::NoSpace(low)),
            // A full disk does not matter before the ready segments are used up.
            _ => Ok(()),
        }
    }

    /// Takes no records while a write is under way for longer than its owner, who has the clock, wants to wait. The write itself goes on: nothing
    /// that was appended before is given up.
    pub fn set_hung(&mut self, hung: bool) {
        self.hung = hung;
    }

    /// Everything below is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Replies with a gate not above may leave: [`durable`](Self::durable) under strict durability, what is written under relaxed.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        if self.strict { self.durable } else { self.written }
    }

    /// The durable LSN for other threads.
    #[must_use]
    pub fn durable_shared(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.durable_shared)
    }

    /// Attaches a consumer of committed messages; from now on they go into the queue.
    #[must_use]
    pub fn fresh(&self) -> FreshReceiver {
        self.fresh.receiver()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &AppenderStats {
        &self.stats
    }

    /// Segments ready ahead of the one in use.
    #[must_use]
    pub fn spares_ready(&self) -> usize {
        self.supply.ready()
    }

    /// Whether free space or inodes of the file system are below twice their marks.
    #[must_use]
    pub fn space_low(&self) -> bool {
        self.supply.is_low()
    }

    /// What keeps the helper from making segments, if anything.
    #[must_use]
    pub fn trouble(&self) -> Option<NoSpace> {
        self.supply.trouble()
    }

    /// Whether a write or sync has failed.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Whether the segment in use is written with direct I/O.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.active.file.direct()
    }

    /// Who the log is.
    #[must_use]
    pub fn identity(&self) -> &LogIdentity {
        &self.identity
    }

    /// Settings that it runs with.
    #[must_use]
    pub fn settings(&self) -> &LogSettings {
        &self.settings
    }

    fn append_record<'a>(
        &mut self,
        envelope: &EnvelopeRef<'_>,
        last: Option<ChunkRef>,
        body: impl Iterator<Item = &'a [u8]>,
        sizes: Sizes,
        accepted_at_us: u64,
    ) -> Result<Appended, AppendError> {
        let total = record_octets(sizes.envelope_max, sizes.body_max);
        self.make_room(total)?;
        let durable = self.durable;
        let Some(batch) = self.open.as_mut() else { return Err(AppendError::BatchFull) };
        let lsn = batch.lsn();
        let id = MessageId { node: self.identity.node, log: self.identity.log, lsn };
        let envelope_octets =
            encode(envelope, last, batch.room()).ok_or(AppendError::TooLarge { octets: total })?;
        let (body_octets, body_crc) =
            batch.body(envelope_octets, body, sizes.body_max).ok_or(AppendError::BodyTooLong)?;
        let (envelope_octets, envelope_crc) = batch.envelope(envelope_octets);
        let chunked = last.is_some() || !envelope.chunks.is_empty();
        if let Some(lowest) = envelope.chunks.iter().chain(last.as_ref()).map(ChunkRef::lsn).min() {
            batch.note_chunks(lowest);
        }
        batch.commit(RecordHeader {
            kind: RecordKind::Message,
            flags: flags(envelope, chunked),
            envelope_version: ENVELOPE_VERSION,
            lsn,
            message_id: id.packed(),
            durable,
            envelope_octets,
            body_octets,
            envelope_crc,
            body_crc,
            accepted_at_us,
        });
        let gate = batch.lsn();
        if chunked {
            self.close_chunks(envelope.chunks.iter().chain(last.as_ref()));
        }
        self.stats.messages += 1;
        self.stats.body_octets += u64::from(body_octets);
        Ok(Appended { lsn, gate, id })
    }

    /// The chunks belong to a message now, whose segment keeps theirs from here on; or to none.
    fn close_chunks<'a>(&mut self, chunks: impl IntoIterator<Item = &'a ChunkRef>) {
        for chunk in chunks {
            self.open_chunks.close(chunk.lsn());
        }
        self.tell_needed();
    }

    /// Tells the helper the lowest chunk that something outside of sealed segments needs.
    fn tell_needed(&self) {
        let open = self.open.as_ref().map_or(NO_CHUNKS, Batch::chunks_from);
        let sealing = self.sealing.iter().map(|segment| segment.summary.chunks_from).min();
        let needed = [
            self.open_chunks.oldest().unwrap_or(NO_CHUNKS),
            open,
            self.active.summary.chunks_from,
            sealing.unwrap_or(NO_CHUNKS),
        ];
        self.supply.set_needed_from(needed.into_iter().min().unwrap_or(NO_CHUNKS));
    }

    fn completion(&self, summary: SegmentSummary, octets: usize) -> Completion {
        Completion {
            durable: self.durable,
            committed: self.committed(),
            messages: summary.messages,
            records: summary.records,
            octets,
            more: !self.queue.is_empty(),
        }
    }

    fn set_durable(&mut self, durable: Lsn) {
        debug_assert!(durable >= self.durable, "the durable LSN never goes back");
        self.durable = durable;
        self.durable_shared.store(durable.get(), Ordering::Release);
    }

    fn poison(&mut self, what: &'static str, segment: u64, offset: u64, error: io::Error) -> Poisoned {
        self.poisoned = true;
        Poisoned { log: self.name.clone(), what, segment, offset, error }
    }

    fn count(&mut self, error: AppendError) -> AppendError {
        match error {
            AppendError::BatchFull => self.stats.batch_full += 1,
            AppendError::NoSpace(_) => self.stats.no_space += 1,
            _ => {}
        }
        error
    }
}

impl<F> Active<F> {
    fn new(ready: ReadySegment<F>) -> Self {
        Self { header: ready.header, file: ready.file, tail: BLOCK, summary: SegmentSummary::default() }
    }
}

/// Upper bounds of a record's parts, in octets.
#[derive(Clone, Copy)]
struct Sizes {
    envelope_max: usize,
    body_max: usize,
}

fn flags(envelope: &EnvelopeRef<'_>, chunked: bool) -> RecordFlags {
    let bits = [
        (envelope.findings.dot_lines > 0, RecordFlags::DOT_LINES),
        (envelope.findings.eight_bit, RecordFlags::EIGHT_BIT),
        (envelope.smtputf8, RecordFlags::SMTPUTF8),
        (chunked, RecordFlags::CHUNKED),
    ];
    bits.into_iter()
        .fold(RecordFlags::default(), |flags, (set, bit)| if set { flags.with(bit) } else { flags })
}

const _: () = assert!(CHUNK_OCTETS_MAX + RECORD_HEADER_OCTETS <= RECORD_OCTETS_MAX);
