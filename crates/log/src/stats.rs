//! Counters of one appender. Plain numbers: one owner, who copies them where others can read them.

/// Counters since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppenderStats {
    /// Messages taken.
    pub messages: u64,
    /// Chunks taken.
    pub chunks: u64,
    /// Marks written.
    pub marks: u64,
    /// Records about messages taken: outcomes and checkpoints.
    pub notes: u64,
    /// Octets of bodies taken, chunks included.
    pub body_octets: u64,
    /// Batches written.
    pub batches: u64,
    /// Octets written, pads and seals included.
    pub octets_written: u64,
    /// Octets of batches that hold nothing.
    pub pad_octets: u64,
    /// Writes that wrote less than asked.
    pub short_writes: u64,
    /// Syncs under relaxed durability.
    pub syncs: u64,
    /// Segments begun.
    pub segments_opened: u64,
    /// Segments sealed.
    pub segments_sealed: u64,
    /// Appends that found all batch buffers in use.
    pub batch_full: u64,
    /// Appends refused for lack of space.
    pub no_space: u64,
    /// Messages handed to consumers in memory.
    pub fresh_published: u64,
    /// Messages left to the consumers' cursors, since queue or buffers were used up.
    pub fresh_skipped: u64,
    /// Durable LSN that the last mark has told, once it is durable itself.
    pub(crate) mark_at: u64,
}
