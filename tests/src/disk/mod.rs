//! A disk of our own below a real file system: it records, fails, forgets and keeps silent as a test tells it.
//!
//! ```text
//! gateway ──▶ ext4 ──▶ loop device ──▶ disk.img in a FUSE file system ──▶ Device, in this process
//! ```
//! There is no way past it, not for a ring and not for a system call of its own: it stands where the hardware does. The kernel here needs
//! no more for it than loop devices and FUSE.
//!
//! Nothing of it outlives a test: the FUSE mount is taken away as soon as the loop device holds the file, and the rest ends on drop,
//! answered requests first, since a file system that waits for its disk cannot be unmounted.

mod device;
mod fuse;
mod image;
mod record;

pub use device::{Answer, Begin, Device, Event, Fails};
pub use image::{BLOCK, Image};
pub use record::Record;

use std::fmt;
use std::path::Path;

use fuser::{BackgroundSession, Config, MountOption, Session};
use tempfile::TempDir;

use crate::loop_device::LoopDevice;
use crate::process::PATIENCE;
use crate::{file_system, mount, process};

/// The disk with its loop device, and an ext4 on it once it is made and mounted.
pub struct Disk {
    device: Device,
    // All three are there until the drop.
    loop_device: Option<LoopDevice>,
    session: Option<BackgroundSession>,
    folder: TempDir,
    mounted: bool,
}

/// Heals a silent disk when it is dropped: before a server that could not end while it waits for the disk.
#[derive(Debug)]
pub struct Answering<'a>(pub &'a Disk);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.device().heal();
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Disk {
    /// A disk of this size, all zero.
    ///
    /// # Panics
    /// There is no FUSE or no loop device for us: the test needs root.
    #[track_caller]
    pub fn new(mebibytes: u64) -> Self {
        let device = Device::default();
        let served = fuse::Served { device: device.clone(), octets: mebibytes << 20 };
        let folder =
            || TempDir::with_prefix("inrush-disk-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let at = folder();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("inrush-tests".into())];
        let session = Session::new(served, at.path(), &config).and_then(Session::spawn);
        let session = session.unwrap_or_else(|error| panic!("a FUSE file system needs root: {error}"));
        let loop_device = LoopDevice::over(&at.path().join(fuse::FILE));
        mount::detach(at.path());
        Self {
            device,
            loop_device: Some(loop_device),
            session: Some(session),
            folder: folder(),
            mounted: false,
        }
    }

    /// The same with an ext4 without reserved blocks, mounted.
    ///
    /// # Panics
    /// One of the steps fails.
    #[track_caller]
    pub fn with_ext4(mebibytes: u64, options: &[&str]) -> Self {
        let mut disk = Self::new(mebibytes);
        // Nothing is left to a thread of the kernel that would write later, at its leisure.
        let usual =
            ["-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];
        file_system::make(disk.block_device(), "mkfs.ext4", &[&usual, options].concat());
        disk.mount();
        disk
    }

    /// What fails and records.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its file under `/dev`.
    pub fn block_device(&self) -> &Path {
        self.loop_device.as_ref().map_or(Path::new(""), LoopDevice::path)
    }

    /// Where its file system is, when it is mounted: always the same place.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Mounts its ext4, which replays its journal.
    ///
    /// # Panics
    /// It cannot be mounted.
    #[track_caller]
    pub fn mount(&mut self) {
        mount::mount("ext4", self.block_device().as_os_str(), "noatime", self.folder.path());
        self.mounted = true;
    }

    /// Unmounts. What the disk fails now is lost as in a machine that goes down.
    ///
    /// # Panics
    /// Somebody still uses it.
    #[track_caller]
    pub fn unmount(&mut self) {
        mount::unmount(self.folder.path());
        self.mounted = false;
    }

    /// The power was cut and is back: what was not flushed is gone, the disk is well, the file system recovered. Its users have ended before.
    ///
    /// # Panics
    /// The file system is still in use or does not come back.
    #[track_caller]
    pub fn power_cycle(&mut self) {
        // What the file system would still write at its end does not get to the disk.
        self.device.fail(Begin::After(0), Fails::All);
        self.unmount();
        self.device.forget_unflushed();
        self.device.heal();
        file_system::mend_ext4(self.block_device());
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // First, or whoever waits for the disk waits for ever.
        self.device.heal();
        if self.mounted {
            mount::detach(self.folder.path());
        }
        drop(self.loop_device.take());
        let ended = self
            .session
            .take()
            .is_none_or(|session| process::holds_within(PATIENCE, || session.guard.is_finished()));
        if !ended {
            eprintln!("the disk is still in use after {PATIENCE:?}: {:?}", self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn mounts() -> String {
        fs::read_to_string("/proc/self/mounts").unwrap()
    }

    #[test]
    fn what_is_synced_reaches_the_disk_and_survives_a_power_cut() {
        let mut disk = Disk::with_ext4(32, &[]);
        disk.device().begin_record();
        let path = disk.path().join("a");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"synced").unwrap();
        file.sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        file.write_all(b", not synced").unwrap();
        drop(file);
        disk.power_cycle();
        assert_eq!(fs::read(&path).unwrap(), b"synced");
        let record = disk.device().end_record();
        let of_ours =
            |event: &Event| matches!(event, Event::Write(_, octets) if octets.starts_with(b"synced"));
        let written = record.iter().position(of_ours).unwrap();
        assert!(record[written..].iter().any(|event| matches!(event, Event::Flush)));
    }

    #[test]
    fn failures_come_up_to_the_writer() {
        let mut disk = Disk::with_ext4(32, &[]);
        let file = File::create(disk.path().join("a")).unwrap();
        file.write_all_at(&[1; 8192], 0).unwrap();
        file.sync_all().unwrap();
        disk.device().fail(Begin::AtMark(b"failing", 0), Fails::Once);
        file.write_all_at(b"failing", 0).unwrap();
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(disk.device().refused(), 1);

        disk.device().heal();
        disk.device().fail(Begin::After(0), Fails::Flushes);
        file.write_all_at(b"good", 0).unwrap();
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
        drop(file);
        disk.power_cycle();
        assert_eq!(fs::read(disk.path().join("a")).unwrap(), [1; 8192]);
    }

    #[test]
    fn a_silent_disk_keeps_a_writer_waiting_and_nobody_else() {
        let disk = Disk::with_ext4(32, &[]);
        fs::write(disk.path().join("b"), b"there").unwrap();
        let file = File::create(disk.path().join("a")).unwrap();
        disk.device().fail(Begin::After(0), Fails::Silent);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                file.write_all_at(b"late", 0).unwrap();
                file.sync_data()
            });
            process::eventually("a request is unanswered", || disk.device().unanswered() > 0);
            assert_eq!(fs::read(disk.path().join("b")).unwrap(), b"there");
            assert!(!writer.is_finished());
            disk.device().heal();
            writer.join().unwrap().unwrap();
        });
        assert_eq!(fs::read(disk.path().join("a")).unwrap(), b"late");
    }

    /// Also while the disk is silent, fails, and files on it are open.
    #[test]
    fn nothing_is_left_when_a_test_fails() {
        for fails in [Fails::Silent, Fails::All] {
            let (sender, receiver) = std::sync::mpsc::channel();
            let failed = std::thread::spawn(move || {
                let disk = Disk::with_ext4(32, &[]);
                fs::write(disk.path().join("a"), [1; 100_000]).unwrap();
                disk.device().fail(Begin::After(0), fails);
                sender.send((disk.path().to_owned(), disk.block_device().to_owned())).unwrap();
                panic!("on purpose");
            });
            assert!(failed.join().is_err());
            let (folder, device) = receiver.recv().unwrap();
            assert!(!folder.exists());
            assert!(!mounts().contains(folder.to_str().unwrap()), "{}", mounts());
            // The device may be another test's by now; what is mounted there is not ours.
            let device = device.to_str().unwrap();
            assert!(!mounts().lines().any(|line| line.starts_with(device) && line.contains("(deleted)")));
        }
    }
}
