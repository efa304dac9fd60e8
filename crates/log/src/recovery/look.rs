//! First look of recovery at the segments of a log: what stands under each name. Nothing is changed, and no file stays open: there may be more of
//! them than a process may open.

use std::io;

use super::report::DamageKind;
use crate::buffer::AlignedBuffer;
use crate::directory::{OpenError, Place};
use crate::layout::{BLOCK_OCTETS, seal_offset};
use crate::segment::{BlockError, LogIdentity, Seal, SegmentHeader, segment_name};
use crate::storage::{OpenMode, Storage, StorageFile, is_bad_sector, read_full};

/// Segments get their numbers in order: what stands so far above all others has its number from somebody else.
const NUMBERS_LEFT_OUT_MAX: u64 = 1 << 16;

/// A segment whose header holds.
pub(super) struct Found {
    pub(super) header: SegmentHeader,
    pub(super) octets: u64,
    pub(super) seal: Result<Seal, BlockError>,
}

/// What has the name of a segment.
pub(super) struct Look {
    pub(super) number: u64,
    /// Length of the file.
    pub(super) octets: u64,
    pub(super) standing: Standing,
}

/// How it stands with it.
pub(super) enum Standing {
    /// Segment of this log and number.
    Holds { header: SegmentHeader, seal: Result<Seal, BlockError> },
    /// Segment of another log that has kind, number, node and segment size of this one.
    Namesake,
    /// Cannot be used.
    Useless(DamageKind),
    /// The disk does not give header or seal.
    Unreadable(OpenError),
}

/// Looks at header and seal of a segment.
pub(super) fn look<S: Storage>(
    storage: &S,
    dir: &str,
    identity: &LogIdentity,
    number: u64,
) -> Result<Look, OpenError> {
    let path = format!("{dir}/{}", segment_name(number));
    let place = Place::new(storage, &path);
    let mut block = AlignedBuffer::new(BLOCK_OCTETS);
    // Some disks tell at the open, others at the first read.
    let opened = storage.open(&path, OpenMode::Read).and_then(|file| {
        read_full(&file, &mut block, 0)?;
        Ok(file)
    });
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Ok(Look { number, octets: 0, standing: Standing::Useless(DamageKind::NoFile) });
        }
        Err(error) if is_bad_sector(&error) => {
            let error = place.io("reading a segment header", error);
            return Ok(Look {
                number,
                octets: identity.segment_bytes,
                standing: Standing::Unreadable(error),
            });
        }
        opened => opened.map_err(|error| place.io("reading a segment header", error))?,
    };
    let octets = file.octets().map_err(|error| place.io("looking at a segment", error))?;
    let standing = match SegmentHeader::decode(&block) {
        Ok(header) if header.identity != *identity => {
            let renamed = LogIdentity { uuid: identity.uuid, ..header.identity };
            if renamed == *identity {
                Standing::Namesake
            } else {
                Standing::Useless(DamageKind::ForeignSegment)
            }
        }
        Ok(header) if header.number != number => {
            Standing::Useless(DamageKind::MisplacedSegment { number: header.number })
        }
        Ok(header) => match read_full(&file, &mut block, seal_offset(identity.segment_bytes)) {
            Ok(BLOCK_OCTETS) => Standing::Holds { header, seal: Seal::decode(&header, &block) },
            Ok(_) => Standing::Holds { header, seal: Err(BlockError::Empty) },
            Err(error) if is_bad_sector(&error) => Standing::Unreadable(place.io("reading a seal", error)),
            Err(error) => return Err(place.io("reading a seal", error)),
        },
        Err(BlockError::Version(version)) => {
            return Err(OpenError::NewerFormat { place: place.text(), version });
        }
        // A header is durable before its name: zeros are damage as well.
        Err(_) => Standing::Useless(DamageKind::SegmentHeader),
    };
    Ok(Look { number, octets, standing })
}

/// The number after all that may have been given out; `least` is what `log.meta` tells. `looks` come in the order of their numbers.
pub(super) fn next_number(least: u64, looks: &[Look]) -> u64 {
    let holding = looks.iter().filter(|look| matches!(look.standing, Standing::Holds { .. }));
    let mut next = holding.map(|look| look.number + 1).max().unwrap_or(0).max(least);
    for look in looks {
        if look.number >= next && look.number - next <= NUMBERS_LEFT_OUT_MAX {
            next = look.number + 1;
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_from_somebody_else_is_not_followed() {
        let look =
            |number| Look { number, octets: 0, standing: Standing::Useless(DamageKind::SegmentHeader) };
        assert_eq!(next_number(1, &[]), 1);
        assert_eq!(next_number(5, &[look(1), look(2)]), 5);
        // Their headers are gone, but they were used.
        assert_eq!(next_number(1, &[look(1), look(2), look(60_000), look(120_000)]), 120_001);
        assert_eq!(next_number(4, &[look(2), look(1 << 40), look(u64::MAX)]), 4);
    }
}
