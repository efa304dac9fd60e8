//! What the disk itself does.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

use super::*;
use crate::buffer::AlignedBuffer;
use crate::storage::StorageFile;

const SIZE: usize = 8192;

fn filled(octet: u8) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::new(SIZE);
    buffer.fill(octet);
    buffer
}

/// A disk with a durable file of ones.
fn disk(seed: u64, manner: Manner) -> (SimStorage, SimFile) {
    let storage = SimStorage::new(seed);
    storage.set_manner(manner);
    let file = storage.open("a", OpenMode::Create).unwrap();
    file.write_at(&filled(1), 0).unwrap();
    file.sync().unwrap();
    storage.sync_dir("").unwrap();
    (storage, file)
}

/// What the sectors of the file hold after a power cut during a write of twos; 0 stands for garbage.
fn torn(seed: u64, manner: Manner) -> Vec<u8> {
    let (storage, file) = disk(seed, manner);
    storage.fault_at(0, Fault::Crash);
    file.write_at(&filled(2), 0).unwrap_err();
    assert!(file.sync().is_err() && storage.is_dead());
    let content = storage.restart().content("a").unwrap();
    let sectors = content.chunks(manner.sector_octets);
    sectors.map(|sector| if sector.iter().all(|octet| *octet == sector[0]) { sector[0] } else { 0 }).collect()
}

#[test]
fn a_write_is_torn_between_sectors() {
    for sector_octets in [512, 4096] {
        for garbage in [false, true] {
            let manner = Manner { sector_octets, garbage, ..Manner::default() };
            let seen: BTreeSet<_> = (0..400).map(|seed| torn(seed, manner)).collect();
            assert!(
                seen.contains(&vec![1; SIZE / sector_octets])
                    && seen.contains(&vec![2; SIZE / sector_octets])
            );
            assert!(seen.iter().any(|sectors| sectors.contains(&1) && sectors.contains(&2)));
            assert_eq!(seen.iter().flatten().any(|octet| *octet == 0), garbage);
        }
    }
}

#[test]
fn a_failed_sync_is_told_once_and_the_data_is_gone() {
    let mut lost = 0;
    for seed in 0..20 {
        let (storage, file) = disk(seed, Manner { direct: false, ..Manner::default() });
        file.write_at(&filled(2), 0).unwrap();
        storage.fault_at(0, Fault::Error);
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
        file.sync().unwrap();
        assert_eq!(storage.content("a").unwrap(), vec![2; SIZE], "the page cache shows it");
        lost += usize::from(storage.restart().content("a").unwrap() != vec![2; SIZE]);
    }
    assert!(lost > 0);
}

#[test]
fn a_forgotten_sync_is_harm_that_is_known() {
    let (storage, file) = disk(1, Manner::default());
    assert!(!storage.has_lied());
    storage.fault_at(1, Fault::Forget);
    file.write_at(&filled(2), 0).unwrap();
    file.sync().unwrap();
    let harm: Vec<_> = storage.harm().into_iter().map(|harm| (harm.file, harm.octets)).collect();
    assert_eq!(harm, [("a".to_owned(), 0..4096), ("a".to_owned(), 4096..8192)]);
    let outcomes: BTreeSet<_> = (0..50)
        .map(|seed| {
            let (storage, file) = disk(seed, Manner::default());
            storage.fault_at(1, Fault::Forget);
            file.write_at(&filled(2), 0).unwrap();
            file.sync().unwrap();
            storage.restart().content("a").unwrap()[0]
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([1, 2]));
}

#[test]
fn a_misdirected_write_lands_in_one_other_place() {
    let (storage, file) = disk(3, Manner::default());
    let other = storage.open("b", OpenMode::Create).unwrap();
    other.write_at(&filled(3), 0).unwrap();
    storage.fault_at(0, Fault::Misdirect);
    file.write_at(&filled(2)[..4096], 0).unwrap();
    let files = [storage.content("a").unwrap(), storage.content("b").unwrap()].concat();
    let blocks: Vec<u8> = files.chunks(4096).map(|block| block[0]).collect();
    assert_eq!(blocks[0], 1, "{blocks:?}");
    assert_eq!(blocks.iter().filter(|octet| **octet == 2).count(), 1, "{blocks:?}");
    assert_eq!(storage.harm().len(), 2);
}

#[test]
fn a_write_may_outlive_its_process() {
    let (storage, file) = disk(4, Manner::default());
    storage.leave_next_write_under_way();
    file.write_at(&filled(2), 0).unwrap_err();
    let storage = storage.kill();
    assert_eq!(storage.content("a").unwrap()[0], 1);
    for _ in 0..200 {
        storage.list("").unwrap();
    }
    assert_eq!(storage.content("a").unwrap(), vec![2; SIZE]);
}

#[test]
fn short_full_and_failing_calls() {
    let (storage, file) = disk(5, Manner::default());
    storage.fault_at(0, Fault::Short);
    let octets = file.write_at(&filled(2), 0).unwrap();
    assert!(octets < SIZE && octets > 0 && octets % 512 == 0, "{octets}");
    storage.fault_at(0, Fault::NoSpace);
    assert_eq!(storage.rename("a", "b").unwrap_err().kind(), io::ErrorKind::StorageFull);
    storage.fail_look_at(0);
    assert_eq!(storage.list("").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(storage.list("").unwrap(), ["a"]);
    storage.set_capacity(SIZE as u64);
    assert_eq!(file.write_at(&filled(2), 4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
#[should_panic(expected = "is not aligned to 512")]
fn direct_io_wants_alignment() {
    let (_storage, file) = disk(6, Manner::default());
    let _ = file.write_at(&filled(2)[..100], 0);
}

#[test]
#[should_panic(expected = "beyond the end of a segment")]
fn nothing_is_written_beyond_a_segment() {
    let (storage, file) = disk(7, Manner::default());
    storage.allocate(&file, 16384).unwrap();
    let _ = file.write_at(&filled(2), 12288);
}
