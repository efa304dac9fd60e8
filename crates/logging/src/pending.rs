//! Messages whose record has come, until their core's log is durable.

use std::collections::VecDeque;

use crate::line::Line;
use crate::records::{Committed, Waiting};

/// Messages of one core that may wait; a log holds far fewer in its batches.
pub(crate) const PENDING_MAX: usize = 1 << 16;

/// Those of one core, in the order of the log.
#[derive(Default)]
pub(crate) struct Pending(VecDeque<Waiting>);

impl Pending {
    /// Adds one; gives back whether another one had to go for it.
    pub(crate) fn push(&mut self, message: Waiting) -> bool {
        let full = self.0.len() >= PENDING_MAX;
        if full {
            self.0.pop_front();
        }
        self.0.push_back(message);
        full
    }

    /// The lines of those that are durable now.
    pub(crate) fn durable(&mut self, committed: &Committed, mut line: impl FnMut(Line)) {
        while self.0.front().is_some_and(|message| message.gate <= committed.gate) {
            if let Some(message) = self.0.pop_front() {
                line(message.durable(committed));
            }
        }
    }
}
