//! Where a sink keeps mail: as smtp-sink dumps it, in a Maildir or in an mbox. `run --verify` reads all of them.
//!
//! Files are written on the thread of the core, before the 250: a sink that keeps mail is no fast target.
//!
//! Standards: `smtp-sink(1)`, "dump file format"; RFC 4155 (mbox, `From ` quoted in the way of mboxrd).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Zoned;

use super::dialog::Message;

/// Where mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// smtp-sink's `-d`: a file for each message; the template is expanded as by strftime(3) and the id appended.
    Files(String),
    /// smtp-sink's `-D`: appended to a file named by a template.
    File(String),
    /// `new` of a Maildir.
    Maildir(PathBuf),
    /// Appended to an mbox.
    Mbox(PathBuf),
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("maildir", path)) if !path.is_empty() => Ok(Self::Maildir(path.into())),
            Some(("mbox", path)) if !path.is_empty() => Ok(Self::Mbox(path.into())),
            _ => Err(format!("{text:?} is no store (maildir:DIR, mbox:FILE)")),
        }
    }
}

impl Store {
    /// Makes what must be there, so that a wrong path is known before the first message.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Maildir(path) => {
                ["tmp", "new", "cur"].iter().try_for_each(|name| fs::create_dir_all(path.join(name)))
            }
            Self::Mbox(path) => append(path).map(drop),
            // Their names depend on the time.
            Self::Files(template) | Self::File(template) => {
                let path = expand(template)?;
                path.parent().map_or(Ok(()), fs::create_dir_all)
            }
        }
    }

    /// Writes a message down.
    ///
    /// # Errors
    /// From the file system.
    pub(super) fn write(&self, message: &Message<'_>, peer: IpAddr, manner: &Stamp<'_>) -> io::Result<()> {
        let id = format!("{:015X}", message.id);
        match self {
            Self::Files(template) => {
                let mut path = expand(template)?.into_os_string();
                path.push(&id);
                let path = PathBuf::from(path);
                make_parent(&path)?;
                // What is kept already is not written over, also when the clock was set back.
                File::create_new(path)?.write_all(&dump(message, peer, manner, &id))
            }
            Self::File(template) => {
                let path = expand(template)?;
                make_parent(&path)?;
                // One write for each message, so that cores do not mix theirs.
                append(&path)?.write_all(&dump(message, peer, manner, &id))
            }
            Self::Maildir(path) => {
                let name = format!("{}.{id}.{}", Zoned::now().timestamp().as_second(), manner.hostname);
                let temporary = path.join("tmp").join(&name);
                let mut text = fields(message, peer, manner, &id);
                unix(message.body, false, &mut text);
                File::create_new(&temporary)?.write_all(&text)?;
                // A link, which unlike a renamed file takes nobody's place.
                let linked = fs::hard_link(&temporary, path.join("new").join(name));
                fs::remove_file(temporary).and(linked)
            }
            Self::Mbox(path) => {
                let sender = String::from_utf8_lossy(super::dialog::address(message.sender)).into_owned();
                let sender = if sender.is_empty() { "MAILER-DAEMON".to_owned() } else { sender };
                let mut text =
                    format!("From {sender} {}\n", Zoned::now().strftime("%a %b %e %H:%M:%S %Y")).into_bytes();
                text.extend_from_slice(&fields(message, peer, manner, &id));
                unix(message.body, true, &mut text);
                if !text.ends_with(b"\n") {
                    text.push(b'\n');
                }
                text.push(b'\n');
                append(path)?.write_all(&text)
            }
        }
    }
}

/// What is written beside the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp<'a> {
    pub(super) hostname: &'a str,
    pub(super) lmtp: bool,
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn make_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => fs::create_dir_all(parent),
        _ => Ok(()),
    }
}

fn expand(template: &str) -> io::Result<PathBuf> {
    let now = Zoned::now();
    let expanded = jiff::fmt::strtime::format(template, &now);
    expanded
        .map(PathBuf::from)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
}

/// smtp-sink's format: its fields, the message, an empty line; lines end with LF.
fn dump(message: &Message<'_>, peer: IpAddr, stamp: &Stamp<'_>, id: &str) -> Vec<u8> {
    let mut text = fields(message, peer, stamp, id);
    unix(message.body, false, &mut text);
    text.push(b'\n');
    text
}

fn fields(message: &Message<'_>, peer: IpAddr, stamp: &Stamp<'_>, id: &str) -> Vec<u8> {
    let address = match peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("ipv6:{address}"),
    };
    let protocol = match (stamp.lmtp, message.esmtp) {
        (true, _) => "LMTP",
        (false, true) => "ESMTP",
        (false, false) => "SMTP",
    };
    // What a client says may hold anything; a line of it must stay one line.
    let printable = |text: &[u8]| text.escape_ascii().to_string();
    let mut out = format!("X-Client-Addr: {address}\nX-Client-Proto: {protocol}\n");
    let hello = printable(message.hello);
    if !hello.is_empty() {
        out.push_str(&format!("X-Helo-Args: {hello}\n"));
    }
    out.push_str(&format!("X-Mail-Args: {}\n", printable(message.sender)));
    for recipient in message.recipients {
        out.push_str(&format!("X-Rcpt-Args: {}\n", printable(recipient)));
    }
    let from = if hello.is_empty() { &address } else { &hello };
    let date = jiff::fmt::rfc2822::to_string(&Zoned::now()).unwrap_or_default();
    out.push_str(&format!(
        "Received: from {from} ([{address}])\n\tby {} (inrush-load) with {protocol} id {id};\n\t{date}\n",
        stamp.hostname
    ));
    out.into_bytes()
}

/// LF for CRLF; `quote`: `>` before `From `.
fn unix(body: &[u8], quote: bool, out: &mut Vec<u8>) {
    for line in body.split_inclusive(|&octet| octet == b'\n') {
        let from =
            line.iter().position(|&octet| octet != b'>').is_some_and(|at| line[at..].starts_with(b"From "));
        if quote && from {
            out.push(b'>');
        }
        match line.strip_suffix(b"\r\n") {
            Some(line) => {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            None => out.extend_from_slice(line),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn each_store_holds_the_message() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let recipients = [b"<c@d> NOTIFY=NEVER".to_vec()];
        let message = Message {
            id: 10,
            hello: b"me\nyou",
            esmtp: true,
            sender: b"<a@b> SIZE=5",
            recipients: &recipients,
            body: b"Subject: x\r\n\r\nFrom here\r\n>From there\r\n",
        };
        let stamp = Stamp { hostname: "sink.example", lmtp: false };
        for store in [
            Store::Files(at("%Y/m.").display().to_string()),
            Store::File(at("all").display().to_string()),
            Store::Maildir(at("maildir")),
            Store::Mbox(at("mbox")),
        ] {
            store.prepare().unwrap();
            store.write(&message, IpAddr::from([127, 0, 0, 1]), &stamp).unwrap();
        }
        let year = Zoned::now().year().to_string();
        let dump = fs::read_to_string(at(&year).join("m.00000000000000A")).unwrap();
        assert!(dump.starts_with(
            "X-Client-Addr: 127.0.0.1\nX-Client-Proto: ESMTP\nX-Helo-Args: me\\nyou\nX-Mail-Args: <a@b> SIZE=5\nX-Rcpt-Args: <c@d> NOTIFY=NEVER\nReceived: "
        ));
        assert!(dump.ends_with("\nSubject: x\n\nFrom here\n>From there\n\n"), "{dump}");
        assert_eq!(fs::read_to_string(at("all")).unwrap().len(), dump.len());
        let mbox = fs::read_to_string(at("mbox")).unwrap();
        assert!(
            mbox.starts_with("From a@b ") && mbox.ends_with("\n\n>From here\n>>From there\n\n"),
            "{mbox}"
        );
        assert_eq!(fs::read_dir(at("maildir/new")).unwrap().count(), 1);
        assert!("dir".parse::<Store>().is_err() && "mbox:".parse::<Store>().is_err());
    }
}
