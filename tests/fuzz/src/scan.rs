//! The scanner against its oracle, in each implementation that the CPU has.
//!
//! The input begins with a script: octet 0 has the number of cuts in its low four bits, and bit 7 for BDAT; then an
//! octet for each cut, how long that slice is (from 128 on in steps of 16). Behind the script stands the mail data.

use inrush_scan::{Implementation, Scanner, implementations};

#[path = "../../../crates/scan/tests/scan/oracle.rs"]
mod oracle;

/// Runs one input; panics when an implementation and the oracle disagree.
pub fn run(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let (cuts, data) = rest.split_at(usize::from(first & 0x0f).min(rest.len()));
    let mut scans = implementations().into_iter().map(|each| (each, Scanner::new())).collect();
    if first & 0x80 == 0 {
        scan_data(&mut scans, data, cuts);
    } else {
        scan_opaque(&mut scans, data, cuts);
    }
}

/// The slices of `data` by the script, with the offset where each begins.
fn slices<'i>(data: &'i [u8], cuts: &'i [u8]) -> impl Iterator<Item = (usize, &'i [u8])> {
    let mut from = 0;
    let lens = cuts.iter().map(|&cut| match usize::from(cut) {
        cut @ ..128 => cut,
        cut => (cut - 127) * 16,
    });
    lens.chain([usize::MAX]).map(move |len| {
        let to = from + len.min(data.len() - from);
        let slice = (from, &data[from..to]);
        from = to;
        slice
    })
}

type Scans = Vec<(Implementation, Scanner)>;

fn scan_data(scans: &mut Scans, data: &[u8], cuts: &[u8]) {
    let end = oracle::end_of_data(data);
    for (from, slice) in slices(data, cuts) {
        let to = from + slice.len();
        let end = end.filter(|&end| end <= to);
        // Without the end so far, all is data; ".CRLF" is not.
        let expected = oracle::findings_in(&data[..end.map_or(to, |end| end - 3)], false);
        for (implementation, scanner) in scans.iter_mut() {
            let found = implementation.scan_data(scanner, slice);
            assert_eq!(found, end.map(|end| end - from), "{} {from}..{to}", implementation.name());
            assert_eq!(scanner.findings(), expected, "{} {from}..{to}", implementation.name());
        }
        if end.is_some() {
            return;
        }
    }
}

fn scan_opaque(scans: &mut Scans, data: &[u8], cuts: &[u8]) {
    let expected = (oracle::findings_in(data, false), oracle::findings_in(data, true));
    for (implementation, scanner) in scans {
        for (_, slice) in slices(data, cuts) {
            implementation.scan_opaque(scanner, slice);
        }
        let found = (scanner.findings(), scanner.findings_at_end());
        assert_eq!(found, expected, "{}", implementation.name());
    }
}
