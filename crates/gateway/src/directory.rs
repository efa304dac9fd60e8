//! What concerns the data directory as a whole and no single core: shown by the first core.

use std::sync::Arc;

use inrush_log::{DirectoryStatus, LogSettings, RetireReason, StatusHandle};
use inrush_metrics::{Consumer, CoreWriter, Counter, Gauge, Metrics, Retired};

/// The data directory, as the first core looks at it.
pub(crate) struct Directory {
    status: StatusHandle,
    metrics: Arc<Metrics>,
    /// Free octets and inodes that the file system must keep.
    free_min: (u64, u64),
}

impl Directory {
    pub(crate) fn new(status: StatusHandle, metrics: Arc<Metrics>, log: &LogSettings) -> Self {
        Self { status, metrics, free_min: (log.free_bytes_min, log.free_inodes_min) }
    }

    /// Copies the status to where a scrape finds it; gives back how many sealed segments there are.
    pub(crate) fn show(&self, writer: &CoreWriter) -> u64 {
        let status = self.status.get();
        for reason in RetireReason::ALL {
            writer.mirror(retired(reason), status.retired[reason as usize]);
        }
        writer.mirror(Counter::LogSparesRecycled, status.recycled);
        writer.mirror(Counter::LogRetireErrors, status.retire_errors);
        writer.set(Gauge::LogSealedBytes, status.sealed_bytes);
        writer.set(Gauge::LogSparesWaiting, status.spares_waiting);
        writer.set(Gauge::LogFreeBytes, status.free_bytes);
        writer.set(Gauge::LogFreeBytesLimit, self.free_min.0);
        writer.set(Gauge::LogFreeInodes, status.free_inodes);
        writer.set(Gauge::LogFreeInodesLimit, self.free_min.1);
        writer.set(Gauge::LogAdopted, status.logs_adopted);
        writer.set(Gauge::LogClockDistrusted, u64::from(status.clock_distrusted));
        let segments = status.segments_sealed;
        self.metrics.set_consumers(consumers(status));
        segments
    }
}

fn retired(reason: RetireReason) -> Retired {
    match reason {
        RetireReason::Consumed => Retired::Consumed,
        RetireReason::Age => Retired::Age,
        RetireReason::Bytes => Retired::Bytes,
        RetireReason::FreeBytes => Retired::FreeBytes,
    }
}

fn consumers(status: DirectoryStatus) -> Vec<Consumer> {
    let consumers = status.consumers.into_iter().map(|consumer| Consumer {
        name: consumer.name,
        log: consumer.log,
        lag_bytes: consumer.lag_bytes,
        oldest_at_us: consumer.oldest_at_us,
        segments_lost: consumer.segments_lost,
        damaged: consumer.damaged,
    });
    consumers.collect()
}
