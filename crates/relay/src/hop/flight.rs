//! A message on its way over a connection.

use crate::content::Needs;
use crate::destination::Job;
use crate::failure::Verdict;

/// A message on its way.
pub(super) struct Flight {
    pub(super) job: Job,
    /// Its transaction in the session; 0 = not begun.
    pub(super) number: u64,
    /// One for each recipient of the job, as far as there are verdicts.
    pub(super) verdicts: Vec<Option<Verdict>>,
    pub(super) needs: Needs,
    pub(super) head: Vec<u8>,
    pub(super) sent_at_us: u64,
    /// All of the mail data has left.
    pub(super) whole: bool,
}

impl Flight {
    pub(super) fn settle_rest(&mut self, verdict: &Verdict) {
        for of in self.verdicts.iter_mut().filter(|of| of.is_none()) {
            *of = Some(verdict.clone());
        }
    }
}
