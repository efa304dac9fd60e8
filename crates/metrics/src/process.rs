//! What the kernel says about the process: read at scrape, never kept.

use std::io::Read as _;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

const DESCRIPTORS: &str = "/proc/self/fd";

/// Use of the machine by the process. What cannot be read (no `/proc`) is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Octets of resident memory.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors, without one that counting them may take.
    pub descriptors: u64,
    /// File descriptors that may be open (soft limit).
    pub descriptors_limit: u64,
}

impl Process {
    /// Reads the current values.
    #[must_use]
    pub fn read() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: Self::resident_bytes(),
            threads: threads(),
            descriptors: Self::descriptors_told().unwrap_or_else(names_of_descriptors),
            descriptors_limit: Self::descriptors_limit(),
        }
    }

    /// Octets of resident memory.
    #[must_use]
    pub fn resident_bytes() -> u64 {
        resident_pages().unwrap_or(0) * rustix::param::page_size() as u64
    }

    /// Open file descriptors, where the kernel has the number at hand: since Linux 6.2 as the size of the directory.
    #[must_use]
    pub fn descriptors_told() -> Option<u64> {
        std::fs::metadata(DESCRIPTORS).ok().map(|folder| folder.len()).filter(|count| *count > 0)
    }

    /// File descriptors that may be open (soft limit).
    #[must_use]
    pub fn descriptors_limit() -> u64 {
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
    }
}

/// The field `Threads` of proc_pid_status(5).
fn threads() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// Takes some 20 ms for 20,000 of them.
fn names_of_descriptors() -> u64 {
    std::fs::read_dir(DESCRIPTORS).map_or(0, |names| (names.count() as u64).saturating_sub(1))
}

/// Second field of `/proc/self/statm` (proc_pid_statm(5)), whose seven numbers fit on the stack: a core asks for them, and it asks for no memory.
fn resident_pages() -> Option<u64> {
    let mut text = [0; 7 * 21];
    let octets = std::fs::File::open("/proc/self/statm").ok()?.read(&mut text).ok()?;
    std::str::from_utf8(&text[..octets]).ok()?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let before = Process::read();
        assert!(before.cpu_seconds > 0.0);
        assert!(before.resident_bytes > 100_000);
        assert!(before.threads >= 1);
        assert!(before.descriptors >= 3);
        assert!(before.descriptors_limit >= before.descriptors);
        let files: Vec<_> =
            (0..100).map(|_| std::fs::File::open("/dev/null").expect("there is one")).collect();
        // Other tests of this process open files, too.
        assert!(Process::read().descriptors > before.descriptors + 50);
        drop(files);
        assert!(Process::read().cpu_seconds >= before.cpu_seconds);
    }
}
