//! File systems of our own, to fill up, to break, and to find out how the gateway does on them.

use std::ffi::OsStr;
use std::path::Path;

use tempfile::TempDir;

use crate::process;

/// A mounted file system in a folder of its own, unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    folder: TempDir,
}

impl Mounted {
    /// A tmpfs of this size.
    ///
    /// # Panics
    /// We may not mount: the test needs root and must not look passed without.
    #[track_caller]
    pub fn tmpfs(mebibytes: u32) -> Self {
        Self::new("tmpfs", OsStr::new("inrush-tests"), &format!("size={mebibytes}m,mode=0700"))
    }

    /// One in memory that refuses O_DIRECT, and does not tell how large it is.
    ///
    /// # Panics
    /// We may not mount.
    #[track_caller]
    pub fn ramfs() -> Self {
        Self::new("ramfs", OsStr::new("inrush-tests"), "mode=0700")
    }

    /// The file system in an ordinary file, by a loop device that ends with the mount.
    ///
    /// # Panics
    /// It cannot be mounted.
    #[track_caller]
    pub fn image(kind: &str, file: &Path, options: &str) -> Self {
        let comma = if options.is_empty() { "" } else { "," };
        Self::new(kind, file.as_os_str(), &format!("loop{comma}{options}"))
    }

    #[track_caller]
    fn new(kind: &str, source: &OsStr, options: &str) -> Self {
        let folder =
            TempDir::with_prefix("inrush-disk-").unwrap_or_else(|error| panic!("no folder: {error}"));
        mount(kind, source, options, folder.path());
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

impl Drop for Mounted {
    fn drop(&mut self) {
        detach(self.folder.path());
    }
}

/// Mounts there.
///
/// # Panics
/// We may not, or it is no such file system.
#[track_caller]
pub(crate) fn mount(kind: &str, source: &OsStr, options: &str, at: &Path) {
    let mut command = process::command("mount", ["-t", kind, "-o", options]);
    command.arg(source).arg(at);
    let mounted = process::finish(command);
    assert!(mounted.status.success(), "mounting a file system needs root: {}", mounted.text());
}

/// Ends a mount that nobody uses any more: everything is written, or has failed, when this returns.
///
/// # Panics
/// It stays busy.
#[track_caller]
pub(crate) fn unmount(at: &Path) {
    // What a process had open in a ring may be closed a little after its end.
    process::eventually("the file system can be unmounted", || {
        let mut command = process::command("umount", None::<&str>);
        command.arg(at);
        process::finish(command).status.success()
    });
}

/// Takes a mount away from there at once; it ends with its last user. Never panics: tests that fail clean up with it.
pub(crate) fn detach(at: &Path) {
    let mut command = process::command("umount", ["--lazy"]);
    command.arg(at);
    let done = process::finish(command);
    if !done.status.success() {
        eprintln!("{}", done.text());
    }
}
