//! `inrush user`: the file of those who may submit mail.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use inrush_tests::binary;
use inrush_tests::process::{self, Finished};
use serde_json::Value;
use tempfile::TempDir;

/// Hashes of `correct horse`, made with `openssl passwd -6` and with `htpasswd -nbB -C 5`.
const OPENSSL: &str = "$6$Xk2mZ9qLwB7vTn4R$.PZ1TiqAhbLLRLeV.SzhpoxBfy5yDOKdINy1Ed2AMWSanXjXNcwWZl21kPVL5VLlJhntJko52pHYh.vRPQW5J.";
const HTPASSWD: &str = "$2y$05$w2ChqL5OnOB3F2tM.GDUdOqAAm66ngT3UhZ6.tg8K4MNFP1dCfVO6";

struct Users {
    folder: TempDir,
}

impl Users {
    fn none() -> Self {
        Self { folder: TempDir::with_prefix("inrush-users-").unwrap() }
    }

    fn with(text: &str) -> Self {
        let users = Self::none();
        fs::write(users.file(), text).unwrap();
        users.set_mode(0o600);
        users
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    fn mode(&self) -> u32 {
        fs::metadata(self.file()).unwrap().mode() & 0o7777
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(self.file(), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Names of everything in the folder.
    fn names(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn run(&self, subcommand: &str, arguments: &[&str], input: &[u8]) -> Finished {
        run(subcommand, &self.file(), arguments, input)
    }

    fn add(&self, arguments: &[&str]) -> Finished {
        self.run("add", arguments, b"correct horse\n")
    }

    /// The command ends with 1 and one line of error that holds all of `words`; the file is as before.
    #[track_caller]
    fn refused(&self, subcommand: &str, arguments: &[&str], input: &[u8], words: &[&str]) {
        let before = fs::read(self.file()).ok();
        let finished = self.run(subcommand, arguments, input);
        let text = finished.text();
        assert_eq!(finished.status.code(), Some(1), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
        assert_eq!(fs::read(self.file()).ok(), before, "{text}");
    }

    fn listed(&self) -> Vec<Value> {
        let text = self.run("list", &["--json"], b"").succeeded().text();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn run(subcommand: &str, file: &Path, arguments: &[&str], input: &[u8]) -> Finished {
    let mut inrush = Command::new(binary::inrush());
    inrush.arg("user").arg(subcommand).arg("--file").arg(file).args(arguments);
    process::finish_with_input(inrush, input)
}

#[test]
fn add_list_remove() {
    let users = Users::none();
    users.add(&["joe@example.com"]).succeeded();
    assert_eq!(users.mode(), 0o600);
    users.add(&["ann", "--address", "ann@example.com", "--address", "@lists.example.com"]).succeeded();
    users.add(&["bob@example.com", "--hash", "bcrypt"]).succeeded();
    users.add(&["relay", "--hash", "sha512-crypt", "--address", "*"]).succeeded();
    let lines = users.lines();
    for (line, (front, end)) in lines.iter().zip([
        ("joe@example.com:$argon2id$v=19$m=19456,t=2,p=1$", ""),
        ("ann:$argon2id$v=19$m=19456,t=2,p=1$", ":ann@example.com,@lists.example.com"),
        ("bob@example.com:$2b$12$", ""),
        ("relay:$6$rounds=100000$", ":*"),
    ]) {
        assert!(line.starts_with(front) && line.ends_with(end), "{line}");
        assert!(!line.contains("correct horse"), "{line}");
    }
    assert_eq!(lines.len(), 4);

    let listed = users.listed();
    let expected = [
        r#"{"name":"joe@example.com","hash":"argon2id","addresses":["joe@example.com"]}"#,
        r#"{"name":"ann","hash":"argon2id","addresses":["ann@example.com","@lists.example.com"]}"#,
        r#"{"name":"bob@example.com","hash":"bcrypt","addresses":["bob@example.com"]}"#,
        r#"{"name":"relay","hash":"sha512-crypt","addresses":["*"]}"#,
    ]
    .map(|text| serde_json::from_str::<Value>(text).unwrap());
    assert_eq!(listed, expected);
    let text = users.run("list", &[], b"").succeeded().text();
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.lines().nth(1).unwrap().starts_with("ann "), "{text}");
    assert!(!text.contains('$'), "hashes are not shown: {text}");

    users.run("remove", &["ann"], b"").succeeded();
    assert_eq!(users.lines(), [&lines[0], &lines[2], &lines[3]].map(Clone::clone));
    assert_eq!(users.names(), ["users"]);
}

/// Other lines, comments and the mode stay; hashes of other programs are known.
#[test]
fn what_others_wrote_stays() {
    let front = format!("# submission\r\n\n joe@example.com:{OPENSSL}\n");
    let users = Users::with(&format!("{front}# web\nann:{HTPASSWD}:ann@example.com"));
    users.set_mode(0o640);
    let kinds: Vec<_> = users.listed().iter().map(|user| user["hash"].clone()).collect();
    assert_eq!(kinds, ["sha512-crypt", "bcrypt"]);

    users.add(&["kim@example.com"]).succeeded();
    let text = users.text();
    let end = format!("# web\nann:{HTPASSWD}:ann@example.com\nkim@example.com:$argon2id$");
    assert!(text.starts_with(&format!("{front}{end}")), "{text}");
    assert_eq!(users.mode(), 0o640);

    // A new password: the addresses stay, the line keeps its place.
    users.add(&["ann", "--replace"]).succeeded();
    let lines = users.lines();
    assert!(lines[4].starts_with("ann:$argon2id$") && lines[4].ends_with(":ann@example.com"), "{lines:?}");
    users.run("remove", &["ann"], b"").succeeded();
    assert!(users.text().starts_with(&format!("{front}# web\nkim@example.com:")), "{}", users.text());
}

/// Two gateways' worth of scripts at once: nobody is lost.
#[test]
fn two_writers() {
    let users = Users::none();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let users = &users;
            scope.spawn(move || {
                for user in 0..3 {
                    users.add(&[&format!("u{writer}-{user}@example.com")]).succeeded();
                }
            });
        }
    });
    assert_eq!(users.listed().len(), 12);
    assert_eq!(users.names(), ["users"]);
}

#[test]
fn a_link_stays_one() {
    let users = Users::with("");
    let link = users.folder.path().join("link");
    symlink(users.file(), &link).unwrap();
    run("add", &link, &["joe@example.com"], b"secret").succeeded();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(users.listed().len(), 1);
}

#[test]
fn refusals() {
    let users = Users::with(&format!("\njoe@example.com:{OPENSSL}\n"));
    let shown = users.file().display().to_string();
    users.refused("add", &["joe@EXAMPLE.com"], b"x\n", &[&shown, ":2:", "joe@example.com already"]);
    users.refused("remove", &["ann"], b"", &[&shown, "no user ann"]);
    users.refused("add", &["ann"], b"x\n", &["addresses"]);
    users.refused("add", &["a:b@example.com"], b"x\n", &["not a name"]);
    users.refused("add", &["ann", "--address", "ann"], b"x\n", &["\"ann\""]);
    users.refused("add", &["ann@example.com"], b"", &["password is empty"]);
    users.refused("add", &["ann@example.com"], b"\nsecond\n", &["password is empty"]);
    users.refused("add", &["ann@example.com"], b"\xff\n", &["UTF-8"]);
    users.refused("add", &["ann@example.com"], b"a\x07b\n", &["SASLprep"]);
    users.refused("add", &["ann@example.com"], &[b'x'; 1025], &["longer than 1024"]);
    users.refused("add", &["ann@example.com", "--hash", "bcrypt"], &[b'x'; 72], &["longer than 71"]);
    assert_eq!(users.names(), ["users"]);

    // What is not typed right is exit code 2.
    for arguments in [&["ann@example.com", "--hash", "md5"][..], &[], &["a", "b"]] {
        assert_eq!(users.add(arguments).status.code(), Some(2));
    }
    let none = Users::none();
    none.refused("list", &[], b"", &["cannot read", "users"]);
    none.refused("remove", &["joe"], b"", &["cannot read", "users"]);
    assert!(none.names().is_empty());
}

/// All mistakes of a file at once, with their lines, from every command.
#[test]
fn files_with_mistakes() {
    let dear =
        "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$KBJSI6BT3NyMAUsaKLL9Pzdt9MAPhw9LJEM85dOvTig";
    let users = Users::with(&format!(
        "joe@example.com:{OPENSSL}\njoe@example.com:{HTPASSWD}\nann@example.com:{dear}\n"
    ));
    let words = ["users:2: the same name as in line 1; ", "users:3: argon2id with m=4194304", "262144"];
    users.refused("list", &[], b"", &words);
    users.refused("add", &["kim@example.com"], b"x\n", &words);
    users.refused("remove", &["joe@example.com"], b"", &words);

    let users = Users::with(&format!("joe@example.com:{OPENSSL}\n"));
    users.set_mode(0o644);
    for (subcommand, name) in
        [("list", &[][..]), ("add", &["a@example.com"]), ("remove", &["joe@example.com"])]
    {
        users.refused(subcommand, name, b"x\n", &["mode 0644", "chmod o-rwx"]);
    }
}
