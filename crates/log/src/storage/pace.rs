//! Reads that make way for a gateway that takes mail.
//!
//! A commit waits for whatever the disk is busy with, so tools at full speed would halve what a gateway can take. While it takes mail, reads are short, one at a
//! time, and followed by a rest; while it does not, they are as fast as they can be. Whether it does is seen from outside, without asking it: each
//! commit changes the time of a segment file.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::directory::parse_log_directory;
use crate::segment::{segment_name, segment_number};

/// A log took mail if a segment has changed within this time.
const RECENT: Duration = Duration::from_millis(200);
/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How often it is found out which files to look at.
const LIST_INTERVAL: Duration = Duration::from_secs(1);
/// Newest segments among which the one in use is; more than can be ready ahead of it.
const NEWEST: usize = 66;
/// Octets of one read beside a gateway that takes mail.
const SHORT_OCTETS: usize = 128 * 1024;
/// Longest rest: also beside a busy disk a reader gets on.
const REST_MAX: Duration = Duration::from_millis(25);
/// Rest after such a read, as a multiple of its time: the disk has 15 of 16 parts of the time for others.
const RESTS: u32 = 15;

/// Which files tell of commits, and what they told last.
#[derive(Debug, Default)]
struct Watch {
    /// Of each log the segment that changed last and the one behind it.
    files: Vec<PathBuf>,
    listed_at: Option<Instant>,
    looked_at: Option<Instant>,
    busy: bool,
}

/// Shared by all files of a storage.
#[derive(Debug)]
pub(crate) struct Pace {
    root: PathBuf,
    watch: Mutex<Watch>,
}

impl Pace {
    /// Makes way for whoever writes to the logs in `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, watch: Mutex::default() }
    }

    /// Fills `buffer` by `read`, which is told how many octets it has to leave out; fewer octets than that only at the end of the file.
    pub(crate) fn read(
        &self,
        buffer: &mut [u8],
        read: impl Fn(&mut [u8], usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.look(&self.root);
            if !watch.busy {
                drop(watch);
                return Ok(done + read(&mut buffer[done..], done)?);
            }
            // With the lock held, so that there is one read at a time, and one rest after each.
            let end = buffer.len().min(done + SHORT_OCTETS);
            let begun = Instant::now();
            let octets = read(&mut buffer[done..end], done)?;
            std::thread::sleep((begun.elapsed() * RESTS).min(REST_MAX));
            done += octets;
            if octets == 0 {
                break;
            }
        }
        Ok(done)
    }
}

impl Watch {
    fn look(&mut self, root: &std::path::Path) {
        let now = Instant::now();
        let due =
            |at: Option<Instant>, interval| at.is_none_or(|at: Instant| now.duration_since(at) >= interval);
        let listing = due(self.listed_at, LIST_INTERVAL);
        if listing {
            self.list(root, now);
        }
        if listing || due(self.looked_at, LOOK_INTERVAL) {
            self.looked_at = Some(now);
            let was_busy = self.busy;
            self.busy = self.is_changing();
            // A fast gateway fills both segments between two listings.
            if was_busy && !self.busy && !listing {
                self.list(root, now);
                self.busy = self.is_changing();
            }
        }
    }

    fn list(&mut self, root: &std::path::Path, now: Instant) {
        self.listed_at = Some(now);
        // A directory that cannot be listed is nobody's log.
        self.files = list(root).unwrap_or_default();
    }

    fn is_changing(&self) -> bool {
        self.files.iter().any(|file| changed(file).is_some_and(is_recent))
    }
}

fn changed(file: &std::path::Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|found| found.modified()).ok()
}

fn is_recent(at: SystemTime) -> bool {
    // A clock that was set back makes it look like the future; then it is taken as recent until the clock is there.
    at.elapsed().map_or(true, |elapsed| elapsed < RECENT)
}

/// Of each log the newest segment by time, and the next one by number.
fn list(root: &std::path::Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for log in fs::read_dir(root)? {
        let log = log?;
        if log.file_name().to_str().and_then(parse_log_directory).is_none() {
            continue;
        }
        let mut numbers = Vec::new();
        for segment in fs::read_dir(log.path())? {
            numbers.extend(segment?.file_name().to_str().and_then(segment_number));
        }
        numbers.sort_unstable();
        let newest = &numbers[numbers.len().saturating_sub(NEWEST)..];
        let file = |number: u64| log.path().join(segment_name(number));
        if let Some(number) = newest.iter().copied().max_by_key(|number| changed(&file(*number))) {
            files.extend([file(number), file(number + 1)]);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_busy_while_a_segment_changes() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("arrival-00");
        fs::create_dir(&log)?;
        for number in 1..=3 {
            let file = fs::File::create(log.join(segment_name(number)))?;
            // The third one is ready, and was made before the second one took mail.
            let ages = [0, 3000, 60, 2000];
            file.set_modified(
                SystemTime::now() - Duration::from_secs(ages[usize::try_from(number).unwrap_or(0)]),
            )?;
        }
        fs::write(folder.path().join("arrival-00.txt"), b"nobody's business")?;
        let mut watch = Watch::default();
        watch.look(folder.path());
        assert_eq!(watch.files, [log.join(segment_name(2)), log.join(segment_name(3))]);
        assert!(!watch.busy);
        let touch = |number| {
            fs::File::options()
                .write(true)
                .open(log.join(segment_name(number)))?
                .set_modified(SystemTime::now())
        };
        touch(3)?;
        watch.looked_at = None;
        watch.look(folder.path());
        assert!(watch.busy);
        // Both are full before the next listing.
        for number in 2..=3 {
            fs::File::options()
                .write(true)
                .open(log.join(segment_name(number)))?
                .set_modified(SystemTime::now() - Duration::from_secs(1))?;
        }
        fs::write(log.join(segment_name(4)), b"")?;
        watch.looked_at = None;
        watch.look(folder.path());
        assert!(watch.busy);
        assert_eq!(watch.files[0], log.join(segment_name(4)));
        Ok(())
    }

    #[test]
    fn every_octet_is_read_at_either_pace() -> io::Result<()> {
        let content: Vec<u8> = (0_u32..200_000).flat_map(u32::to_le_bytes).collect();
        for busy in [false, true] {
            let pace = Pace::new(PathBuf::from("/nowhere"));
            let now = Some(Instant::now() + Duration::from_secs(600));
            // Looked at in the future, so that it stays as it is.
            *pace.watch.lock().unwrap_or_else(PoisonError::into_inner) =
                Watch { files: Vec::new(), listed_at: now, looked_at: now, busy };
            let mut buffer = vec![0; content.len() + 10];
            let octets = pace.read(&mut buffer, |part, done| {
                let octets = part.len().min(content.len() - done);
                part[..octets].copy_from_slice(&content[done..done + octets]);
                Ok(octets)
            })?;
            assert!(octets == content.len() && buffer[..octets] == content[..], "busy: {busy}");
        }
        Ok(())
    }
}
