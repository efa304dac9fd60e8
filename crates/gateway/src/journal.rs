//! A core's log as its sessions see it: append now, be woken when it is durable.
//!
//! ```text
//!   session ── append ──▶ Appender ── next_write ──▶ ring or committer thread ── write_done ──▶ committed
//!      ▲                                                                            │
//!      └───────────── Threshold: gate reached ◀── Turnstile: room again ◀───────────┘
//! ```
//! One write is under way at a time; what is appended meanwhile goes out with the next one. The journal belongs to one
//! core: cells, no locks.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::task::Context;
use std::time::Duration;

use inrush_log::{
    AppendError, Appended, Appender, AppenderStats, ChunkRef, Completion, DiskFile, EnvelopeRef, MessageId,
    NoSpace, Poisoned, RecoveryReport, Sync, Write,
};
use inrush_metrics::{CoreWriter, Counter, Gauge, Histogram, LogRefusal, Phase};

use crate::signal::{Signal, Threshold, Turnstile};

/// A write of the log to a real file.
pub(crate) type LogWrite = Write<DiskFile>;
/// A sync of the log to a real file.
pub(crate) type LogSync = Sync<DiskFile>;

/// How long the log makes messages wait, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delays {
    /// From a message that is ready to be appended to its durable write.
    pub(crate) wait: u64,
    /// One write, or one sync.
    pub(crate) write: u64,
}

/// A write within this time is prompt, in microseconds.
const PROMPT: u64 = 100_000;

/// The log of one core.
pub(crate) struct Journal {
    appender: RefCell<Appender>,
    metrics: CoreWriter,
    /// There is something to write.
    work: Signal,
    /// There may be room again after [`AppendError::BatchFull`] or while a segment is prepared.
    room: Turnstile,
    /// An append has found all batches full, and none has been written since.
    full: Cell<bool>,
    gates: Threshold,
    committed: Cell<u64>,
    failed: Cell<bool>,
    /// Since when the write or sync is under way that has been so for the longest.
    writing_since: Cell<Option<u64>>,
    syncing_since: Cell<Option<u64>>,
    hung: Cell<bool>,
    hangs: Cell<u64>,
    /// How long the last write took, in microseconds.
    last_write: Cell<u64>,
    /// Each message that is not yet committed, and when it was appended, in order.
    appended: RefCell<VecDeque<(u64, MessageId)>>,
    batches_at_last_tick: Cell<u64>,
    /// End of the last record that was appended.
    last_gate: Cell<u64>,
    /// The longest since they were last [taken](Self::take_delays).
    delays: Cell<Delays>,
    /// Why the last message was refused for want of space; until a segment is ready again.
    no_space: Cell<Option<NoSpace>>,
}

impl Journal {
    /// `spares` are the segments that are to be kept ready.
    pub(crate) fn new(
        appender: Appender,
        recovered: &[RecoveryReport],
        spares: u64,
        metrics: CoreWriter,
    ) -> Self {
        metrics.set(Gauge::LogSparesLimit, spares);
        let damage = || recovered.iter().flat_map(|report| &report.damage);
        let cut = recovered.iter().flat_map(|report| &report.cut);
        let set_aside = damage().filter(|damage| damage.kept_as.is_some());
        metrics.mirror(Counter::LogRecoveredRecords, recovered.iter().map(|report| report.records).sum());
        metrics
            .mirror(Counter::LogRecoveredBytes, recovered.iter().map(|report| report.octets_scanned).sum());
        metrics.mirror(Counter::LogCutBytes, cut.map(|cut| cut.octets).sum());
        metrics.mirror(Counter::LogDamage, damage().count() as u64);
        metrics.mirror(Counter::LogQuarantinedBytes, set_aside.map(|damage| damage.octets).sum());
        let committed = appender.committed().get();
        Self {
            appender: RefCell::new(appender),
            metrics,
            work: Signal::default(),
            room: Turnstile::default(),
            full: Cell::new(false),
            gates: Threshold::default(),
            committed: Cell::new(committed),
            failed: Cell::new(false),
            writing_since: Cell::new(None),
            syncing_since: Cell::new(None),
            hung: Cell::new(false),
            hangs: Cell::new(0),
            last_write: Cell::new(0),
            appended: RefCell::default(),
            batches_at_last_tick: Cell::new(0),
            last_gate: Cell::new(committed),
            delays: Cell::default(),
            no_space: Cell::new(None),
        }
    }

    /// Appends a message; `now` is the core's clock, `wall` the same in µs since 1970.
    pub(crate) fn append_message<'a>(
        &self,
        envelope: &EnvelopeRef<'_>,
        body: impl Iterator<Item = &'a [u8]>,
        body_octets_max: usize,
        now: u64,
        wall: u64,
    ) -> Result<Appended, AppendError> {
        let appended = self.appender.borrow_mut().append_message(envelope, body, body_octets_max, wall);
        let appended = appended.inspect_err(|error| self.note_full(error))?;
        self.appended.borrow_mut().push_back((now, appended.id));
        self.last_gate.set(appended.gate.get());
        self.no_space.set(None);
        self.work.raise();
        Ok(appended)
    }

    /// Appends a part of a message.
    pub(crate) fn append_chunk<'a>(
        &self,
        body: impl Iterator<Item = &'a [u8]>,
        body_octets_max: usize,
        wall: u64,
    ) -> Result<ChunkRef, AppendError> {
        let chunk = self.appender.borrow_mut().append_chunk(body, body_octets_max, wall);
        let chunk = chunk.inspect_err(|error| self.note_full(error))?;
        self.work.raise();
        Ok(chunk)
    }

    /// No message will list these chunks; those of a message that was appended are known to be its own.
    pub(crate) fn abandon_chunks(&self, chunks: &[ChunkRef]) {
        if !chunks.is_empty() {
            self.appender.borrow_mut().abandon_chunks(chunks);
        }
    }

    /// Why new mail is not taken now, if so; for a refusal before the mail data.
    pub(crate) fn admission(&self) -> Result<(), AppendError> {
        let appender = self.appender.borrow();
        appender.admission()?;
        match self.no_space.get() {
            Some(reason) if appender.spares_ready() == 0 => Err(AppendError::NoSpace(reason)),
            _ => Ok(()),
        }
    }

    /// Whether free space or inodes have come near to what the file system must keep.
    pub(crate) fn space_low(&self) -> bool {
        self.appender.borrow().space_low()
    }

    /// The longest delays since the last call, up to `now`: of what has ended, and of what is under way.
    pub(crate) fn take_delays(&self, now: u64) -> Delays {
        let oldest = self.appended.borrow().front().copied();
        self.note_delays(Delays {
            wait: oldest.map_or(0, |(since, _)| now.saturating_sub(since)),
            write: self.under_way_since().map_or(0, |since| now.saturating_sub(since)),
        });
        self.delays.take()
    }

    /// A message has been waiting for room for so long, in microseconds.
    pub(crate) fn waited_for_room(&self, wait: u64) {
        self.note_delays(Delays { wait, write: 0 });
    }

    fn note_delays(&self, seen: Delays) {
        let longest = self.delays.get();
        self.delays.set(Delays { wait: longest.wait.max(seen.wait), write: longest.write.max(seen.write) });
    }

    /// Since when the write or sync is under way that has been so for the longest.
    fn under_way_since(&self) -> Option<u64> {
        [self.writing_since.get(), self.syncing_since.get()].into_iter().flatten().min()
    }

    /// Counts a message that the log did not take, for good.
    pub(crate) fn refused(&self, error: AppendError) {
        if let AppendError::NoSpace(reason) = error {
            self.no_space.set(Some(reason));
        }
        self.metrics.count(match error {
            AppendError::NoSpace(NoSpace::FreeSpaceLow) => LogRefusal::FreeSpaceLow,
            AppendError::NoSpace(NoSpace::FreeInodesLow) => LogRefusal::FreeInodesLow,
            AppendError::NoSpace(NoSpace::DiskFull) => LogRefusal::DiskFull,
            AppendError::NoSpace(NoSpace::SegmentNotReady) => LogRefusal::SegmentNotReady,
            AppendError::NoSpace(_) => LogRefusal::SegmentFailed,
            AppendError::Poisoned | AppendError::Closed => LogRefusal::Poisoned,
            AppendError::Hung => LogRefusal::Hung,
            // Sizes are checked before: a mistake of ours, and the peer keeps its mail.
            error => return tracing::error!(%error, "the log did not take a message"),
        });
    }

    /// Replies with a gate not above may leave.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.get()
    }

    /// Whether a write or sync has failed: nothing more will be committed.
    pub(crate) fn failed(&self) -> bool {
        self.failed.get()
    }

    /// Whether the disk has not answered for so long that nobody waits for it any more.
    pub(crate) fn hung(&self) -> bool {
        self.hung.get()
    }

    /// Whether the disk takes a write in a time that nobody notices.
    pub(crate) fn is_prompt(&self) -> bool {
        self.last_write.get() <= PROMPT
    }

    /// Wakes the task of `context` when `gate` is committed or the log has failed.
    pub(crate) fn wake_at(&self, gate: u64, context: &Context<'_>) {
        self.gates.wake_at(gate, context);
    }

    /// Waits until an append that found no room is worth another try. When that has found room, or there is nothing to append after all, the next one who
    /// waits is to be [let through](Self::pass_on).
    pub(crate) async fn room(&self) {
        self.room.wait().await;
    }

    /// Lets the next one through who waits for room.
    pub(crate) fn pass_on(&self) {
        self.room.let_one();
    }

    /// Waits until there may be something to write.
    pub(crate) async fn work(&self) {
        self.work.wait().await;
    }

    /// The next write, which begins at `now`; `None` while one is under way or there is nothing to write.
    pub(crate) fn next_write(&self, now: u64) -> Option<LogWrite> {
        let write = self.appender.borrow_mut().next_write();
        self.writing_since.set(write.as_ref().map(|_| now));
        write
    }

    /// Takes back a write that was under way from `started` to `now`, which is `wall` in µs since 1970.
    ///
    /// # Errors
    /// The write failed and the log takes nothing more.
    pub(crate) fn write_done(
        &self,
        write: LogWrite,
        result: std::io::Result<usize>,
        started: u64,
        now: u64,
        wall: u64,
    ) -> Result<(), Poisoned> {
        self.writing_since.set(None);
        self.last_write.set(now.saturating_sub(started));
        let done = self.appender.borrow_mut().write_done(write, result);
        let completion = done.inspect_err(|_| self.fail())?;
        self.record(&completion, started, now, wall);
        self.advance();
        self.full.set(false);
        self.room.let_one();
        Ok(())
    }

    /// Under relaxed durability: the sync that is due at `now`.
    pub(crate) fn next_sync(&self, now: u64) -> Option<LogSync> {
        let sync = self.appender.borrow_mut().next_sync(now);
        self.syncing_since.set(sync.as_ref().map(|_| now));
        sync
    }

    /// Takes back a sync that has ended at `now`.
    ///
    /// # Errors
    /// The sync failed and the log takes nothing more.
    pub(crate) fn sync_done(
        &self,
        sync: &LogSync,
        result: std::io::Result<()>,
        now: u64,
    ) -> Result<(), Poisoned> {
        if let Some(since) = self.syncing_since.take() {
            self.note_delays(Delays { wait: 0, write: now.saturating_sub(since) });
            self.metrics.record(Histogram::LogSync, now.saturating_sub(since));
        }
        let done = self.appender.borrow_mut().sync_done(sync, result);
        if done.is_err() {
            self.fail();
        }
        done
    }

    /// Once a second: finds out whether the disk answers, lets those try again who wait for a segment, marks an idle log, shows its state. `now` is
    /// the core's clock, `wall` the same in µs since 1970.
    pub(crate) fn tick(&self, now: u64, wall: u64, hung_after: Duration) {
        self.watch_disk(now, hung_after);
        self.let_all();
        let batches = self.stats().batches;
        if self.batches_at_last_tick.replace(batches) == batches && !self.failed() {
            // No room for a mark is no harm: the next tick tries again.
            if self.appender.borrow_mut().append_mark(wall).is_ok() {
                self.work.raise();
            }
        }
        self.show();
    }

    /// Whether all batches are full: what is received now can only wait.
    pub(crate) fn is_full(&self) -> bool {
        self.full.get()
    }

    /// Wakes those who wait for room, after a segment became ready or free space came back.
    pub(crate) fn supplied(&self) {
        self.let_all();
    }

    /// Ends the log in order: what is open is written and the segment sealed.
    pub(crate) fn close(&self) {
        self.appender.borrow_mut().close();
        self.work.raise();
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_idle(&self) -> bool {
        self.failed() || self.appender.borrow().is_idle()
    }

    fn note_full(&self, error: &AppendError) {
        if matches!(error, AppendError::BatchFull) {
            self.full.set(true);
        }
    }

    fn let_all(&self) {
        self.full.set(false);
        self.room.let_all();
    }

    fn stats(&self) -> Ref<'_, AppenderStats> {
        Ref::map(self.appender.borrow(), Appender::stats)
    }

    /// A disk that does not answer is a reason to send mail elsewhere, not to give up: what was appended may still become durable, and when the
    /// disk answers again everything goes on.
    fn watch_disk(&self, now: u64, hung_after: Duration) {
        let hung = self
            .under_way_since()
            .is_some_and(|since| Duration::from_micros(now.saturating_sub(since)) > hung_after);
        if self.hung.replace(hung) == hung {
            return;
        }
        self.appender.borrow_mut().set_hung(hung);
        if hung {
            self.hangs.set(self.hangs.get() + 1);
            tracing::error!(hung_after = ?hung_after, "no answer from the disk: sessions that wait for it are ended");
            self.gates.reached(u64::MAX);
        } else {
            tracing::info!("the disk answers again");
        }
    }

    fn fail(&self) {
        self.failed.set(true);
        self.gates.reached(u64::MAX);
        self.let_all();
        self.show();
    }

    fn advance(&self) {
        let committed = self.appender.borrow().committed().get();
        if committed > self.committed.get() {
            self.committed.set(committed);
            self.gates.reached(committed);
        }
    }

    fn record(&self, completion: &Completion, started: u64, now: u64, wall: u64) {
        let took = now.saturating_sub(started);
        let mut appended = self.appended.borrow_mut();
        let oldest = appended.front().filter(|_| completion.messages > 0);
        self.note_delays(Delays { wait: oldest.map_or(0, |(at, _)| now.saturating_sub(*at)), write: took });
        for _ in 0..completion.messages {
            let Some((at, id)) = appended.pop_front() else { break };
            self.metrics.record_message(Phase::QueueWait, started.saturating_sub(at), id, wall);
            self.metrics.record_message(Phase::Commit, took, id, wall);
        }
        self.metrics.record(Histogram::LogCommit, took);
        if completion.records > 0 {
            self.metrics.record(Histogram::LogBatchBytes, completion.octets as u64);
            self.metrics.record(Histogram::LogBatchRecords, completion.records);
        }
    }

    /// Copies the log's own counters to where a scrape finds them.
    pub(crate) fn show(&self) {
        let appender = self.appender.borrow();
        let stats = appender.stats();
        let metrics = &self.metrics;
        metrics.mirror(Counter::LogBatches, stats.batches);
        metrics.mirror(Counter::LogRecords, stats.messages + stats.chunks + stats.marks);
        metrics.mirror(Counter::LogWrittenBytes, stats.octets_written);
        metrics.mirror(Counter::LogPaddingBytes, stats.pad_octets);
        metrics.mirror(Counter::LogSegmentsOpened, stats.segments_opened);
        metrics.set(Gauge::LogSpaceLow, u64::from(appender.space_low()));
        metrics.set(Gauge::LogHung, u64::from(self.hung.get()));
        metrics.mirror(Counter::LogHangs, self.hangs.get());
        let lag = self.last_gate.get().saturating_sub(self.committed.get());
        metrics.set(Gauge::LogDurableLagBytes, lag);
        metrics.set(Gauge::LogSparesReady, appender.spares_ready() as u64);
        metrics.set(Gauge::LogPoisoned, u64::from(self.failed.get()));
        metrics.set(Gauge::LogNoSpace, u64::from(matches!(self.admission(), Err(AppendError::NoSpace(_)))));
    }
}
