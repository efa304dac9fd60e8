//! What the kernel says about the process: read at scrape, never kept.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Use of the machine by the process. What cannot be read (no `/proc`) is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Octets of resident memory.
    pub resident_bytes: u64,
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
            resident_bytes: resident_pages().unwrap_or(0) * rustix::param::page_size() as u64,
            descriptors: open_descriptors(),
            descriptors_limit: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

/// Since Linux 6.2 the kernel says it as the size of the directory; before, the names in it are counted.
fn open_descriptors() -> u64 {
    const FOLDER: &str = "/proc/self/fd";
    match std::fs::metadata(FOLDER) {
        Ok(folder) if folder.len() > 0 => folder.len(),
        _ => std::fs::read_dir(FOLDER).map_or(0, |names| (names.count() as u64).saturating_sub(1)),
    }
}

/// Second field of `/proc/self/statm` (proc_pid_statm(5)).
fn resident_pages() -> Option<u64> {
    std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let before = Process::read();
        assert!(before.cpu_seconds > 0.0);
        assert!(before.resident_bytes > 100_000);
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
