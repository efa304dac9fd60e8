//! What the server's processes cost: CPU time of all their threads, kernel workers of their rings included.
//!
//! `/proc/PID/stat` counts all threads of a process, ended ones too, in ticks (10 ms). `/proc/PID/task/*/schedstat` counts each living
//! thread in nanoseconds, user and system in one. The total comes from schedstat while no thread and no child ended in
//! between, also none that began there, else from stat; the split between user and system is that of stat. Block and network interrupts are charged
//! to whoever was running: on loopback the server's `send` also pays for the client's receive path.

use std::collections::BTreeMap;
use std::fs;

/// The processes to account for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes {
    /// Named by the user.
    pub pids: Vec<u32>,
    /// Their descendants too, living or waited for.
    pub with_children: bool,
}

/// CPU time of the processes up to a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Per thread, nanoseconds.
    threads: BTreeMap<u32, u64>,
    user_ticks: u64,
    system_ticks: u64,
    /// Of these, of children that have ended.
    children_ticks: u64,
    processes: u32,
}

/// CPU time between two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuTime {
    /// Microseconds, all threads.
    pub total_us: f64,
    /// Of these, in user mode.
    pub user_us: f64,
    /// Of these, in the kernel.
    pub system_us: f64,
    /// Threads at the end.
    pub threads: usize,
    /// True: from schedstat; false: from ticks, since threads or children came and went.
    pub fine: bool,
}

impl CpuTime {
    /// With that of another window.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            total_us: self.total_us + other.total_us,
            user_us: self.user_us + other.user_us,
            system_us: self.system_us + other.system_us,
            threads: other.threads,
            fine: self.fine && other.fine,
        }
    }
}

impl Processes {
    /// Reads the counters.
    ///
    /// # Errors
    /// A sentence, when a named process is not there or not readable.
    pub fn sample(&self) -> Result<Sample, String> {
        let mut sample = Sample::default();
        let mut pids = self.pids.clone();
        if self.with_children {
            descendants(&mut pids);
        }
        for (index, &pid) in pids.iter().enumerate() {
            let named = index < self.pids.len();
            let Some(stat) =
                fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parse_stat)
            else {
                if named {
                    return Err(format!("cannot read the CPU time of process {pid}"));
                }
                continue;
            };
            sample.user_ticks += stat.user;
            sample.system_ticks += stat.system;
            if self.with_children {
                sample.user_ticks += stat.children_user;
                sample.system_ticks += stat.children_system;
                sample.children_ticks += stat.children_user + stat.children_system;
            }
            sample.processes += 1;
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                if let Some(nanoseconds) = schedstat.split(' ').next().and_then(|word| word.parse().ok()) {
                    sample.threads.insert(thread, nanoseconds);
                }
            }
        }
        Ok(sample)
    }
}

impl Sample {
    /// CPU time from `before` to `self`. `tick_us`: microseconds of a tick.
    #[must_use]
    pub fn since(&self, before: &Self, tick_us: f64) -> CpuTime {
        let user_us = self.user_ticks.saturating_sub(before.user_ticks) as f64 * tick_us;
        let system_us = self.system_ticks.saturating_sub(before.system_ticks) as f64 * tick_us;
        let coarse = user_us + system_us;
        let nanoseconds: u64 = self
            .threads
            .iter()
            .map(|(thread, &now)| now.saturating_sub(before.threads.get(thread).copied().unwrap_or(0)))
            .sum();
        let living_us = nanoseconds as f64 / 1e3;
        // Both times of each process are cut to whole ticks. What the ticks have beyond that is of threads that no sample has seen.
        let cut_us = 2.0 * f64::from(self.processes.max(before.processes)) * tick_us;
        let fine = !before.threads.is_empty()
            && before.threads.keys().all(|thread| self.threads.contains_key(thread))
            && before.children_ticks == self.children_ticks
            && coarse <= living_us + cut_us;
        let total_us = if fine { living_us } else { coarse };
        let user_share = if coarse > 0.0 { user_us / coarse } else { 0.0 };
        CpuTime {
            total_us,
            user_us: total_us * user_share,
            system_us: total_us * (1.0 - user_share),
            threads: self.threads.len(),
            fine,
        }
    }
}

/// Microseconds of a clock tick of `/proc`.
#[must_use]
pub fn tick_us() -> f64 {
    1e6 / rustix::param::clock_ticks_per_second().max(1) as f64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user: u64,
    system: u64,
    children_user: u64,
    children_system: u64,
}

/// `/proc/PID/stat`: the name in parentheses may hold anything, so counting starts behind the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut words = text[text.rfind(')')? + 1..].split_ascii_whitespace().skip(1);
    let parent = words.next()?.parse().ok()?;
    let mut times = words.skip(9).map(|word| word.parse::<u64>().ok());
    let mut time = || times.next().flatten();
    Some(Stat { parent, user: time()?, system: time()?, children_user: time()?, children_system: time()? })
}

/// Adds all descendants of `pids`.
fn descendants(pids: &mut Vec<u32>) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    let parents: Vec<(u32, u32)> = entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_stat(&stat)?.parent))
        })
        .collect();
    let mut next = 0;
    while next < pids.len() {
        for &(pid, parent) in &parents {
            if parent == pids[next] && !pids.contains(&pid) {
                pids.push(pid);
            }
        }
        next += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let text = "42 (a) b) (c) S 7 1 1 0 -1 4194560 1 2 3 4 100 50 30 20 20 0 3 0 99";
        let expected = Stat { parent: 7, user: 100, system: 50, children_user: 30, children_system: 20 };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("42 (a) S 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn own_work_is_seen() {
        let own = Processes { pids: vec![std::process::id()], with_children: false };
        let before = own.sample().unwrap();
        let begun = std::time::Instant::now();
        let mut x = 1_u64;
        while begun.elapsed() < std::time::Duration::from_millis(100) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let used = own.sample().unwrap().since(&before, tick_us());
        assert!(used.total_us > 1_000.0, "{used:?}");
        assert!((used.user_us + used.system_us - used.total_us).abs() < 1.0);
    }

    #[test]
    fn ended_threads_fall_back_to_ticks() {
        let sample = |threads: &[(u32, u64)], user_ticks, system_ticks| Sample {
            threads: threads.iter().copied().collect(),
            user_ticks,
            system_ticks,
            processes: 2,
            ..Sample::default()
        };
        let before = sample(&[(1, 5_000), (2, 7_000)], 10, 10);
        let after = sample(&[(1, 9_000), (3, 1_000)], 13, 11);
        let used = after.since(&before, 10_000.0);
        assert!(!used.fine);
        assert_eq!((used.total_us, used.user_us, used.system_us), (40_000.0, 30_000.0, 10_000.0));
        let after = Sample { threads: [(1, 9_000), (2, 7_000), (3, 1_000)].into(), ..after };
        let used = after.since(&before, 10_000.0);
        assert!(used.fine);
        assert_eq!((used.total_us, used.threads), (5.0, 3));
        // Threads that began and ended between the samples, and children that did.
        let used = Sample { user_ticks: 100, ..after.clone() }.since(&before, 10_000.0);
        assert_eq!((used.fine, used.total_us), (false, 910_000.0));
        let used = Sample { children_ticks: 1, ..after }.since(&before, 10_000.0);
        assert_eq!((used.fine, used.total_us), (false, 40_000.0));
    }

    #[test]
    fn a_missing_process_is_an_error() {
        // Above the kernel's largest process id.
        assert!(Processes { pids: vec![4_194_305], with_children: false }.sample().is_err());
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let mut pids = vec![std::process::id()];
        descendants(&mut pids);
        let found = pids.contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
