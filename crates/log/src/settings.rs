//! Settings of the log, with their defaults.

use std::time::Duration;

use crate::layout::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LogKind {
    /// Every accepted message, in order.
    Arrival = 1,
    /// Messages still undelivered after the evacuation age.
    Retry = 2,
    /// Results per recipient.
    Outcome = 3,
}

impl LogKind {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Arrival, Self::Retry, Self::Outcome].into_iter().find(|kind| *kind as u8 == number)
    }

    /// First part of the directory name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Retry => "retry",
            Self::Outcome => "outcome",
        }
    }
}

/// When a reply may promise that a message is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After the durable write. Survives a power cut.
    #[default]
    Strict,
    /// After the write, synced every [`LogSettings::relaxed_sync_interval`]. A power cut may lose that much acknowledged mail.
    Relaxed,
}

/// Settings of the logs of one data directory. Plain values; [`Default`] is what runs without a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Size of a segment in octets: a power of two from 1 MiB to 4 GiB. Fixed for the life of a log.
    pub segment_bytes: u64,
    /// When a `250` may leave.
    pub durability: Durability,
    /// Interval between syncs under [`Durability::Relaxed`].
    pub relaxed_sync_interval: Duration,
    /// Segments kept ready ahead of the one in use, for each log.
    pub spares: u16,
    /// Rate at which spares are pre-written, in octets a second, while all of them are missing or no mail comes; it falls with the square of the share that is.
    /// A log that has none ready and less than half of its open segment left gets one that was not written.
    pub spare_fill_bytes_per_second: u64,
    /// New mail is refused with 452 below so many free octets on the file system; below twice as many the log says that space is low.
    pub free_bytes_min: u64,
    /// The same for inodes, where the file system has a fixed number of them.
    pub free_inodes_min: u64,
    /// Sealed segments whose newest message is older are retired; 0 = never. Not before every required consumer is past them.
    pub retention_age: Duration,
    /// The oldest sealed segments are retired while those of all logs together have more octets; 0 = never. Not before every required
    /// consumer is past them.
    pub retention_bytes: u64,
    /// The oldest sealed segments are retired while the file system has fewer free octets; 0 = never. Not before every required consumer
    /// is past them.
    pub retention_free_bytes: u64,
    /// Batch buffers of 1 MiB for the log itself; at least 2: one filling, one in flight.
    pub batch_buffers: u16,
    /// Batch buffers of 1 MiB more that consumers of fresh messages may hold on to.
    pub fresh_buffers: u16,
    /// Fresh messages that wait for a consumer at most.
    pub fresh_queue_messages: u32,
    /// Use O_DIRECT where the file system allows it.
    pub direct_io: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            durability: Durability::Strict,
            relaxed_sync_interval: Duration::from_millis(100),
            spares: 2,
            spare_fill_bytes_per_second: 64 << 20,
            free_bytes_min: 1 << 30,
            free_inodes_min: 1000,
            retention_age: Duration::ZERO,
            retention_bytes: 0,
            retention_free_bytes: 0,
            batch_buffers: 4,
            fresh_buffers: 4,
            fresh_queue_messages: 4096,
            direct_io: true,
        }
    }
}

/// A setting has a value that does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {rule}")]
pub struct InvalidSetting {
    /// Field of [`LogSettings`].
    pub name: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

/// Octets of a segment at most in the logs that are written besides those of the cores.
const SIDE_SEGMENT_BYTES: u64 = 32 << 20;

/// Number of the arrival log that takes what is made here: delivery status notifications. No core has it.
pub const INTERNAL_LOG: u8 = u8::MAX;

impl LogSettings {
    /// The settings for one log. Those that are not a core's have smaller segments, fewer spares and no consumers in memory, and are always
    /// durable. What they take makes room: they go on below the marks at which new mail is refused, reports and copies down to half of them, outcomes
    /// to the last.
    pub(crate) fn of(&self, kind: LogKind, log: u8) -> Self {
        if kind == LogKind::Arrival && log != INTERNAL_LOG {
            return self.clone();
        }
        let reserve = |mark: u64| if kind == LogKind::Outcome { 0 } else { mark / 2 };
        Self {
            segment_bytes: self.segment_bytes.min(SIDE_SEGMENT_BYTES),
            durability: Durability::Strict,
            spares: 1,
            fresh_buffers: 0,
            free_bytes_min: reserve(self.free_bytes_min),
            free_inodes_min: reserve(self.free_inodes_min),
            ..self.clone()
        }
    }

    /// Checks each value by itself.
    ///
    /// # Errors
    /// The first setting that does not work.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let segment = self.segment_bytes.is_power_of_two()
            && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes);
        let rules = [
            (segment, "segment_bytes", "a power of two from 1 MiB to 4 GiB"),
            (!self.relaxed_sync_interval.is_zero(), "relaxed_sync_interval", "more than 0"),
            ((1..=64).contains(&self.spares), "spares", "from 1 to 64"),
            (self.spare_fill_bytes_per_second >= 1 << 20, "spare_fill_bytes_per_second", "at least 1 MiB"),
            ((2..=64).contains(&self.batch_buffers), "batch_buffers", "from 2 to 64"),
            (self.fresh_buffers <= 1024, "fresh_buffers", "at most 1024"),
            ((1..=1 << 20).contains(&self.fresh_queue_messages), "fresh_queue_messages", "from 1 to 1048576"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, name, rule)) => Err(InvalidSetting { name, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_bad_values_are_named() {
        assert_eq!(LogSettings::default().check(), Ok(()));
        let bad = LogSettings { segment_bytes: 3 << 20, ..LogSettings::default() };
        assert_eq!(bad.check().map_err(|error| error.name), Err("segment_bytes"));
        let bad = LogSettings { spares: 0, ..LogSettings::default() };
        assert_eq!(bad.check().map_err(|error| error.name), Err("spares"));
    }
}
