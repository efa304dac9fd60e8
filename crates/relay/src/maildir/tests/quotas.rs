//! Quotas and the file `maildirsize`.

use std::fs::{File, read_to_string, write};
use std::time::{Duration, SystemTime};

use super::super::Quota;
use super::*;

const TEN_OCTETS: &[u8] = b"123456789\r\n";

fn limited(place: &Place, octets: u64, messages: u64) -> Mailbox {
    let settings = MailboxSettings { quota: Quota { octets, messages }, ..settings() };
    Mailbox::open(&place.root, &settings).unwrap()
}

fn size_file(place: &Place) -> String {
    read_to_string(place.root.join("maildirsize")).unwrap()
}

/// Makes the file older than a count may be.
fn age(place: &Place) {
    let file = File::options().write(true).open(place.root.join("maildirsize")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(16 * 60)).unwrap();
}

#[track_caller]
fn assert_full(delivered: Result<Stored, MaildirError>) {
    let error = delivered.unwrap_err();
    let failure = error.failure();
    assert_eq!((failure.permanent, failure.code, failure.enhanced), (false, 452, (4, 2, 2)), "{error}");
}

#[track_caller]
fn assert_too_large(delivered: Result<Stored, MaildirError>) {
    let error = delivered.unwrap_err();
    let failure = error.failure();
    assert_eq!((failure.permanent, failure.code, failure.enhanced), (true, 552, (5, 2, 3)), "{error}");
}

#[test]
fn without_a_quota_there_is_no_file() {
    let place = Place::new();
    deliver(&place.open(), TEN_OCTETS).unwrap();
    assert_eq!(names(&place.root), ["cur", "new", "tmp"]);
}

#[test]
fn deliveries_are_appended_until_the_mailbox_is_full() {
    let place = Place::new();
    let mailbox = limited(&place, 35, 0);
    for _ in 0..3 {
        deliver(&mailbox, TEN_OCTETS).unwrap();
    }
    assert_eq!(size_file(&place), "35S\n0 0\n10 1\n10 1\n10 1\n");
    // Five octets still fit, six do not; that is known only at the end.
    assert_full(deliver(&mailbox, b"12345\r\n"));
    assert_eq!(size_file(&place), "35S\n30 3\n");
    deliver(&mailbox, b"1234\r\n").unwrap();
    // Now not even a file is made.
    assert_full(mailbox.begin(ID).map(|_| unreachable!()));
    assert_eq!(names(&place.root.join("new")).len(), 4);
    assert!(names(&place.root.join("tmp")).is_empty());
}

#[test]
fn messages_are_bound_as_well() {
    let place = Place::new();
    let mailbox = limited(&place, 0, 2);
    deliver(&mailbox, TEN_OCTETS).unwrap();
    deliver(&mailbox, TEN_OCTETS).unwrap();
    assert_full(deliver(&mailbox, TEN_OCTETS));
    assert_eq!(size_file(&place), "2C\n20 2\n");
}

#[test]
fn a_message_larger_than_the_quota_never_fits() {
    let place = Place::new();
    let mailbox = limited(&place, 10, 5);
    assert_too_large(deliver(&mailbox, b"1234567890\r\n"));
    let mut delivery = mailbox.begin(ID).unwrap();
    assert!(matches!(delivery.write(&[b'x'; 11]), Err(MaildirError::TooLarge { .. })));
    assert!(matches!(delivery.write(b"x"), Err(MaildirError::Incomplete { .. })));
    assert!(matches!(delivery.commit(), Err(MaildirError::Incomplete { .. })));
    // A CR that is held back at the end counts.
    assert_too_large(deliver(&mailbox, b"1234567890\r"));
    assert!(names(&place.root.join("tmp")).is_empty());
    deliver(&mailbox, TEN_OCTETS).unwrap();
}

#[test]
fn everything_but_the_trash_is_counted() {
    let place = Place::new();
    place.open();
    for (name, octets) in [
        ("cur/1.host,S=1000:2,S", 1),
        ("cur/2.host:2,RS", 200),
        ("cur/3.host,S=7:2,ST", 7),
        ("cur/.hidden", 9),
        ("new/4.host", 30),
        ("tmp/5.host", 9),
        (".Sent/cur/6.host:2,S", 4_000),
        (".Sent.2024/new/7.host,S=50000", 5),
        (".Sent/tmp/8.host", 9),
        (".Trash/cur/9.host:2,S", 9),
        ("other/cur/10.host:2,S", 9),
    ] {
        let path = place.root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(path, "x".repeat(octets)).unwrap();
    }
    // No folder at all.
    write(place.root.join(".file"), "x").unwrap();
    std::os::unix::fs::symlink(&place.root, place.root.join(".link")).unwrap();
    let mailbox = limited(&place, 1_000_000, 1_000);
    deliver(&mailbox, TEN_OCTETS).unwrap();
    assert_eq!(size_file(&place), "1000000S,1000C\n55230 5\n10 1\n");
}

#[test]
fn the_file_is_counted_anew_when_it_does_not_hold() {
    for text in [
        // Another quota.
        "999S\n500 7\n".to_owned(),
        "1000S,5C\n500 7\n".to_owned(),
        // Damaged, or never counted.
        "1000S\n500 x\n".to_owned(),
        "1000S\n500 7\n-600 -1\n".to_owned(),
        "1000S\n".to_owned(),
        String::new(),
        // Too long.
        format!("1000S\n{}", "1 1\n".repeat(2_000)),
    ] {
        let place = Place::new();
        let mailbox = limited(&place, 1_000, 0);
        write(place.root.join("maildirsize"), &text).unwrap();
        deliver(&mailbox, TEN_OCTETS).unwrap();
        assert_eq!(size_file(&place), "1000S\n0 0\n10 1\n", "{text:?}");
    }
    // One that holds is believed.
    let place = Place::new();
    let mailbox = limited(&place, 1_000, 0);
    write(place.root.join("maildirsize"), "1000S\n500 7\n-90 -1\n").unwrap();
    deliver(&mailbox, TEN_OCTETS).unwrap();
    assert_eq!(size_file(&place), "1000S\n500 7\n-90 -1\n10 1\n");
}

#[test]
fn a_full_mailbox_is_counted_again_after_a_while() {
    let place = Place::new();
    let mailbox = limited(&place, 1_000, 0);
    // A reader that knows nothing of quotas has deleted everything.
    write(place.root.join("maildirsize"), "1000S\n1000 7\n").unwrap();
    assert_full(deliver(&mailbox, TEN_OCTETS));
    assert_eq!(size_file(&place), "1000S\n1000 7\n");
    age(&place);
    deliver(&mailbox, TEN_OCTETS).unwrap();
    assert_eq!(size_file(&place), "1000S\n0 0\n10 1\n");
    // At once, when something was added since the count.
    write(place.root.join("maildirsize"), "1000S\n900 7\n100 1\n").unwrap();
    deliver(&mailbox, TEN_OCTETS).unwrap();
    assert_eq!(size_file(&place), "1000S\n10 1\n10 1\n");
}

#[test]
fn the_file_alone_can_set_the_quota() {
    let place = Place::new();
    let mailbox = place.open();
    write(place.root.join("maildirsize"), "25S\n").unwrap();
    deliver(&mailbox, TEN_OCTETS).unwrap();
    deliver(&mailbox, TEN_OCTETS).unwrap();
    assert_full(deliver(&mailbox, TEN_OCTETS));
    assert_eq!(size_file(&place), "25S\n20 2\n");
    assert_too_large(deliver(&mailbox, &[b'x'; 26]));
    // One without a quota is kept up to date for others.
    write(place.root.join("maildirsize"), "0S\n20 2\n").unwrap();
    deliver(&mailbox, TEN_OCTETS).unwrap();
    assert_eq!(size_file(&place), "0S\n20 2\n10 1\n");
}

#[test]
fn something_else_in_place_of_the_file_is_an_error() {
    let place = Place::new();
    let mailbox = limited(&place, 1_000, 0);
    std::fs::create_dir(place.root.join("maildirsize")).unwrap();
    let error = deliver(&mailbox, TEN_OCTETS).unwrap_err();
    assert!(error.to_string().contains("maildirsize"), "{error}");
    assert_eq!(error.failure().enhanced, (4, 3, 0));
    std::fs::remove_dir(place.root.join("maildirsize")).unwrap();
    let elsewhere = place.directory.path().join("elsewhere");
    write(&elsewhere, "1000S\n0 0\n").unwrap();
    std::os::unix::fs::symlink(&elsewhere, place.root.join("maildirsize")).unwrap();
    assert_eq!(deliver(&mailbox, TEN_OCTETS).unwrap_err().failure().enhanced, (4, 3, 0));
    assert_eq!(read_to_string(&elsewhere).unwrap(), "1000S\n0 0\n");
}

#[test]
fn eight_threads_note_every_message() {
    const EACH: usize = 25;
    let place = Place::new();
    let mailbox = limited(&place, 1_000_000, 0);
    deliver(&mailbox, TEN_OCTETS).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    deliver(&mailbox, TEN_OCTETS).unwrap();
                }
            });
        }
    });
    let text = size_file(&place);
    assert_eq!(text, format!("1000000S\n0 0\n{}", "10 1\n".repeat(8 * EACH + 1)));
}

#[test]
fn a_race_for_the_last_room_overshoots_by_a_few() {
    const THREADS: usize = 8;
    const ROOM: usize = 20;
    // One message each that a count did not see, where times of files are too coarse to tell, and one each under way.
    const OVER_MAX: usize = 2 * THREADS;
    let place = Place::new();
    let mailbox = limited(&place, 10 * ROOM as u64, 0);
    let delivered: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| (0..10).filter(|_| deliver(&mailbox, TEN_OCTETS).is_ok()).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(names(&place.root.join("new")).len(), delivered);
    assert!(names(&place.root.join("tmp")).is_empty());
    assert!(delivered < ROOM + OVER_MAX, "{delivered}");
    // Refused may have been somebody who found others' messages counted twice, but in the end all the room can be used.
    while deliver(&mailbox, TEN_OCTETS).is_ok() {}
    age(&place);
    while deliver(&mailbox, TEN_OCTETS).is_ok() {}
    assert!((ROOM..ROOM + OVER_MAX).contains(&names(&place.root.join("new")).len()));
}
