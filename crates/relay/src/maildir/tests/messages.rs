//! What is in the files, and how they are named.

use std::collections::HashSet;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::super::{TMP_AGE_MAX, prepend};
use super::*;

#[test]
fn a_message_is_stored_with_its_fields_and_lf() {
    let place = Place::new();
    let mailbox = place.open();
    let mut fields = Vec::new();
    prepend(b"ann@b.example", b"joe@a.example", &mut fields);
    fields.extend_from_slice(b"Received: by mx.example\r\n");
    let message = b"Subject: x\r\n\r\nbare \r and \n stay\r\n\r\r\nend\r";
    // Every cut: no piece knows where a CRLF ends.
    for cut in 0..=message.len() {
        let mut delivery = mailbox.begin(ID).unwrap();
        delivery.write(&fields).unwrap();
        delivery.write(&message[..cut]).unwrap();
        delivery.write(&message[cut..]).unwrap();
        let stored = delivery.commit().unwrap();
        let file = std::fs::read(place.root.join("new").join(&stored.name)).unwrap();
        let expected = "Return-Path: <ann@b.example>\nDelivered-To: joe@a.example\nReceived: by mx.example\n\
                        Subject: x\n\nbare \r and \n stay\n\r\nend\r";
        assert_eq!(file, expected.as_bytes());
        assert_eq!(stored.octets, file.len() as u64);
        // All line ends but the CRLF that stands in the file get a CR.
        assert_eq!(stored.octets_crlf, stored.octets + 7);
        assert!(stored.name.ends_with(&format!(",S={},W={}", stored.octets, stored.octets_crlf)));
    }
    assert!(names(&place.root.join("tmp")).is_empty());
    assert!(names(&place.root.join("cur")).is_empty());
}

#[test]
fn names_tell_time_process_message_and_host() {
    let place = Place::new();
    let mailbox = Mailbox::open(&place.root, &MailboxSettings::new("mx/1:a")).unwrap();
    let stored = deliver(&mailbox, b"\r\n").unwrap();
    let (seconds, rest) = stored.name.split_once('.').unwrap();
    assert!(seconds.parse::<u64>().unwrap() > 1_700_000_000);
    let (unique, host) = rest.split_once('.').unwrap();
    assert!(unique.starts_with('M') && unique.contains(&format!("P{}Q", std::process::id())), "{unique}");
    assert!(unique.ends_with(&format!("_{ID}")), "{unique}");
    assert_eq!(host, "mx\\0571\\072a,S=1,W=2");
}

#[test]
fn a_message_larger_than_the_buffer() {
    let place = Place::new();
    let mailbox = place.open();
    let line = [b"x".repeat(98), b"\r\n".to_vec()].concat();
    let mut delivery = mailbox.begin(ID).unwrap();
    for _ in 0..3_000 {
        delivery.write(&line).unwrap();
    }
    // Only readers of `tmp` can see it so far.
    assert!(names(&place.root.join("new")).is_empty());
    let stored = delivery.commit().unwrap();
    assert_eq!((stored.octets, stored.octets_crlf), (99 * 3_000, 100 * 3_000));
    let file = std::fs::read(place.root.join("new").join(&stored.name)).unwrap();
    assert_eq!(file, [b"x".repeat(98), b"\n".to_vec()].concat().repeat(3_000));
}

#[test]
fn without_commit_nothing_stays() {
    let place = Place::new();
    let mailbox = place.open();
    let mut delivery = mailbox.begin(ID).unwrap();
    delivery.write(&[b'x'; 100_000]).unwrap();
    assert_eq!(names(&place.root.join("tmp")).len(), 1);
    drop(delivery);
    assert!(names(&place.root.join("tmp")).is_empty());
    assert!(names(&place.root.join("new")).is_empty());
}

#[test]
fn what_is_no_message_id_is_refused() {
    let place = Place::new();
    let mailbox = place.open();
    for id in ["", "../../../etc/passwd0", "0a1b2c123456789abcde"] {
        let failure = mailbox.begin(id).unwrap_err().failure();
        assert_eq!((failure.permanent, failure.enhanced), (false, (4, 3, 0)));
    }
    assert!(names(&place.root.join("tmp")).is_empty());
}

#[test]
fn eight_threads_lose_nothing() {
    const EACH: usize = 40;
    let place = Place::new();
    let stored: Vec<(String, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let place = &place;
                scope.spawn(move || {
                    // Each makes the mailbox if it is the first.
                    let mailbox = place.open();
                    let one = |number| {
                        let text = format!("thread {thread} message {number}\n");
                        (deliver(&mailbox, text.as_bytes()).unwrap().name, text)
                    };
                    (0..EACH).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: HashSet<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(distinct.len(), 8 * EACH);
    assert_eq!(names(&place.root.join("new")).len(), 8 * EACH);
    assert!(names(&place.root.join("tmp")).is_empty());
    for (name, text) in stored {
        assert_eq!(std::fs::read_to_string(place.root.join("new").join(name)).unwrap(), text);
    }
}

#[test]
fn only_old_files_are_cleaned_from_tmp() {
    let place = Place::new();
    let mailbox = place.open();
    let tmp = place.root.join("tmp");
    for (name, hours) in [("old", 37), ("young", 35)] {
        std::fs::write(tmp.join(name), "x").unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(hours * 3_600);
        let seconds = then.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let time = Timespec { tv_sec: seconds.try_into().unwrap(), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, tmp.join(name), &times, AtFlags::empty()).unwrap();
    }
    std::fs::create_dir(tmp.join("directory")).unwrap();
    std::os::unix::fs::symlink(place.directory.path(), tmp.join("link")).unwrap();
    let delivery = mailbox.begin(ID).unwrap();
    assert_eq!(mailbox.clean_tmp(TMP_AGE_MAX).unwrap(), 1);
    assert_eq!(mailbox.clean_tmp(TMP_AGE_MAX).unwrap(), 0);
    assert_eq!(names(&tmp).len(), 4);
    // Whatever its age, nothing but files is removed.
    drop(delivery);
    assert_eq!(mailbox.clean_tmp(Duration::ZERO).unwrap(), 1);
    assert_eq!(names(&tmp), ["directory", "link"]);
}
