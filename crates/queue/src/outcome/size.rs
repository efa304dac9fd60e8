//! How large a record becomes, known before it is made: none is larger than the log takes.
//!
//! An outcome for many recipients goes into several records, and what each of them says is said of its own recipients. A crash between two of
//! them leaves the others as they were.

use inrush_log::{RECORD_HEADER_OCTETS, RECORD_OCTETS_MAX};

use super::{OutcomeRef, PATH_OCTETS_MAX, REPLY_OCTETS_MAX, ResultRef, cut};

/// Octets of the content of one record at most.
pub const NOTE_OCTETS_MAX: usize = RECORD_OCTETS_MAX - RECORD_HEADER_OCTETS;

/// The fixed part of an outcome, and what alignment may add.
const OUTCOME_OCTETS: usize = 120 + 16;
/// The fixed part of a result.
const RESULT_OCTETS: usize = 48;

// One recipient fits, whatever its paths are.
const _: () =
    assert!(OUTCOME_OCTETS + RESULT_OCTETS + 3 * PATH_OCTETS_MAX + 3 * REPLY_OCTETS_MAX <= NOTE_OCTETS_MAX);

impl OutcomeRef<'_> {
    /// The outcome in parts that each fit into a record: mostly one.
    pub fn parts(&self) -> impl Iterator<Item = OutcomeRef<'_>> {
        let mut rest = Some(self.results);
        std::iter::from_fn(move || {
            let results = rest.take()?;
            let (part, left) = results.split_at(self.fitting(results));
            rest = Some(left).filter(|left| !left.is_empty());
            Some(OutcomeRef { results: part, ..self.clone() })
        })
    }

    /// How many of these results fit into one record.
    fn fitting(&self, results: &[ResultRef<'_>]) -> usize {
        let paths = [self.sender, self.destination].map(|path| cut(path, PATH_OCTETS_MAX).len());
        let names = [self.relay, self.tls].map(|name| cut(name, REPLY_OCTETS_MAX).len());
        let mut octets = OUTCOME_OCTETS + paths.into_iter().chain(names).sum::<usize>();
        let mut before: &[u8] = b"";
        for (index, result) in results.iter().enumerate() {
            octets += RESULT_OCTETS + cut(result.address, PATH_OCTETS_MAX).len();
            if result.reply != before {
                octets += cut(result.reply, REPLY_OCTETS_MAX).len();
                before = result.reply;
            }
            if octets > NOTE_OCTETS_MAX && index > 0 {
                return index;
            }
        }
        results.len()
    }
}
