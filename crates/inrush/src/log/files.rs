//! The files of a log that are no segments: spares, and what recovery has put aside.

use std::fs;
use std::io;
use std::path::Path;

use inrush_log::segment_number;

/// Where recovery puts aside what must not stay among the segments.
const DAMAGED: &str = "damaged";

/// What a file in `damaged/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A whole segment that was damaged or foreign.
    Segment,
    /// A copy of a damaged record that had been acknowledged.
    Record,
    /// What stood behind the last whole record after a crash; it was never acknowledged.
    Tail,
    /// Nothing of ours.
    Other,
}

impl Kept {
    /// What the name says: `NNNNNNNNNNNNNNNN.seg-µs`, `record-NNNNNNNNNNNNNNNN-offset.bin` or `tail-…`.
    fn of(name: &str) -> Self {
        let segment = name.split_once("-").is_some_and(|(segment, _)| segment_number(segment).is_some());
        let copy = |what: &str| name.strip_prefix(what).is_some_and(|rest| rest.ends_with(".bin"));
        match name {
            _ if segment => Self::Segment,
            _ if copy("record-") => Self::Record,
            _ if copy("tail-") => Self::Tail,
            _ => Self::Other,
        }
    }

    /// Whether acknowledged mail was concerned.
    pub(super) fn is_damage(self) -> bool {
        matches!(self, Self::Segment | Self::Record)
    }

    /// The word for it in output.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Segment => "quarantined_segment",
            Self::Record => "quarantined_record",
            Self::Tail => "cut_tail",
            Self::Other => "other_file",
        }
    }
}

/// A file in `damaged/`.
pub(super) struct KeptFile {
    /// Name, with `damaged/` in front of it.
    pub(super) name: String,
    pub(super) kept: Kept,
    pub(super) octets: u64,
}

/// Files in `damaged/` of the log in `dir`, sorted by name; none where there is no such directory.
pub(super) fn kept(dir: &Path) -> io::Result<Vec<KeptFile>> {
    let entries = match fs::read_dir(dir.join(DAMAGED)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (kept, octets) = (Kept::of(&name), entry.metadata()?.len());
        files.push(KeptFile { name: format!("{DAMAGED}/{name}"), kept, octets });
    }
    files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// Spares of the log in `dir`.
pub(super) fn spares(dir: &Path) -> io::Result<usize> {
    let mut spares = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("spare-")?.strip_suffix(".seg")?.parse::<u64>().ok());
        spares += usize::from(number.is_some());
    }
    Ok(spares)
}

/// Whether there is anything in a log's directory: one that was made just before a crash is empty.
pub(super) fn holds_a_log(dir: &Path) -> bool {
    let is_ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name == "log.meta" || segment_number(name).is_some())
        })
    };
    // One that cannot be looked into has to be named by whoever opens it.
    fs::read_dir(dir).map_or(true, |mut entries| entries.any(is_ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_was_put_aside() {
        for (name, kept) in [
            ("0000000000000042.seg-1700000000000000", Kept::Segment),
            ("record-0000000000000042-4096.bin", Kept::Record),
            ("tail-0000000000000042-4096.bin", Kept::Tail),
            ("tail-of-something", Kept::Other),
            ("42.seg-17", Kept::Other),
        ] {
            assert_eq!(Kept::of(name), kept, "{name}");
        }
    }
}
