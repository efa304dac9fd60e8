//! What the file system of the logs does to a ring.
//!
//! A write that is submitted to a ring is started in the submitting thread, which must not wait there: the core's sessions stand still meanwhile. File
//! systems are told so (`IOCB_NOWAIT`), but ext4 updates the file's time all the same, and with a journal that waits for the commit
//! of the journal under way; on a disk that does not answer, for ever.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

/// Magic number of ext2, ext3 and ext4 (statfs(2)).
const EXT4: u64 = 0xEF53;

/// Whether starting a write to a file in `folder` may wait for the disk.
pub(crate) fn start_may_wait(folder: &Path) -> bool {
    let Ok(stat) = rustix::fs::statfs(folder) else { return true };
    // The type is a signed number on some architectures.
    if stat.f_type as u64 != EXT4 {
        return false;
    }
    // Where the kernel does not tell, a journal is the rule.
    has_journal(folder).unwrap_or(true)
}

/// Whether an ext4 has a journal: then a task of the kernel looks after it.
fn has_journal(folder: &Path) -> Option<bool> {
    let device = fs::metadata(folder).ok()?.dev();
    let link = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let device = fs::read_link(link).ok()?;
    let task = Path::new("/sys/fs/ext4").join(device.file_name()?).join("journal_task");
    Some(fs::read_to_string(task).ok()?.trim() != "<none>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ext4_with_a_journal_makes_the_ring_wait() {
        assert!(!start_may_wait(Path::new("/proc")));
        assert!(start_may_wait(Path::new("/there/is/no/such/folder")));
    }
}
