//! Disks that fail, and a process that ends in the middle.
//!
//! What a process cannot do to itself is done to a second one: the test runs its own binary again for one of the tests that are
//! ignored otherwise, in a directory named by a variable of the environment.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use super::*;

const VARIABLE: &str = "MAILDIR_TEST_DIRECTORY";

/// Runs the ignored test `test` in `directory`, from a shell that has run `before`.
fn run(shell: &[&str], before: &str, test: &str, directory: &Path) -> Output {
    // The name of a test has no crate in it.
    let module = module_path!().split_once("::").unwrap().1;
    Command::new(shell[0])
        .args(&shell[1..])
        .arg(format!("{before} && exec \"$0\" --exact {module}::{test} --ignored --nocapture"))
        .arg(std::env::current_exe().unwrap())
        .env(VARIABLE, directory)
        .output()
        .unwrap()
}

/// The directory, in the second process only.
fn directory() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from)
}

fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = output.status.success() && text.contains("1 passed");
    assert!(ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// True when this machine lets us mount something where nobody else sees it.
fn can_mount() -> bool {
    let attempt = Command::new("unshare").args(["-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]).output();
    let possible = attempt.is_ok_and(|output| output.status.success());
    if !possible {
        say_skipped();
    }
    possible
}

#[allow(clippy::print_stderr, reason = "a test that shows nothing says so")]
fn say_skipped() {
    eprintln!("skipped: a file system cannot be mounted here");
}

#[test]
fn a_full_file_system_is_temporary() {
    if !can_mount() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=512k tmpfs \"${VARIABLE}\"");
    assert_passed(&run(&["unshare", "-m", "sh", "-c"], &mount, "on_a_small_file_system", place.path()));
}

#[test]
#[ignore = "run by another test, on a file system of 512 KiB"]
fn on_a_small_file_system() {
    let Some(directory) = directory() else { return };
    let root = directory.join("joe");
    let mailbox = Mailbox::open(&root, &settings()).unwrap();
    deliver(&mailbox, b"small\r\n").unwrap();
    let failed = |delivered: Result<Stored, MaildirError>| {
        let error = delivered.unwrap_err();
        let failure = error.failure();
        assert_eq!((failure.permanent, failure.code, failure.enhanced), (false, 452, (4, 3, 1)), "{error}");
        assert!(names(&root.join("tmp")).is_empty());
    };
    failed(deliver(&mailbox, &[b'x'; 1 << 20]));
    // There is room again.
    deliver(&mailbox, b"small\r\n").unwrap();
    // Not one page is left; that is found out by the last write, which commit does.
    let filler = std::fs::write(directory.join("filler"), vec![b'x'; 1 << 20]);
    assert_eq!(filler.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    failed(deliver(&mailbox, b"small\r\n"));
    assert_eq!(names(&root.join("new")).len(), 2);
}

#[test]
fn a_file_system_for_reading_only_is_temporary() {
    if !can_mount() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs tmpfs \"${VARIABLE}\" && cd \"${VARIABLE}\" && mkdir joe joe/tmp joe/new joe/cur \
         && mount -o remount,ro \"${VARIABLE}\""
    );
    assert_passed(&run(&["unshare", "-m", "sh", "-c"], &mount, "for_reading_only", place.path()));
}

#[test]
#[ignore = "run by another test, on a file system for reading only"]
fn for_reading_only() {
    let Some(directory) = directory() else { return };
    let mailbox = Mailbox::open(&directory.join("joe"), &settings()).unwrap();
    let errors = [
        deliver(&mailbox, b"x\r\n").unwrap_err(),
        Mailbox::open(&directory.join("ann"), &settings()).unwrap_err(),
    ];
    for error in errors {
        let failure = error.failure();
        assert_eq!((failure.permanent, failure.enhanced), (false, (4, 3, 0)), "{error}");
        assert!(failure.text.contains("Read-only file system"), "{}", failure.text);
    }
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let limit = "trap '' XFSZ && ulimit -f 200";
    assert_passed(&run(&["sh", "-c"], limit, "with_a_limit_of_file_size", place.path()));
}

#[test]
#[ignore = "run by another test, in a process that can write files of 100 KiB only"]
fn with_a_limit_of_file_size() {
    let Some(directory) = directory() else { return };
    let root = directory.join("joe");
    let mailbox = Mailbox::open(&root, &settings()).unwrap();
    let mut delivery = mailbox.begin(ID).unwrap();
    delivery.write(&[b'x'; 70_000]).unwrap();
    let error = delivery.write(&[b'x'; 70_000]).unwrap_err();
    let failure = error.failure();
    assert_eq!((failure.permanent, failure.enhanced), (false, (4, 3, 0)), "{error}");
    assert!(matches!(delivery.write(b"x"), Err(MaildirError::Incomplete { .. })));
    assert!(matches!(delivery.commit(), Err(MaildirError::Incomplete { .. })));
    assert!(names(&root.join("tmp")).is_empty());
    assert!(names(&root.join("new")).is_empty());
    deliver(&mailbox, &[b'x'; 90_000]).unwrap();
}

#[test]
fn a_process_that_ends_in_the_middle_leaves_nothing_for_readers() {
    let place = tempfile::tempdir().unwrap();
    let output = run(&["sh", "-c"], "ulimit -c 0", "ends_in_the_middle", place.path());
    assert_eq!(output.status.signal(), Some(6), "{}", String::from_utf8_lossy(&output.stdout));
    let root = place.path().join("joe");
    assert!(names(&root.join("new")).is_empty());
    let left = names(&root.join("tmp"));
    assert!(left.len() == 1 && left[0].contains(ID), "{left:?}");
    let mailbox = Mailbox::open(&root, &settings()).unwrap();
    // The message is delivered again, which what was left does not hinder.
    deliver(&mailbox, b"x\r\n").unwrap();
    assert_eq!(mailbox.clean_tmp(Duration::ZERO).unwrap(), 1);
    assert!(names(&root.join("tmp")).is_empty());
    assert_eq!(names(&root.join("new")).len(), 1);
}

#[test]
#[ignore = "run by another test: ends its process"]
fn ends_in_the_middle() {
    let Some(directory) = directory() else { return };
    let mailbox = Mailbox::open(&directory.join("joe"), &settings()).unwrap();
    let mut delivery = mailbox.begin(ID).unwrap();
    delivery.write(&[b'x'; 100_000]).unwrap();
    std::process::abort();
}
