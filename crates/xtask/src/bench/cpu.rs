//! Processor time of a server: user and system, all threads, all processes, those that have ended included.
//!
//! A control group of its own counts exactly that (`cpu.stat` of cgroup v2, in microseconds). Where none can be made the
//! process tree is summed from `/proc/PID/stat`, ended children by their parents' `cutime` and `cstime`, in clock ticks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;

/// `USER_HZ`, the unit of `/proc/PID/stat`; 100 on every Linux that this runs on (proc(5)).
const TICKS_A_SECOND: u64 = 100;

/// How often a control group is removed whose last processes are on their way out, and the time between.
const REMOVALS_MAX: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

/// Groups that were made so far.
static GROUPS: AtomicU32 = AtomicU32::new(0);

/// A way to count; one for each server.
pub(crate) enum Meter {
    /// The control group that the server was started in.
    Group(PathBuf),
    /// The tree below this process.
    Tree(Option<u32>),
}

impl Meter {
    /// A control group, or else the process tree.
    pub(crate) fn new(name: &str) -> Self {
        let folders = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        for folder in folders.into_iter().filter(|folder| folder.join("cgroup.procs").exists()) {
            // Two servers of one name are two groups.
            let number = GROUPS.fetch_add(1, Ordering::Relaxed);
            let group = folder.join(format!("inrush-bench-{}-{number}-{name}", std::process::id()));
            if fs::create_dir(&group).is_ok() {
                if usage(&group).is_ok() {
                    return Self::Group(group);
                }
                // Without `cpu.stat` it is of no use; an empty group can always be removed.
                let _ = fs::remove_dir(&group);
            }
        }
        Self::Tree(None)
    }

    /// What to start the server through so that it is counted.
    pub(crate) fn launcher(&self) -> Vec<String> {
        match self {
            Self::Group(group) => {
                let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.display());
                ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
            }
            Self::Tree(_) => Vec::new(),
        }
    }

    /// The process at the top of the server's tree.
    pub(crate) fn started(&mut self, pid: u32) {
        if let Self::Tree(top) = self {
            *top = Some(pid);
        }
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// The counter cannot be read.
    pub(crate) fn read(&self) -> anyhow::Result<Duration> {
        match self {
            Self::Group(group) => usage(group),
            Self::Tree(top) => tree(top.context("the server is not started")?),
        }
    }

    /// The processes of the server.
    ///
    /// # Errors
    /// They cannot be listed.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<u32>> {
        match self {
            Self::Group(group) => {
                let text = fs::read_to_string(group.join("cgroup.procs"))?;
                Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
            }
            Self::Tree(top) => Ok(below(top.context("the server is not started")?, &all()?)),
        }
    }

    /// Ends what the server has left running in its control group. A tree has ended with its top, or nobody knows whose it is.
    pub(crate) fn end_the_rest(&self) {
        if let Self::Group(group) = self {
            // Linux 5.14. A group that has no process is content with it.
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
    }

    /// How it counts, for the report.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Group(_) => "cgroup v2 cpu.stat usage_usec of the server's own control group",
            Self::Tree(_) => {
                "utime+stime+cutime+cstime of /proc/PID/stat over the server's process tree (ticks of 10 ms)"
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Self::Group(group) = self {
            // Works once its processes are gone, which are ended by now; an empty group that stays costs nothing.
            for _ in 0..REMOVALS_MAX {
                if fs::remove_dir(&*group).is_ok() {
                    return;
                }
                std::thread::sleep(REMOVAL_PAUSE);
            }
        }
    }
}

fn usage(group: &Path) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(group.join("cpu.stat"))?;
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("no usage_usec")?;
    Ok(Duration::from_micros(usage.parse()?))
}

fn tree(top: u32) -> anyhow::Result<Duration> {
    let processes = all()?;
    let found = below(top, &processes);
    let ticks: u64 =
        processes.iter().filter(|process| found.contains(&process.0)).map(|process| process.2).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
}

/// Number, parent and ticks of every process.
fn all() -> anyhow::Result<Vec<(u32, u32, u64)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let stat = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        // A process may end between the two looks; its parent has its time then.
        if let Some(pid) = stat
            && let Ok(text) = fs::read_to_string(entry.path().join("stat"))
            && let Some((parent, ticks)) = parse(&text)
        {
            processes.push((pid, parent, ticks));
        }
    }
    Ok(processes)
}

/// `top` and all that descend from it.
fn below(top: u32, processes: &[(u32, u32, u64)]) -> Vec<u32> {
    let mut found = vec![top];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(processes.iter().filter(|process| process.1 == pid).map(|process| process.0));
        next += 1;
    }
    found
}

/// Parent and ticks of a `stat` line. The name in parentheses may hold anything, so fields count from its end: `ppid` is
/// field 4, `utime`, `stime`, `cutime`, `cstime` are 14 to 17 (proc(5)).
fn parse(stat: &str) -> Option<(u32, u64)> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Some((fields.get(1)?.parse().ok()?, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_count_from_the_end_of_the_name() {
        let stat = "42 (a) b) c) S 7 42 42 0 -1 4194560 100 0 0 0 1 20 300 4000 20 0 1 0 100 0 0";
        assert_eq!(parse(stat), Some((7, 4321)));
    }

    #[test]
    fn servers_of_one_name_are_counted_alike() {
        let meters = [Meter::new("twin"), Meter::new("twin")];
        assert_eq!(meters[0].method(), meters[1].method());
    }

    #[test]
    fn a_tree_is_all_that_descends() {
        assert_eq!(below(7, &[(1, 0, 1), (7, 1, 1), (8, 7, 1), (9, 8, 1), (10, 1, 1)]), [7, 8, 9]);
    }
}
