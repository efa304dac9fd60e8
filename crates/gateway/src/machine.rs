//! What the process uses of the machine: looked up by the first core once a second, known to all of them.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use inrush_metrics::Process;

/// File descriptors that new connections leave to the log, the admin server and what an operator opens.
const DESCRIPTORS_KEPT: u64 = 64;

/// Memory and file descriptors of the process, and how much of them there may be.
#[derive(Debug)]
pub(crate) struct Machine {
    memory_max: u64,
    resident: AtomicU64,
    descriptors: AtomicU64,
    descriptors_max: AtomicU64,
}

impl Machine {
    /// `memory_max` = 0: three quarters of what the machine, or the control group of the process, has.
    pub(crate) fn new(memory_max: u64) -> Self {
        let derived =
            || memory(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"), &read("/proc/meminfo"));
        let machine = Self {
            memory_max: if memory_max == 0 { derived() / 4 * 3 } else { memory_max },
            resident: AtomicU64::default(),
            descriptors: AtomicU64::default(),
            descriptors_max: AtomicU64::default(),
        };
        machine.look();
        machine
    }

    /// Says so where there is little more memory than the process needs before the first connection.
    pub(crate) fn warn_of_small_memory(&self, soft_percent: u8) {
        let (resident, memory_max) = self.memory();
        if resident / u64::from(soft_percent).max(1) * 100 > memory_max / 8 * 7 {
            tracing::warn!(
                resident,
                memory_max,
                "memory_max leaves hardly any memory for connections and mail"
            );
        }
    }

    /// Asks the kernel.
    pub(crate) fn look(&self) {
        self.resident.store(Process::resident_bytes(), Relaxed);
        self.descriptors.store(Process::descriptors_told().unwrap_or_else(lowest_free_descriptor), Relaxed);
        self.descriptors_max.store(Process::descriptors_limit().saturating_sub(DESCRIPTORS_KEPT), Relaxed);
    }

    /// Octets of resident memory, and how many there may be; 0 = nobody knows.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.resident.load(Relaxed), self.memory_max)
    }

    /// Open file descriptors, and how many there may be when a connection is taken.
    pub(crate) fn descriptors(&self) -> (u64, u64) {
        (self.descriptors.load(Relaxed), self.descriptors_max.load(Relaxed))
    }
}

/// At least so many descriptors are open, and not many more, since the kernel gives out the lowest number that is free. Counting them would hold up a
/// core for too long.
fn lowest_free_descriptor() -> u64 {
    fs::File::open("/dev/null").map_or(0, |file| u64::try_from(file.as_raw_fd()).unwrap_or(0))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Octets of memory that the process may have: what the machine has (`MemTotal` of proc_meminfo(5)), or the least of the limits of its control
/// group and those above (`memory.max` of cgroups(7), version 2). 0 when nothing can be read.
fn memory(groups: &Path, of_process: &str, meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let machine = total.and_then(|kib| kib.trim().parse::<u64>().ok()).map(|kib| kib.saturating_mul(1024));
    // The line of version 2 has the number 0 and names no controllers.
    let group = of_process.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let limits = Path::new(group).ancestors().filter_map(|folder| {
        fs::read_to_string(groups.join(folder).join("memory.max")).ok()?.trim().parse::<u64>().ok()
    });
    limits.chain(machine).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        8192 kB\nMemFree:         1024 kB\n";

    #[test]
    fn the_least_limit_counts() {
        let groups = tempfile::tempdir().expect("a folder");
        let limit = |group: &str, text: &str| {
            let folder = groups.path().join(group);
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("memory.max"), text).expect("a file");
        };
        let of = |process: &str, meminfo: &str| memory(groups.path(), process, meminfo);
        limit("system.slice/inrush.service", "max\n");
        let process = "1:name=systemd:/x\n0::/system.slice/inrush.service\n";
        assert_eq!(of(process, MEMINFO), 8 << 20);
        limit("system.slice", "6291456\n");
        assert_eq!(of(process, MEMINFO), 6 << 20);
        limit("system.slice/inrush.service", "4194304\n");
        assert_eq!(of(process, MEMINFO), 4 << 20);
        assert_eq!(of(process, ""), 4 << 20);
        // In a container the group of the process is the root of what it sees.
        limit("", "2097152\n");
        assert_eq!(of("0::/\n", MEMINFO), 2 << 20);
        assert_eq!(of("", ""), 2 << 20);
        assert_eq!(memory(Path::new("/nowhere"), "", ""), 0);
    }

    #[test]
    fn what_this_process_uses() {
        let machine = Machine::new(0);
        let (resident, most) = machine.memory();
        assert!(resident > 0 && resident < most, "{resident} of {most}");
        let (open, most) = machine.descriptors();
        assert!(open > 0 && open < most, "{open} of {most}");
        assert_eq!(Machine::new(7).memory().1, 7);
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("there is one")).collect();
        assert!(lowest_free_descriptor() >= 50);
        drop(files);
    }
}
