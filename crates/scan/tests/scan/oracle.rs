//! What the scanner must find, told a second time and in another way: over the whole of the data, with searches instead
//! of a state machine. Slow, and simple enough to be read as the definition.

use inrush_scan::Findings;

/// The end of the data in `input`, one past its last octet.
pub(crate) fn end_of_data(input: &[u8]) -> Option<usize> {
    // RFC 5321 §4.1.1.4: the CRLF of the DATA command stands before the first line.
    let mut whole = b"\r\n".to_vec();
    whole.extend_from_slice(input);
    (0..whole.len()).find(|&at| whole[at..].starts_with(b"\r\n.\r\n")).map(|at| at + 5 - 2)
}

/// What is in `data`, which has no end-of-data indication. `complete`: no octet will follow.
pub(crate) fn findings_in(data: &[u8], complete: bool) -> Findings {
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut rest = data;
    while let Some(at) = (0..rest.len()).find(|&at| rest[at..].starts_with(b"\r\n")) {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    let ends = lines.len() as u64;
    let pending_cr = data.ends_with(b"\r");
    let dot_lines = lines.iter().chain([&rest]).filter(|line| line.starts_with(b".")).count() as u64;
    lines.push(if pending_cr && !complete { &rest[..rest.len() - 1] } else { rest });
    Findings {
        octets: data.len() as u64,
        lines: ends,
        longest_line: lines
            .iter()
            .map(|line| u32::try_from(line.len()).unwrap_or(u32::MAX))
            .max()
            .unwrap_or(0),
        dot_lines,
        bare_cr: data.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n') || (pending_cr && complete),
        bare_lf: (0..data.len()).any(|at| data[at] == b'\n' && (at == 0 || data[at - 1] != b'\r')),
        nul: data.contains(&0),
        eight_bit: !data.is_ascii(),
        ends_with_crlf: data.ends_with(b"\r\n"),
    }
}
