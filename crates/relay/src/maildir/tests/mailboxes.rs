//! Making and opening mailboxes.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn existing_only() -> MailboxSettings {
    MailboxSettings { create: false, ..settings() }
}

#[test]
fn a_mailbox_is_made_with_what_is_above() {
    let place = Place::new();
    let mailbox = place.open();
    assert_eq!(mailbox.place(), place.root);
    assert_eq!(names(&place.root), ["cur", "new", "tmp"]);
    let (joe, domain) = (place.root.parent().unwrap(), place.directory.path().join("a.example"));
    for directory in [&place.root, &place.root.join("new"), joe, &domain] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    let stored = deliver(&mailbox, b"x\r\n").unwrap();
    assert_eq!(mode(&place.root.join("new").join(stored.name)), 0o600);
    // What is there is opened, whether or not it would be made.
    Mailbox::open(&place.root, &existing_only()).unwrap();
}

#[test]
fn the_mode_is_that_of_the_settings() {
    let place = Place::new();
    // Set-group-id is inherited, and stays.
    let domain = place.directory.path().join("a.example");
    std::fs::create_dir(&domain).unwrap();
    std::fs::set_permissions(&domain, std::fs::Permissions::from_mode(0o2755)).unwrap();
    let settings = MailboxSettings { mode: 0o770, ..settings() };
    let mailbox = Mailbox::open(&place.root, &settings).unwrap();
    assert_eq!(mode(&domain), 0o2755);
    assert_eq!(mode(&place.root), 0o2770);
    assert_eq!(mode(&place.root.join("cur")), 0o2770);
    let stored = deliver(&mailbox, b"x\r\n").unwrap();
    assert_eq!(mode(&place.root.join("new").join(stored.name)), 0o660);
}

#[test]
fn a_mailbox_that_is_not_to_be_made_is_unknown() {
    let place = Place::new();
    let failure = Mailbox::open(&place.root, &existing_only()).unwrap_err().failure();
    assert_eq!((failure.permanent, failure.code, failure.enhanced), (true, 550, (5, 1, 1)));
    assert_eq!(names(place.directory.path()), ["something"]);
}

#[test]
fn a_file_system_that_is_not_mounted_makes_nobody_unknown() {
    let place = Place::new();
    let mount_point = place.directory.path().join("mail");
    std::fs::create_dir(&mount_point).unwrap();
    symlink("/nowhere/at/all", place.directory.path().join("link")).unwrap();
    for root in ["mail/joe", "mail/a.example/joe/Maildir", "link", "link/joe"] {
        let error = Mailbox::open(&place.directory.path().join(root), &existing_only()).unwrap_err();
        assert!(!error.failure().permanent, "{error}");
    }
    let error = Mailbox::open(&mount_point.join("joe"), &existing_only()).unwrap_err();
    assert!(matches!(error, MaildirError::StorageMissing { .. }), "{error}");
    assert!(names(&mount_point).is_empty());
}

#[test]
fn what_is_missing_in_a_mailbox_is_made() {
    for missing in ["tmp", "new", "cur"] {
        let place = Place::new();
        place.open();
        std::fs::remove_dir(place.root.join(missing)).unwrap();
        let mailbox = Mailbox::open(&place.root, &existing_only()).unwrap();
        deliver(&mailbox, b"x\r\n").unwrap();
        assert_eq!(names(&place.root), ["cur", "new", "tmp"]);
    }
}

#[test]
fn links_in_place_of_directories_are_refused() {
    for linked in ["", "tmp", "new", "cur"] {
        let place = Place::new();
        place.open();
        let elsewhere = place.directory.path().join("elsewhere");
        let path = if linked.is_empty() { place.root.clone() } else { place.root.join(linked) };
        std::fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        for settings in [settings(), existing_only()] {
            let error = Mailbox::open(&place.root, &settings).unwrap_err();
            assert!(matches!(error, MaildirError::NotADirectory { .. }), "{error}");
            assert!(!error.failure().permanent);
        }
    }
    // A slash at the end must not make a link of the root a directory.
    let place = Place::new();
    symlink(place.directory.path(), place.directory.path().join("link")).unwrap();
    let error = Mailbox::open(&place.directory.path().join("link/"), &settings()).unwrap_err();
    assert!(matches!(error, MaildirError::NotADirectory { .. }), "{error}");
}

#[test]
fn links_above_are_followed() {
    let place = Place::new();
    place.open();
    symlink(place.directory.path().join("a.example"), place.directory.path().join("link")).unwrap();
    let mailbox = Mailbox::open(&place.directory.path().join("link/joe/Maildir"), &settings()).unwrap();
    deliver(&mailbox, b"x\r\n").unwrap();
    assert_eq!(names(&place.root.join("new")).len(), 1);
}

#[test]
fn a_directory_that_is_exchanged_meanwhile_gets_nothing() {
    let place = Place::new();
    let mailbox = place.open();
    let moved = place.directory.path().join("moved");
    std::fs::rename(&place.root, &moved).unwrap();
    let theirs = place.directory.path().join("theirs");
    std::fs::create_dir_all(theirs.join("new")).unwrap();
    symlink(&theirs, &place.root).unwrap();
    deliver(&mailbox, b"x\r\n").unwrap();
    assert!(names(&theirs.join("new")).is_empty());
    assert_eq!(names(&moved.join("new")).len(), 1);
}

#[test]
fn paths_that_are_none_of_a_mailbox() {
    let place = Place::new();
    for root in ["relative/joe", "", "/", "/tmp/../joe"] {
        let error = Mailbox::open(Path::new(root), &settings()).unwrap_err();
        assert!(matches!(error, MaildirError::Place { .. }), "{root}: {error}");
    }
    let error = Mailbox::open(&place.directory.path().join("something"), &settings()).unwrap_err();
    assert!(matches!(error, MaildirError::NotADirectory { .. }), "{error}");
    let error = Mailbox::open(&place.directory.path().join("something/joe"), &settings()).unwrap_err();
    assert!(matches!(error, MaildirError::NotADirectory { .. }), "{error}");
    let error = Mailbox::open(&place.directory.path().join("x".repeat(300)), &settings()).unwrap_err();
    assert_eq!(error.failure().enhanced, (5, 1, 3), "{error}");
}
