//! The disk alone, written to as the log writes: direct, each write synced, into blocks that were all written before.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::fs::OFlags;

/// Direct writes want memory and places aligned to this.
const ALIGNMENT: usize = 4096;

/// Octets of a write while a file is prepared.
const FILL: usize = 1 << 20;

/// Times of some writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// From the planned instant to the end, in microseconds.
    pub(super) from_plan: Vec<f64>,
    /// From the start of the write to its end.
    pub(super) alone: Vec<f64>,
}

/// A file to write to.
pub(super) struct Disk {
    path: PathBuf,
    octets: u64,
}

impl Disk {
    /// A file of so many octets, all of them on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn new(path: PathBuf, octets: u64) -> anyhow::Result<Self> {
        let octets = octets / FILL as u64 * FILL as u64;
        let disk = Self { path, octets };
        File::create(&disk.path).with_context(|| disk.path.display().to_string())?;
        let file = disk.open()?;
        let block = Block::new(FILL);
        for at in (0..octets).step_by(FILL) {
            file.write_all_at(block.octets(), at)?;
        }
        Ok(disk)
    }

    fn open(&self) -> anyhow::Result<File> {
        let flags = i32::try_from((OFlags::DIRECT | OFlags::DSYNC).bits())?;
        OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&self.path)
            .with_context(|| self.path.display().to_string())
    }

    /// Writes `rate` blocks a second, each at its instant or as soon as the one before is done.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write_by_plan(
        &self,
        block_octets: usize,
        rate: u32,
        length: Duration,
    ) -> anyhow::Result<Times> {
        let (file, block, mut times) = (self.open()?, Block::new(block_octets), Times::default());
        let begin = Instant::now();
        for number in 0.. {
            let planned = Duration::from_secs(number) / rate;
            if planned >= length {
                break;
            }
            thread::sleep(planned.saturating_sub(begin.elapsed()));
            let write = Instant::now();
            file.write_all_at(block.octets(), number * block_octets as u64 % self.octets)?;
            times.alone.push(write.elapsed().as_secs_f64() * 1e6);
            times.from_plan.push((begin.elapsed() - planned).as_secs_f64() * 1e6);
        }
        Ok(times)
    }

    /// Writes one block after the other, and gives back the octets a second.
    fn write_on_and_on(&self, block_octets: usize, length: Duration) -> anyhow::Result<f64> {
        let (file, block) = (self.open()?, Block::new(block_octets));
        let (begin, mut written) = (Instant::now(), 0);
        while begin.elapsed() < length {
            file.write_all_at(block.octets(), written % self.octets)?;
            written += block_octets as u64;
        }
        Ok(written as f64 / begin.elapsed().as_secs_f64())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Octets a second that the file system of `folder` takes from `streams` threads, each writing blocks to a file of its own.
///
/// # Errors
/// A file cannot be written.
pub(super) fn throughput(
    folder: &Path,
    streams: usize,
    block_octets: usize,
    length: Duration,
) -> anyhow::Result<f64> {
    const FILE_OCTETS: u64 = 1 << 30;
    let disks = (0..streams).map(|stream| Disk::new(folder.join(format!("disk-{stream}")), FILE_OCTETS));
    let disks = disks.collect::<anyhow::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let writers: Vec<_> =
            disks.iter().map(|disk| scope.spawn(|| disk.write_on_and_on(block_octets, length))).collect();
        let rates = writers
            .into_iter()
            .map(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer has panicked"))?);
        rates.sum()
    })
}

/// Octets in memory that is aligned for direct writes.
struct Block {
    memory: Vec<u8>,
    start: usize,
    octets: usize,
}

impl Block {
    fn new(octets: usize) -> Self {
        let memory = vec![2; octets + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, octets }
    }

    fn octets(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.octets]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_written_in_its_turn() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let disk = Disk::new(folder.path().join("disk"), 2 << 20)?;
        let times = disk.write_by_plan(4096, 1000, Duration::from_millis(50))?;
        assert_eq!((times.from_plan.len(), times.alone.len()), (50, 50));
        assert!(times.from_plan.iter().zip(&times.alone).all(|(from_plan, alone)| from_plan >= alone));
        assert_eq!(fs::metadata(folder.path().join("disk"))?.len(), 2 << 20);
        drop(disk);
        assert!(throughput(folder.path(), 2, 1 << 20, Duration::from_millis(20))? > 0.0);
        assert_eq!(fs::read_dir(folder.path())?.count(), 0, "nothing is left");
        Ok(())
    }
}
