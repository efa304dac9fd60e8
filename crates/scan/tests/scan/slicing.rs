//! The answer does not depend on how the octets are sliced, and agrees with the oracle after every slice.

use inrush_scan::{Findings, Implementation, Scanner, implementations};
use proptest::prelude::*;

use crate::oracle;

/// Octets that matter to the scanner, and one that does not.
const OCTETS: [u8; 6] = [b'\r', b'\n', b'.', b'a', 0, 0x80];

/// Scans `input` as DATA, split at `splits`, and checks the findings after every slice.
fn check_data(implementation: &Implementation, input: &[u8], splits: &[usize]) {
    let end = oracle::end_of_data(input);
    let expected = oracle::findings_in(&input[..end.map_or(input.len(), |end| end - 3)], false);
    let mut scanner = Scanner::new();
    let mut from = 0;
    for &to in splits.iter().chain([&input.len()]) {
        let found = implementation.scan_data(&mut scanner, &input[from..to]);
        let case =
            || format!("{} {:?} {from}..{to}", implementation.name(), input.escape_ascii().to_string());
        match end {
            Some(end) if end <= to => {
                assert_eq!(found, Some(end - from), "{}", case());
                assert_eq!(scanner.findings(), expected, "{}", case());
                assert_eq!(scanner.findings_at_end(), expected, "{}", case());
                assert_eq!(implementation.scan_data(&mut scanner, b"\nMAIL\0"), Some(0));
                implementation.scan_opaque(&mut scanner, b"\nMAIL\0");
                assert_eq!(scanner.findings(), expected, "{}", case());
                return;
            }
            _ => assert_eq!(found, None, "{}", case()),
        }
        assert_eq!(scanner.findings(), oracle::findings_in(&input[..to], false), "{}", case());
        from = to;
    }
    assert_eq!(scanner.findings_at_end(), oracle::findings_in(input, true));
}

/// Scans `input` as BDAT, split at `splits`.
fn check_opaque(
    implementation: &Implementation,
    input: &[u8],
    splits: &[usize],
    expected: (Findings, Findings),
) {
    let mut scanner = Scanner::new();
    let mut from = 0;
    for &to in splits.iter().chain([&input.len()]) {
        implementation.scan_opaque(&mut scanner, &input[from..to]);
        from = to;
    }
    let found = (scanner.findings(), scanner.findings_at_end());
    assert_eq!(
        found,
        expected,
        "{} {:?} {splits:?}",
        implementation.name(),
        input.escape_ascii().to_string()
    );
}

#[test]
fn nothing_scanned_nothing_found() {
    assert_eq!(Scanner::new().findings(), Findings::default());
    assert_eq!(Scanner::new().findings_at_end(), Findings::default());
    for implementation in implementations() {
        let mut scanner = Scanner::new();
        assert_eq!(implementation.scan_data(&mut scanner, b""), None);
        assert_eq!(scanner.findings(), Findings::default());
        assert_eq!(implementation.scan_data(&mut scanner, b".\r\n"), Some(3));
        assert_eq!(scanner.findings(), Findings::default());
    }
}

/// All strings of `OCTETS` with `len` octets.
fn strings(len: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..OCTETS.len().pow(len)).map(move |mut index| {
        let mut string = Vec::new();
        for _ in 0..len {
            string.push(OCTETS[index % OCTETS.len()]);
            index /= OCTETS.len();
        }
        string
    })
}

#[test]
fn every_short_string_at_every_split() {
    let implementations = implementations();
    for input in (0..=6).flat_map(strings) {
        let expected = (oracle::findings_in(&input, false), oracle::findings_in(&input, true));
        for split in 0..=input.len() {
            for implementation in &implementations {
                check_data(implementation, &input, &[split]);
                check_opaque(implementation, &input, &[split], expected);
            }
        }
    }
}

/// What a scanner may get wrong at the edge of a block or a slice.
const SEQUENCES: &[&[u8]] = &[
    b"\r\n.\r\n",
    b"\r\n.\r\n.\r\n",
    b"\r\n..\r\n",
    b"\r\n.\r\r\n.\r\n",
    b"\r\n.a\r\n.\r\n",
    b"\r\n.\r",
    b"\r\n.",
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\r\n",
    b"\n\r\n.\r\n",
    b"\0\r\n.\r\n\0",
    b"\xff\r\n.\r\n\xff",
    b"a\r\n.\r\n\r",
    b"a\r\n.\r\n\n",
    b"\r\n\r\n\r\n.\r\n\r\n.\r\n",
    b"\r\naaaa\r\naa\r\naaaaaaaa\r\n.aaa\r\n",
];

#[test]
fn every_sequence_at_every_offset_and_split() {
    let implementations = implementations();
    for sequence in SEQUENCES {
        for before in 0..128 {
            for behind in [0, 1, 70, 300] {
                let mut input = vec![b'a'; before];
                input.extend_from_slice(sequence);
                input.resize(input.len() + behind, b'b');
                let expected = (oracle::findings_in(&input, false), oracle::findings_in(&input, true));
                for split in before.saturating_sub(2)..=(before + sequence.len() + 2).min(input.len()) {
                    for implementation in &implementations {
                        check_data(implementation, &input, &[split]);
                        check_opaque(implementation, &input, &[split], expected);
                    }
                }
            }
        }
    }
}

#[test]
fn the_longest_line_wherever_it_stands_in_a_block() {
    let implementations = implementations();
    for first in 0..64 {
        for second in 0..64 {
            for third in 60..64 {
                // A group of blocks with a line of 60, then line ends at every place of a block, and behind them enough
                // for one more group.
                let mut input = Vec::new();
                for len in [60].into_iter().chain([0; 97]).chain([first, second, third]).chain([0; 128]) {
                    input.extend_from_slice(&[b'a'; 64][..len]);
                    input.extend_from_slice(b"\r\n");
                }
                let longest = u32::try_from(60.max(first).max(second).max(third)).expect("less than 64");
                for implementation in &implementations {
                    let mut scanner = Scanner::new();
                    implementation.scan_opaque(&mut scanner, &input);
                    let found = scanner.findings().longest_line;
                    assert_eq!(found, longest, "{} {first} {second} {third}", implementation.name());
                }
            }
        }
    }
}

/// Octets as in bad mail: often a special one, long runs in between.
fn rough() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::collection::vec(proptest::sample::select(&OCTETS[..]), 0..6),
        4 => (0_usize..200).prop_map(|len| vec![b'x'; len]),
        3 => Just(b"\r\n".to_vec()),
        2 => Just(b"\r\n.".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..80),
        1 => Just(b"\r\n.\r\n".to_vec()),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// Where to cut, as shares of the input.
fn cuts() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(0.0..=1.0, 0..12)
}

fn splits(input: &[u8], cuts: &[f64]) -> Vec<usize> {
    let mut splits: Vec<usize> = cuts
        .iter()
        .map(|cut| {
            #[expect(clippy::cast_possible_truncation, reason = "within the input")]
            let at = (cut * input.len() as f64) as usize;
            at
        })
        .collect();
    splits.sort_unstable();
    splits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_input_in_any_slices(input in rough(), cuts in cuts()) {
        let splits = splits(&input, &cuts);
        let expected = (oracle::findings_in(&input, false), oracle::findings_in(&input, true));
        for implementation in implementations() {
            check_data(&implementation, &input, &splits);
            check_opaque(&implementation, &input, &splits, expected);
        }
    }

    #[test]
    fn one_octet_at_a_time(input in rough()) {
        let splits: Vec<usize> = (0..input.len()).collect();
        for implementation in implementations() {
            check_data(&implementation, &input, &splits);
        }
    }
}
