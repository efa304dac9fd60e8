//! This machine once more, in namespaces of its own, with systemd as its first process: units and packages are tried on it as they are.
//!
//! Its files are those of this one; what it changes lies in a folder and is gone when it is dropped. Its network is a loopback of its own. Needs
//! root, as all tests do that mount.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::process::{self, Finished};

/// Units of systemd itself that the machine has; no other service of this one.
const UNITS: &[&str] = &[
    "basic.target",
    "local-fs.target",
    "local-fs-pre.target",
    "multi-user.target",
    "network.target",
    "network-online.target",
    "network-pre.target",
    "nss-lookup.target",
    "nss-user-lookup.target",
    "paths.target",
    "remote-fs.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "time-set.target",
    "time-sync.target",
    "timers.target",
    "umount.target",
];

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    folder: TempDir,
    control_group: PathBuf,
    /// Holds the namespaces; everything in them ends with it.
    holder: Child,
    /// The first process, as this machine numbers it.
    systemd: u32,
}

impl Machine {
    /// Boots it. `files` are put into it before: where, from which file of this machine.
    ///
    /// # Panics
    /// It does not boot.
    #[track_caller]
    pub fn boot(files: &[(&str, &Path)]) -> Self {
        let folder =
            TempDir::with_prefix("inrush-machine-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let script = folder.path().join("boot.sh");
        let units = folder.path().join("units");
        let write = || -> std::io::Result<()> {
            fs::write(&script, include_str!("boot.sh"))?;
            fs::create_dir(&units)?;
            for unit in UNITS {
                fs::copy(Path::new("/usr/lib/systemd/system").join(unit), units.join(unit))?;
            }
            for (to, from) in files {
                let to = match to.strip_prefix("/usr/lib/systemd/system/") {
                    Some(unit) => units.join(unit),
                    None => folder.path().join("upper").join(to.trim_start_matches('/')),
                };
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::copy(from, to)?;
            }
            Ok(())
        };
        write().unwrap_or_else(|error| panic!("the files of the machine: {error}"));
        let control_group = control_group(folder.path());
        // The namespace of control groups begins at the group that the process is in.
        let join = "echo 0 > \"$1/cgroup.procs\" && shift && exec \"$@\"";
        let mut command = process::command("sh", ["-c", join, "sh"]);
        command.arg(&control_group).arg(process::program("unshare"));
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup"]);
        command.arg("sh").arg(&script).arg(folder.path()).stdin(Stdio::null());
        let output = fs::File::create(folder.path().join("output"))
            .and_then(|file| Ok((file.try_clone()?, file)))
            .unwrap_or_else(|error| panic!("no output: {error}"));
        command.stdout(output.0).stderr(output.1);
        let holder = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut machine = Self { folder, control_group, holder, systemd: 0 };
        process::eventually("the machine has booted", || machine.has_booted());
        machine
    }

    fn has_booted(&mut self) -> bool {
        let ended = self.holder.try_wait().ok().flatten();
        assert!(ended.is_none(), "the machine has ended: {ended:?}\n{}", self.output());
        let holder = self.holder.id();
        let children =
            fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).unwrap_or_default();
        let Some(first) = children.split_whitespace().next().and_then(|id| id.parse().ok()) else {
            return false;
        };
        self.systemd = first;
        // Before that it is the script.
        let name = fs::read_to_string(format!("/proc/{first}/comm")).unwrap_or_default();
        let state = || self.run(["systemctl", "is-system-running"]).text();
        name.trim() == "systemd" && matches!(state().trim(), "running" | "degraded")
    }

    /// Runs a program on it.
    ///
    /// # Panics
    /// It cannot be started, or does not end.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, program: impl IntoIterator<Item = A>) -> Finished {
        process::finish(self.command(program))
    }

    /// A command on it.
    pub fn command<A: AsRef<OsStr>>(&self, program: impl IntoIterator<Item = A>) -> Command {
        let mut command = process::command("nsenter", ["--target", &self.systemd.to_string()]);
        command.args(["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--"]).args(program);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// What `action` gives when it is done in the network of the machine. Sockets that it makes stay there.
    ///
    /// # Panics
    /// `action` does.
    pub fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let network = fs::File::open(format!("/proc/{}/ns/net", self.systemd))?;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            std::io::Result::Ok(())
        };
        let there = || {
            enter().unwrap_or_else(|error| panic!("the network of the machine: {error}"));
            action()
        };
        // The network is that of a thread: the caller's stays as it is.
        std::thread::scope(|scope| match scope.spawn(there).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// A property of a unit, as `systemctl show` has it.
    ///
    /// # Panics
    /// There is no such unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let shown = self.run(["systemctl", "show", "--value", "--property", name, unit]).succeeded();
        shown.text().trim().to_owned()
    }

    /// The lines of a unit in the journal.
    pub fn journal(&self, unit: &str) -> String {
        self.run(["journalctl", "--no-pager", "--quiet", "--output=cat", "--unit", unit]).text()
    }

    /// A file of the machine, as this one sees it.
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{}", self.systemd, path.trim_start_matches('/')))
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.systemd != 0 {
            let journal = self.run(["journalctl", "--no-pager", "--quiet", "--lines=100"]).text();
            eprintln!("── the journal of the machine:\n{journal}{}", self.output());
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        process::holds_within(process::PATIENCE, || remove_groups(&self.control_group));
    }
}

/// A group of its own below where version 2 is mounted.
#[track_caller]
fn control_group(folder: &Path) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let at = mounts.find(|words| words.get(2) == Some(&"cgroup2")).map(|words| PathBuf::from(words[1]));
    let at = at.unwrap_or_else(|| panic!("control groups of version 2 are mounted nowhere"));
    let group = at.join(folder.file_name().unwrap_or_default());
    fs::create_dir(&group).unwrap_or_else(|error| {
        panic!("{}: needs root and a writable file system: {error}", group.display())
    });
    group
}

/// Removes a group with those in it; false while processes are left.
fn remove_groups(group: &Path) -> bool {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    // All of them are tried.
    let left = folders.filter(|entry| !remove_groups(&entry.path())).count();
    left == 0 && (fs::remove_dir(group).is_ok() || !group.exists())
}
