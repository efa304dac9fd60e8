//! What a result was measured on and with: without it a figure says nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::run;

/// Of a result file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// `model name` of /proc/cpuinfo.
    pub(super) processor: String,
    /// Processors that the system has.
    pub(super) processors: usize,
    /// `MemTotal` of /proc/meminfo.
    pub(super) memory_bytes: u64,
    /// `uname -sr`.
    pub(super) kernel: String,
    /// Device and type of the file system that the logs and queues lie on.
    pub(super) file_system: String,
    /// Of this tree.
    pub(super) commit: String,
    /// The tree had changes that are not in the commit.
    pub(super) dirty: bool,
}

impl Machine {
    /// This machine and this tree; `folder` is where logs and queues lie.
    pub(super) fn look(folder: &Path) -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let models: Vec<&str> =
            processors.lines().filter_map(|line| line.strip_prefix("model name")).collect();
        let disk = said("df", &["--output=source,fstype", &folder.display().to_string()]);
        let git =
            |words: &[&str]| said("git", &[&["-C", &run::root().display().to_string()], words].concat());
        Self {
            processor: models
                .first()
                .and_then(|line| line.split(':').nth(1))
                .unwrap_or("?")
                .trim()
                .to_owned(),
            processors: models.len(),
            memory_bytes: memory_bytes(&memory),
            kernel: said("uname", &["-sr"]),
            file_system: disk.lines().nth(1).unwrap_or("?").split_whitespace().collect::<Vec<_>>().join(", "),
            commit: git(&["rev-parse", "--short", "HEAD"]),
            dirty: !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty(),
        }
    }

    /// For the table at the head of a report.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let dirty = if self.dirty { ", with changes that are not committed" } else { "" };
        vec![
            ("processor", format!("{} × {}", self.processors, self.processor)),
            ("memory", format!("{:.1} GiB", self.memory_bytes as f64 / f64::from(1 << 30))),
            ("kernel", self.kernel.clone()),
            ("disk", self.file_system.clone()),
            ("commit", format!("{}{dirty}", self.commit)),
        ]
    }
}

/// The first line and those behind it, without the end; nothing where the program is not to be had.
pub(super) fn said(program: &str, words: &[&str]) -> String {
    run::output(Command::new(program).args(words)).unwrap_or_default().trim().to_owned()
}

/// Now, in UTC.
pub(super) fn date() -> String {
    said("date", &["-u", "+%F %R UTC"])
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    total.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_machine() {
        assert_eq!(memory_bytes("MemTotal:        8192 kB\nMemFree:  1 kB\n"), 8 << 20);
        assert_eq!(memory_bytes(""), 0);
    }
}
