//! What the scanner is compared with. Each does a part of its work, and says what it found.

use std::hint::black_box;

use inrush_scan::{Findings, Scanner, implementations};
use memchr::memmem::Finder;

/// Reads mail data; whether the answer was right.
pub type Run = Box<dyn FnMut(&[u8]) -> bool>;

/// Something that reads mail data once.
pub struct Rival {
    /// The name in tables; for the scanner that of its implementation.
    pub name: String,
    /// What of the scanner's work it does.
    pub does: &'static str,
    /// The work.
    pub run: Run,
}

/// The scanner in each implementation, the scalar twin last, and then those that do a part of its work. `data` is what
/// all will read; the answers are worked out from it here, another way.
pub fn rivals(data: &[u8]) -> Vec<Rival> {
    let expected = expected(data);
    let mut rivals: Vec<Rival> = implementations()
        .into_iter()
        .map(|implementation| Rival {
            name: format!("scan {}", implementation.name()),
            does: "everything",
            run: Box::new(move |data| {
                let mut scanner = Scanner::new();
                let end = implementation.scan_data(&mut scanner, data);
                end == Some(data.len()) && scanner.findings() == expected
            }),
        })
        .collect();
    let finder = Finder::new(b"\r\n.\r\n").into_owned();
    rivals.push(Rival {
        name: "memmem".to_owned(),
        does: "finds the end only",
        run: Box::new(move |data| finder.find(data) == Some(data.len() - 5)),
    });
    rivals.push(Rival {
        name: "memchr2".to_owned(),
        does: "counts CR and LF",
        run: Box::new(move |data| {
            memchr::memchr2_iter(b'\r', b'\n', data).count() as u64 == 2 * (expected.lines + 1)
        }),
    });
    rivals.push(Rival {
        name: "memchr absent".to_owned(),
        does: "reads",
        run: Box::new(|data| memchr::memchr(0xff, data).is_none()),
    });
    let mut copy = vec![0; data.len()];
    rivals.push(Rival {
        name: "memcpy".to_owned(),
        does: "reads and writes",
        run: Box::new(move |data| {
            copy.copy_from_slice(data);
            black_box(&mut copy).last() == data.last()
        }),
    });
    rivals
}

/// What the scanner must find in the texts of [`crate::texts`].
fn expected(data: &[u8]) -> Findings {
    let text = &data[..data.len() - 3];
    let lines = || {
        let lines = text[..text.len() - 2].split(|&octet| octet == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    };
    Findings {
        octets: text.len() as u64,
        lines: lines().count() as u64,
        longest_line: lines().map(|line| u32::try_from(line.len()).unwrap_or(u32::MAX)).max().unwrap_or(0),
        dot_lines: lines().filter(|line| line.starts_with(b".")).count() as u64,
        ends_with_crlf: true,
        ..Findings::default()
    }
}
