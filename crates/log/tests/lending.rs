//! Spares that go from one process to the next: nothing is written twice, and no power cut on the way loses mail.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use common::simulated::{NODE, fill, ids, open as open_simulated};
use common::{append, settings, write_all};
use inrush_log::sim::{Fault, SimStorage};
use inrush_log::{DataDirectory, Storage as _};

const PATIENCE: Duration = Duration::from_secs(60);

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Inodes of all files that mail is in, or will be.
fn files(dir: &Path) -> BTreeSet<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let logs =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = logs.flat_map(|log| std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()));
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "seg"))
        .map(|file| file.metadata().unwrap().ino())
        .collect()
}

#[test]
fn another_process_writes_into_what_was_filled_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = DataDirectory::open(folder.path(), &settings(), 7).unwrap();
    let (mut before, _) = old.open_log(0, || {}).unwrap();
    eventually("both spares are ready", || before.spares_ready() == 2);
    let filled = files(folder.path());
    assert_eq!(filled.len(), 3);
    let message = append(&mut before, b"before", &[]);
    write_all(&mut before);

    let lock = old.share_lock().unwrap();
    old.lend_spares();
    old.give_up_adopted();
    assert_eq!(before.spares_ready(), 1, "it can go on");
    let mut new = DataDirectory::open_beside(folder.path(), &settings(), 7, lock).unwrap();
    let (mut after, _) = new.open_log(1, || {}).unwrap();
    assert_eq!(files(folder.path()), filled, "nothing was filled");
    let other = append(&mut after, b"after", &[]);
    write_all(&mut after);
    let more = append(&mut before, b"more", &[]);
    write_all(&mut before);
    before.close();
    write_all(&mut before);
    drop((before, old));

    let adopted = new.adopt_logs().unwrap();
    assert_eq!(
        adopted.iter().map(|(dir, report)| (dir.as_str(), report.damage.len())).collect::<Vec<_>>(),
        [("arrival-00", 0)]
    );
    eventually("there are spares again", || after.spares_ready() == 2);
    assert!(files(folder.path()).is_superset(&filled), "what is there is used");
    for (dir, id) in [("arrival-00", message.id), ("arrival-00", more.id), ("arrival-01", other.id)] {
        let mut reader = inrush_log::Reader::on(new.storage().clone(), dir).unwrap();
        assert!(reader.message(id).is_ok(), "{id}");
    }
}

#[test]
fn what_was_lent_comes_back_when_nobody_has_taken_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = DataDirectory::open(folder.path(), &settings(), 7).unwrap();
    let (log, _) = data.open_log(0, || {}).unwrap();
    eventually("both spares are ready", || log.spares_ready() == 2);
    let filled = files(folder.path());
    for _ in 0..3 {
        data.lend_spares();
        assert_eq!(log.spares_ready(), 1);
        assert!(data.adopt_logs().unwrap().is_empty());
        eventually("both are ready again", || log.spares_ready() == 2);
        assert_eq!(files(folder.path()), filled);
    }
}

#[test]
fn a_log_that_cannot_wait_takes_back_what_it_has_lent() {
    let storage = SimStorage::new(72);
    let (mut data, mut log) = open_simulated(&storage, &settings());
    let lent = |storage: &SimStorage| {
        storage.list("arrival-00").unwrap().iter().filter(|name| name.starts_with("lent-")).count()
    };
    data.lend_spares();
    assert_eq!((log.spares_ready(), lent(&storage)), (1, 1));
    let files = storage.files().len();
    fill(&mut data, &mut log, 1);
    assert_eq!((log.spares_ready(), lent(&storage)), (0, 1), "there is time");
    while lent(&storage) > 0 {
        append(&mut log, &[b'x'; 100_000], &[]);
        write_all(&mut log);
        assert_eq!(log.stats().segments_sealed, 1, "it is in time");
        data.prepare_segments();
    }
    assert_eq!(log.spares_ready(), 1);
    assert_eq!(storage.files().len(), files, "nothing was filled");
}

#[test]
fn a_spare_that_nobody_needs_goes() {
    let storage = SimStorage::new(71);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
    let (log, _) = data.open_log(0, || {}).unwrap();
    let (mut other, _) = data.open_log(1, || {}).unwrap();
    data.prepare_segments();
    append(&mut other, b"x", &[]);
    write_all(&mut other);
    drop((data, log, other));
    let storage = storage.restart();
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
    let (_log, _) = data.open_log(0, || {}).unwrap();
    data.adopt_logs().unwrap();
    assert!(storage.list("arrival-01").unwrap().iter().any(|name| name.starts_with("spare-")));
    data.prepare_segments();
    assert!(!storage.list("arrival-01").unwrap().iter().any(|name| name.starts_with("spare-")));
}

/// Lending, then giving spares of an adopted log to another one; the disk fails or loses power at each step of it.
#[test]
fn no_fault_on_the_way_loses_mail() {
    for (fault, seed) in [(Fault::Crash, 100), (Fault::Error, 300)] {
        for step in 0..60 {
            let storage = SimStorage::new(seed + step);
            let (mut data, mut log) = open_simulated(&storage, &settings());
            let mut messages = fill(&mut data, &mut log, 1);
            storage.fault_at(step, fault);
            data.lend_spares();
            data.adopt_logs().ok();
            data.prepare_segments();
            drop((log, data));
            let storage = storage.restart();
            // The core is gone: its spares go to another one.
            storage.fault_at(step, fault);
            if let Ok(mut data) = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE)
                && let Ok((log, _)) = data.open_log(1, || {})
            {
                data.adopt_logs().ok();
                data.prepare_segments();
                drop(log);
            }
            let storage = storage.restart();
            let (mut data, mut log) = open_simulated(&storage, &settings());
            messages.extend(fill(&mut data, &mut log, 3));
            let found: BTreeSet<_> = ids(&storage).into_iter().collect();
            assert!(messages.iter().all(|message| found.contains(&message.id)), "{fault:?} at {step}");
        }
    }
}
