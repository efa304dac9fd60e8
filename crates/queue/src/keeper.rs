//! Moves the cursors of the queue, by which the logs learn which segments nobody needs any more.
//!
//! A cursor is saved with a sync of its own: on a thread that may wait, and only when it has come further.

use std::collections::HashMap;

use inrush_log::{
    ConsumerKind, Cursor, CursorError, DiskStorage, LogKind, Lsn, OpenError, Reader, Storage, holds_log,
    log_directory, parse_log_directory,
};

use crate::fold::{CHECKPOINT_CONSUMER, HISTORY_CONSUMER, QUEUE_CONSUMER};
use crate::{Positions, QueueSettings};

/// Why cursors were not saved. What they keep stays; the next call tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// A cursor.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// A log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The disk.
    #[error("data directory: {0}")]
    Io(#[from] std::io::Error),
}

/// The cursors of the queue.
pub struct Keeper<S: Storage = DiskStorage> {
    storage: S,
    settings: QueueSettings,
    /// By directory and name.
    cursors: HashMap<(String, &'static str), Cursor<S>>,
    /// The last whole checkpoint: it is told of once.
    checkpoint: Lsn,
}

impl<S: Storage> Keeper<S> {
    /// Takes the cursors of every log that there is; makes those that are missing, at the first message of their log.
    ///
    /// # Errors
    /// One cannot be had; see [`KeeperError`].
    pub fn open(storage: S, settings: &QueueSettings) -> Result<Self, KeeperError> {
        let mut cursors = HashMap::new();
        for dir in storage.list("")? {
            let names: &[&'static str] = match parse_log_directory(&dir) {
                Some((LogKind::Arrival | LogKind::Retry, _)) => &[QUEUE_CONSUMER],
                Some((LogKind::Outcome, _)) => &[CHECKPOINT_CONSUMER, HISTORY_CONSUMER],
                None => continue,
            };
            if !holds_log(&storage, &dir)? {
                continue;
            }
            for &name in names {
                let cursor = Cursor::on(storage.clone(), &dir, name, ConsumerKind::Required)?;
                cursors.insert((dir.clone(), name), cursor);
            }
        }
        Ok(Self { storage, settings: settings.clone(), cursors, checkpoint: Lsn::ZERO })
    }

    /// Saves how far the logs are done with. What is kept for a replay or as history stays behind.
    ///
    /// # Errors
    /// A cursor or log failed; the others are saved.
    pub fn save(&mut self, positions: &Positions, now_us: u64) -> Result<(), KeeperError> {
        let mut result = Ok(());
        for (log, position) in &positions.arrival {
            let dir = log_directory(LogKind::Arrival, *log);
            let kept = self.kept(&dir, *position, now_us, micros(self.settings.keep_delivered), u64::MAX);
            result = result.and(kept.and_then(|to| self.advance(&dir, QUEUE_CONSUMER, to)));
        }
        if let Some(position) = positions.retry {
            let dir = log_directory(LogKind::Retry, 0);
            result = result.and(self.advance(&dir, QUEUE_CONSUMER, position));
        }
        let outcome = log_directory(LogKind::Outcome, 0);
        self.checkpoint = self.checkpoint.max(positions.checkpoint.unwrap_or_default());
        result = result.and(self.advance(&outcome, CHECKPOINT_CONSUMER, self.checkpoint));
        if let Some(checkpoint) =
            self.cursors.get(&(outcome.clone(), CHECKPOINT_CONSUMER)).map(Cursor::position)
        {
            let (age, octets) = (micros(self.settings.history_age), self.settings.history_bytes);
            let kept = self.kept(&outcome, checkpoint, now_us, age, octets);
            result = result.and(kept.and_then(|to| self.advance(&outcome, HISTORY_CONSUMER, to)));
        }
        result
    }

    fn advance(&mut self, dir: &str, name: &'static str, to: Lsn) -> Result<(), KeeperError> {
        match self.cursors.get_mut(&(dir.to_owned(), name)) {
            Some(cursor) if to > cursor.position() => Ok(cursor.save(to)?),
            _ => Ok(()),
        }
    }

    /// `position`, or the begin of an earlier segment that is kept: one sealed not longer than `age_us` ago, among the newest `octets`.
    fn kept(
        &self,
        dir: &str,
        position: Lsn,
        now_us: u64,
        age_us: u64,
        octets: u64,
    ) -> Result<Lsn, KeeperError> {
        if age_us == 0 {
            return Ok(position);
        }
        let reader = Reader::on(self.storage.clone(), dir)?;
        let segment_bytes = reader.identity().segment_bytes;
        let mut left = octets;
        let mut from = position;
        for segment in reader.segments().iter().rev() {
            left = left.saturating_sub(segment.octets);
            let young = segment.seal.is_none_or(|seal| seal.sealed_at_us.saturating_add(age_us) >= now_us);
            if left == 0 || !young {
                break;
            }
            from = from.min(Lsn::new(segment.number * segment_bytes));
        }
        Ok(from)
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
