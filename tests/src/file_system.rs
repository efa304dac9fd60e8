//! Making and mending file systems.

use std::fs::File;
use std::path::Path;

use crate::process;

/// Makes a file of this length without any content, and a file system in it.
///
/// # Panics
/// The file or the file system cannot be made.
#[track_caller]
pub fn make_in_file(file: &Path, mebibytes: u64, program: &str, options: &[&str]) {
    let made = File::create(file).and_then(|made| made.set_len(mebibytes << 20));
    made.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    make(file, program, options);
}

/// Makes a file system with `program` (`mkfs.ext4`, …) on a device or in a file.
///
/// # Panics
/// It cannot be made.
#[track_caller]
pub fn make(place: &Path, program: &str, options: &[&str]) {
    let mut command = process::command(program, options);
    command.arg(place);
    process::finish(command).succeeded();
}

/// Mends an ext4 without asking anybody, every question answered with yes (`e2fsck -y`).
///
/// # Panics
/// It cannot be mended that way.
#[track_caller]
pub fn mend_ext4(place: &Path) {
    let mut command = process::command("e2fsck", ["-f", "-y"]);
    command.arg(place);
    let mended = process::finish(command);
    // e2fsck(8): 0 nothing was wrong, 1 mended.
    assert!(matches!(mended.status.code(), Some(0 | 1)), "{}\n{}", mended.status, mended.text());
}
