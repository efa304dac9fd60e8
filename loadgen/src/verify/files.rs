//! Stores of files: Maildirs, mboxes, and what `smtp-sink` writes down.
//!
//! Standards: RFC 4155 (mbox; both ways of quoting are read); `smtp-sink(1)`, "dump file format".

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::mailbox::Mailbox;

/// Directories inside of directories at most; a link that leads back must not lead round for ever.
const DEPTH_MAX: usize = 16;

/// Every message of the Maildirs at and below `path`: the files in `new` and `cur`.
pub(super) fn maildirs(path: &Path, mailbox: &mut Mailbox<'_>) -> Result<(), String> {
    let mut found = false;
    let mut taken: HashSet<(PathBuf, OsString)> = HashSet::new();
    walk(path, 0, &mut |file| {
        let folder = file.parent().and_then(Path::file_name);
        if folder.is_some_and(|name| name == "new" || name == "cur") {
            found = true;
            // A reader of mail moves it from `new` to `cur`, with flags behind a colon, while we are looking.
            let maildir = file.parent().and_then(Path::parent).unwrap_or(path);
            if !taken.insert((maildir.to_owned(), unique_name(file))) {
                return Ok(());
            }
            mailbox.take(&file.display().to_string(), &fs::read(file)?, false);
        }
        Ok(())
    })?;
    // A Maildir that the first message has yet to make is one where everything is missing.
    if found || path.is_dir() { Ok(()) } else { Err(format!("{}: not a directory", path.display())) }
}

/// The name of a message in its Maildir, whatever flags it has.
fn unique_name(file: &Path) -> OsString {
    let name = file.file_name().unwrap_or_default().as_bytes();
    let end = name.iter().position(|&octet| octet == b':').unwrap_or(name.len());
    OsString::from_vec(name[..end].to_vec())
}

/// Every message of the mbox `path`, or of the mboxes in and below this directory.
pub(super) fn mboxes(path: &Path, mailbox: &mut Mailbox<'_>) -> Result<(), String> {
    walk(path, 0, &mut |file| mbox(file, mailbox))
}

/// Every message of one mbox.
fn mbox(path: &Path, mailbox: &mut Mailbox<'_>) -> io::Result<()> {
    let mut input = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let mut message: Option<Vec<u8>> = None;
    let mut number = 0_u64;
    let mut after_empty_line = true;
    let mut line = Vec::new();
    let mut take = |message: Option<Vec<u8>>| {
        if let Some(message) = message {
            number += 1;
            mailbox.take(&format!("{} (message {number})", path.display()), &message, true);
        }
    };
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if after_empty_line && line.starts_with(b"From ") {
            take(message.take());
            message = Some(Vec::new());
        } else if let Some(message) = &mut message {
            message.extend_from_slice(&line);
        } else {
            return Err(io::Error::other("not an mbox: it does not begin with a From line"));
        }
        after_empty_line = matches!(line.as_slice(), b"\n" | b"\r\n");
    }
    take(message.take());
    Ok(())
}

/// Every message that `smtp-sink` has written: to files in and below a directory, or to those whose names begin as the template does.
pub(super) fn smtp_sink(path: &Path, mailbox: &mut Mailbox<'_>) -> Result<(), String> {
    let mut take = |file: &Path| -> io::Result<()> {
        let dump = fs::read(file)?;
        for message in dumps(&dump) {
            mailbox.take(&file.display().to_string(), message, false);
        }
        Ok(())
    };
    if path.is_dir() {
        return walk(path, 0, &mut take);
    }
    let template = path.to_string_lossy();
    let prefix = Path::new(template.split('%').next().unwrap_or_default());
    let (folder, begin) = match prefix.file_name() {
        Some(name) if !prefix.as_os_str().to_string_lossy().ends_with('/') => {
            (prefix.parent().unwrap_or(Path::new("")), name.to_string_lossy().into_owned())
        }
        _ => (prefix, String::new()),
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let whole_prefix = folder.join(&begin);
    let whole_prefix = whole_prefix.to_string_lossy();
    walk(folder, 0, &mut |file| {
        if file.to_string_lossy().starts_with(&*whole_prefix) { take(file) } else { Ok(()) }
    })
}

/// The messages of a dump file: each begins with `X-Client-Addr:` and ends with an empty line.
fn dumps(file: &[u8]) -> Vec<&[u8]> {
    const MARK: &[u8] = b"\n\nX-Client-Addr: ";
    let mut messages = Vec::new();
    let mut rest = file;
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        let (message, more) = rest.split_at(at + 2);
        messages.push(message);
        rest = more;
    }
    messages.push(rest);
    messages
}

/// Calls `file` with every file at and below `path`.
fn walk(path: &Path, depth: usize, file: &mut dyn FnMut(&Path) -> io::Result<()>) -> Result<(), String> {
    let place = |error: io::Error| format!("{}: {error}", path.display());
    if !fs::metadata(path).map_err(place)?.is_dir() {
        return file(path).map_err(place);
    }
    if depth >= DEPTH_MAX {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(place)? {
        walk(&entry.map_err(place)?.path(), depth + 1, file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::acks::Acknowledged;
    use crate::content::{Content, ContentSettings};
    use crate::verify::{Copies, Sought, Verification};

    type Read = fn(&Path, &mut Mailbox<'_>) -> Result<(), String>;

    fn content() -> Content {
        Content::new(&ContentSettings {
            seed: 1,
            run: 5,
            sizes: "800".parse().unwrap(),
            from: "a@one.example",
            date: "Sat, 21 Nov 2026 21:44:57 +0000",
            dot_lines_percent: 0,
        })
    }

    fn unix(n: u64) -> String {
        String::from_utf8(content().message(n)).unwrap().replace("\r\n", "\n")
    }

    fn look(read: Read, path: &Path) -> Result<Verification, String> {
        let content = content();
        let acknowledged: Vec<Acknowledged> = (0..2).map(|n| Acknowledged::new(n, 1, b"")).collect();
        let sought = Sought { content: &content, run: 5, started_us: 0, acknowledged: &acknowledged };
        let mut mailbox = Mailbox::new(&sought, Copies::Message);
        read(path, &mut mailbox)?;
        Ok(mailbox.finish())
    }

    #[test]
    fn maildirs_at_any_depth() {
        let directory = tempfile::tempdir().unwrap();
        for (folder, n) in [("one/new", 0), ("two/.Junk/cur", 1), ("two/tmp", 0)] {
            fs::create_dir_all(directory.path().join(folder)).unwrap();
            fs::write(directory.path().join(folder).join("1.host:2,S"), unix(n)).unwrap();
        }
        assert!(look(maildirs, directory.path()).unwrap().holds(), "what is in tmp is not delivered yet");
        assert!(look(maildirs, &directory.path().join("none")).is_err());
    }

    #[test]
    fn a_message_that_is_moved_while_we_look_is_one() {
        let directory = tempfile::tempdir().unwrap();
        for (file, n) in
            [("a/new/1.host", 0), ("a/cur/1.host:2,S", 0), ("b/cur/1.host:2,", 1), ("b/cur/2.host:2,S", 1)]
        {
            let file = directory.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, unix(n)).unwrap();
        }
        let found = look(maildirs, directory.path()).unwrap();
        assert_eq!((found.found, found.duplicated), (1, 1), "another name is another copy: {found:?}");
    }

    #[test]
    fn messages_of_an_mbox() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mbox");
        let text = format!(
            "From a@b Sat Nov 21 21:44:57 2026\nX-Original-To: x\n{}\nFrom a@b Sat Nov 21 21:44:57 2026\n\
             Subject: other\n\nhello\n\nFrom a@b Sat Nov 21 21:44:57 2026\n{}\n",
            unix(0),
            unix(1)
        );
        fs::write(&path, text).unwrap();
        assert!(look(mboxes, &path).unwrap().holds());
        assert!(look(mboxes, directory.path()).unwrap().holds());
        fs::write(&path, "hello\n").unwrap();
        assert!(look(mboxes, &path).unwrap_err().contains("not an mbox"));
    }

    #[test]
    fn files_of_smtp_sink() {
        let directory = tempfile::tempdir().unwrap();
        let dump = |n| {
            format!(
                "X-Client-Addr: 127.0.0.1\nX-Mail-Args: <a>\nReceived: from x\n\tby y\n\tz\n{}\n",
                unix(n)
            )
        };
        fs::create_dir(directory.path().join("05")).unwrap();
        fs::write(directory.path().join("05/message.1"), dump(0) + &dump(1)).unwrap();
        fs::write(directory.path().join("05/other"), dump(1)).unwrap();
        let template = directory.path().join("05/message.%S");
        assert!(look(smtp_sink, &template).unwrap().holds());
        assert!(look(smtp_sink, &directory.path().join("%H/message.")).unwrap().duplicated == 1);
        assert_eq!(look(smtp_sink, directory.path()).unwrap().duplicated, 1);
    }
}
