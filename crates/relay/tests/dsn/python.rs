//! What Python's `email` makes of a report.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use serde::Deserialize;

/// A part of the multipart.
#[derive(Debug, Deserialize)]
pub(crate) struct Part {
    pub(crate) content_type: String,
    pub(crate) charset: Option<String>,
    pub(crate) encoding: String,
    /// Number of its fields.
    pub(crate) fields: usize,
}

/// A report, as parsed.
#[derive(Debug, Deserialize)]
pub(crate) struct Parsed {
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) report_type: String,
    pub(crate) boundary: String,
    /// How often the boundary stands anywhere.
    pub(crate) boundaries: usize,
    pub(crate) parts: Vec<Part>,
    pub(crate) text: String,
    pub(crate) status: Vec<Vec<(String, String)>>,
    /// Octets as code points.
    pub(crate) returned: String,
    /// Seconds since 1970.
    pub(crate) date: f64,
    pub(crate) to: Vec<String>,
    pub(crate) defects: Vec<String>,
}

impl Parsed {
    /// The value of a field of the report itself.
    pub(crate) fn field(&self, name: &str) -> &str {
        value(&self.fields, name).unwrap()
    }
}

/// The value of the one field of that name.
pub(crate) fn value<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    let mut found = fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
    let first = found.next();
    assert_eq!(found.next(), None, "{name} stands twice");
    first
}

/// Parses messages, all in one run of the program.
pub(crate) fn parse(messages: Vec<Vec<u8>>) -> Vec<Parsed> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dsn/parse.py");
    let mut python = Command::new("python3")
        .args(["-I", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed for this test");
    let count = messages.len();
    let mut stdin = python.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        for message in &messages {
            stdin.write_all(&u32::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
            stdin.write_all(message).unwrap();
        }
    });
    let lines = BufReader::new(python.stdout.take().unwrap()).lines();
    let parsed: Vec<Parsed> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    writer.join().unwrap();
    assert!(python.wait().unwrap().success());
    assert_eq!(parsed.len(), count);
    parsed
}
