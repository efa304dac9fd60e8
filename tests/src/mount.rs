//! A small file system of its own, to fill up.

use std::path::Path;

use tempfile::TempDir;

use crate::process;

/// A mounted tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one of this size.
    ///
    /// # Panics
    /// We may not mount: the test needs root and must not look passed without.
    pub fn mount(mebibytes: u32) -> Self {
        let folder =
            TempDir::with_prefix("inrush-disk-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let size = format!("size={mebibytes}m,mode=0700");
        let mut command = process::command("mount", ["-t", "tmpfs", "-o", &size, "inrush-tests"]);
        command.arg(folder.path());
        let mounted = process::finish(command);
        assert!(mounted.status.success(), "mounting a small file system needs root: {}", mounted.text());
        Self { folder }
    }

    /// No more writes.
    ///
    /// # Panics
    /// It cannot be mounted again.
    pub fn read_only(&self) {
        let mut command = process::command("mount", ["-o", "remount,ro"]);
        command.arg(self.folder.path());
        process::finish(command).succeeded();
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = process::command("umount", ["--lazy"]);
        command.arg(self.folder.path());
        let done = process::finish(command);
        if !done.status.success() {
            eprintln!("{}", done.text());
        }
    }
}
