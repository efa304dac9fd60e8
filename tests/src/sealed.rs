//! Logs that look large: sealed segments with header and seal, and a hole between them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use inrush_log::{
    BLOCK_OCTETS, LogIdentity, LogKind, LogMeta, Lsn, NO_CHUNKS, Seal, SealReason, SegmentHeader,
    SegmentSummary, log_directory, segment_name,
};

/// Makes log 0 of node 0 in `data`, with so many sealed segments of `segment_bytes`; each says that it holds one message.
///
/// # Panics
/// The directory cannot be written.
pub fn log(data: &Path, segments: u64, segment_bytes: u64) {
    let dir = data.join(log_directory(LogKind::Arrival, 0));
    let made = || -> std::io::Result<()> {
        fs::create_dir_all(&dir)?;
        let identity = LogIdentity { uuid: [7; 16], kind: LogKind::Arrival, log: 0, node: 0, segment_bytes };
        let meta = LogMeta { identity, generation: 1, created_at_us: 1, next_number_min: 1 };
        let mut slots = vec![0; 2 * BLOCK_OCTETS];
        meta.encode(&mut slots[..BLOCK_OCTETS]);
        LogMeta { generation: 2, ..meta }.encode(&mut slots[BLOCK_OCTETS..]);
        fs::write(dir.join("log.meta"), slots)?;
        for number in 1..=segments {
            let header = SegmentHeader { identity, number, salt: number, created_at_us: number, lives: 0 };
            let block = BLOCK_OCTETS as u64;
            let (accepted_min_us, accepted_max_us) = (number * 1_000_000, number * 1_000_000);
            let seal = Seal {
                reason: SealReason::Full,
                end: Lsn::new(number * segment_bytes + block),
                summary: SegmentSummary {
                    records: 1,
                    messages: 1,
                    accepted_min_us,
                    accepted_max_us,
                    chunks_from: NO_CHUNKS,
                },
                sealed_at_us: number,
            };
            let file = File::create(dir.join(segment_name(number)))?;
            file.set_len(segment_bytes)?;
            let mut octets = vec![0; BLOCK_OCTETS];
            header.encode(&mut octets);
            file.write_all_at(&octets, 0)?;
            seal.encode(&header, &mut octets);
            file.write_all_at(&octets, segment_bytes - block)?;
        }
        Ok(())
    };
    made().unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
}
