//! A message on its way over a connection.

use crate::content::Needs;
use crate::destination::Job;
use crate::failure::Verdict;
use crate::settle::Attempt;

/// A message on its way.
pub(super) struct Flight {
    pub(super) job: Job,
    /// The next host is asked if this one has nothing of it.
    pub(super) goes_on: bool,
    /// Its transaction in the session; 0 = not begun.
    pub(super) number: u64,
    /// One for each recipient of the job, as far as there are verdicts.
    pub(super) verdicts: Vec<Option<Verdict>>,
    pub(super) needs: Needs,
    pub(super) head: Vec<u8>,
    pub(super) sent_at_us: u64,
    /// Recipients that the host has taken.
    pub(super) accepted: u32,
    /// All of the mail data has left.
    pub(super) whole: bool,
}

/// A message of which a host has nothing for the moment, and what it has said.
pub(super) struct Left {
    pub(super) job: Job,
    pub(super) attempt: Attempt,
    pub(super) verdicts: Vec<(u32, Verdict)>,
}

impl Flight {
    /// Whether the host may have the message although it has not said so (RFC 1047).
    pub(super) fn may_have_arrived(&self) -> bool {
        self.whole && self.accepted > 0
    }

    /// Whether each recipient has a verdict.
    pub(super) fn is_settled(&self) -> bool {
        self.verdicts.iter().all(Option::is_some)
    }

    /// Gives all recipients without a verdict this one.
    pub(super) fn settle_rest(&mut self, verdict: &Verdict) {
        for of in self.verdicts.iter_mut().filter(|of| of.is_none()) {
            *of = Some(verdict.clone());
        }
    }
}
