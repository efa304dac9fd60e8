//! `run --verify` against a real Postfix that delivers into Maildirs and mboxes; it needs root for its own instance.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "the scripted server is for the other tests")]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use inrush_tests::postfix::{Postfix, Purpose, free_port};
use support::run;
use tempfile::TempDir;

/// Debian's `nobody`, who owns the mail.
const MAIL_OWNER: u32 = 65_534;

struct Delivering {
    address: String,
    /// `mail` and the table of mailboxes.
    mail: TempDir,
    _postfix: Postfix,
}

/// A Postfix that delivers the users of load.example where `mailboxes` say: lines `USER PATH`, a slash at the end for a Maildir.
fn postfix(mailboxes: &[(&str, &str)]) -> Delivering {
    let listen = free_port();
    let mail = TempDir::with_prefix("inrush-load-mail-").unwrap();
    chown(mail.path(), Some(MAIL_OWNER), Some(MAIL_OWNER)).unwrap();
    fs::set_permissions(mail.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let table: String =
        mailboxes.iter().map(|(user, path)| format!("{user}@load.example {path}\n")).collect();
    fs::write(mail.path().join("table"), table).unwrap();
    let base = format!("virtual_mailbox_base = {}/mail", mail.path().display());
    let maps = format!("virtual_mailbox_maps = texthash:{}/table", mail.path().display());
    fs::create_dir(mail.path().join("mail")).unwrap();
    chown(mail.path().join("mail"), Some(MAIL_OWNER), Some(MAIL_OWNER)).unwrap();
    let postfix = Postfix::start(&Purpose {
        listen: Some(listen),
        keep: vec!["load.example".to_owned()],
        main: vec![base, maps],
        ..Purpose::default()
    });
    Delivering { address: listen.to_string(), mail, _postfix: postfix }
}

#[test]
fn postfix_delivers_into_maildirs() {
    let server = postfix(&[("user0", "a/"), ("user1", "b/c/"), ("user2", "a/")]);
    let words = "-s 4 -m 60 -d --to user1@load.example -l uniform:10-9000 --dot-lines 20";
    let store = format!("--verify maildir:{}", server.mail.path().join("mail").display());
    let verified = run(&format!("{} {words} {store}", server.address));
    assert_eq!(verified.code, 0, "{}", verified.json["verification"]);
    assert_eq!(verified.json["verification"]["found"], 60);

    // A copy for each of three recipients.
    let words = "-m 10 -d -r 3 --to user{recipient}@load.example";
    let verified = run(&format!("{} {words} {store}", server.address));
    assert_eq!((verified.code, verified.json["verification"]["found"].as_u64()), (0, Some(10)));
    let verified =
        run(&format!("{} {words} {store} --verify-copies message --verify-wait 20s", server.address));
    assert_eq!(verified.code, 4, "{}", verified.json["verification"]);
    assert!(verified.json["verification"]["duplicated"].as_u64().unwrap() >= 1);

    // Somewhere else nothing is found.
    let elsewhere = tempfile::tempdir().unwrap();
    let store = format!("--verify maildir:{} --verify-wait 0s", elsewhere.path().display());
    let missing = run(&format!("{} -m 3 -d --to user0@load.example {store}", server.address));
    assert_eq!((missing.code, missing.json["verification"]["missing"].as_u64()), (4, Some(3)));
}

#[test]
fn postfix_delivers_into_an_mbox() {
    let server = postfix(&[("all", "all")]);
    let mbox = server.mail.path().join("mail/all");
    let store = format!("--verify mbox:{}", mbox.display());
    let words = "-s 4 -m 60 -d --to all@load.example -l uniform:10-9000 --dot-lines 20";
    let verified = run(&format!("{} {words} {store}", server.address));
    assert_eq!(verified.code, 0, "{}", verified.json["verification"]);
    assert_eq!(verified.json["verification"]["found"], 60);
}
