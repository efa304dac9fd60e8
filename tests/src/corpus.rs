//! The messages of `tests/corpus/messages`, and those that are better made than kept.

use std::fs;

use crate::binary::folder;
use crate::random::Random;

/// A message and what it is there for.
#[derive(Clone, Debug)]
pub struct Message {
    /// File name or purpose.
    pub name: String,
    /// Its octets, lines ended by CRLF.
    pub body: Vec<u8>,
}

/// All messages.
///
/// # Panics
/// A file cannot be read, or a message is not made of CRLF lines.
pub fn messages() -> Vec<Message> {
    let folder = folder("corpus/messages");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "eml"));
    let mut messages: Vec<Message> = files
        .map(|path| Message {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            body: fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        })
        .collect();
    messages.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(messages.len() >= 10, "the corpus is not there: {}", folder.display());
    messages.extend(made());
    for message in &messages {
        assert_lines(message);
    }
    messages
}

/// Sizes around the limits of records and buffers.
fn made() -> impl Iterator<Item = Message> {
    let sizes = [4096, 65_536, 252 * 1024 - 2, 252 * 1024, 252 * 1024 + 2, 256 * 1024, 1024 * 1024 + 7];
    sizes.into_iter().map(|octets| {
        let mut body = Random::new(octets).text(usize::try_from(octets).unwrap_or(0));
        body.truncate(usize::try_from(octets).unwrap_or(0).max(2) - 2);
        // Cut anywhere, the last line gets its end again; a CR that the cut left alone goes first.
        if body.last() == Some(&b'\r') {
            body.pop();
            body.push(b'x');
        }
        body.extend_from_slice(b"\r\n");
        Message { name: format!("{octets} octets"), body }
    })
}

fn assert_lines(message: &Message) {
    let body = &message.body;
    let crlf = body.windows(2).filter(|pair| pair == b"\r\n").count();
    let alone = |octet: u8| body.iter().filter(|b| **b == octet).count() - crlf;
    assert_eq!((alone(b'\r'), alone(b'\n')), (0, 0), "{}: a CR or LF alone", message.name);
    assert!(body.is_empty() || body.ends_with(b"\r\n"), "{}: no line end at the end", message.name);
}
