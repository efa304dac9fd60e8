//! A block device over a file.

use std::path::{Path, PathBuf};

use crate::process;

/// Detached when dropped; then still there for as long as it is mounted.
#[derive(Debug)]
pub struct LoopDevice {
    device: PathBuf,
}

impl LoopDevice {
    /// Over this file, past the page cache where the file's system allows that.
    ///
    /// # Panics
    /// There is none to be had: the test needs root.
    #[track_caller]
    pub fn over(file: &Path) -> Self {
        let mut command = process::command("losetup", ["--find", "--show", "--direct-io=on"]);
        command.arg(file);
        let made = process::finish(command);
        assert!(made.status.success(), "a loop device needs root: {}", made.text());
        Self { device: String::from_utf8_lossy(&made.stdout).trim().into() }
    }

    /// Its file under `/dev`.
    pub fn path(&self) -> &Path {
        &self.device
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let mut command = process::command("losetup", ["--detach"]);
        command.arg(&self.device);
        let done = process::finish(command);
        if !done.status.success() {
            eprintln!("{}", done.text());
        }
    }
}
