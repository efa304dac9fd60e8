//! Clients that are made to wait: for the greeting, and for replies to their mistakes.

use std::time::Duration;

use inrush_metrics::Counter;
use inrush_proto::{Reply, Tls};

use super::{Talk, farewell_reply};
use crate::system::Waiting;
use crate::watch::Stage;

/// How often it is looked whether a client that waits is still there, and still has to.
const LOOK: Duration = Duration::from_millis(500);

/// The longest that the replies to one input are held back.
const HOLD_MAX: Duration = Duration::from_secs(30);

impl Talk<'_> {
    /// Lets the client wait for the greeting; false when there is another reply in its place.
    pub(super) async fn hold_greeting(&mut self) -> bool {
        if self.is_unlimited() || self.door.context.tls() == Tls::Implicit {
            return true;
        }
        self.rest(self.door.greet_delay).await;
        let refusal = match self.place.ending() {
            Some(ending) => farewell_reply(ending),
            // RFC 5321 §3.1: the client waits for the greeting.
            None if self.place.waiting() == Waiting::Octets => Reply::EARLY_TALKER,
            None => return true,
        };
        self.close_with(refusal);
        false
    }

    /// How many of the replies that wait answer errors of a session that has made too many.
    pub(super) fn new_slips(&mut self) -> u32 {
        let slips = self.session.errors().saturating_add(self.session.refused_recipients());
        let before = std::mem::replace(&mut self.slips, slips);
        let timeouts = &self.core.settings().timeouts;
        let new = slips.saturating_sub(before.max(timeouts.tarpit_after));
        if new == 0 || timeouts.tarpit_delay.is_zero() || self.is_unlimited() { 0 } else { new }
    }

    /// Holds the replies back for so many errors.
    pub(super) async fn hold_replies(&mut self, slips: u32) {
        self.core.metrics.add(Counter::Tarpits, slips.into());
        self.rest(self.core.settings().timeouts.tarpit_delay.saturating_mul(slips).min(HOLD_MAX)).await;
    }

    /// Does nothing for a while, unless the peer leaves or the session has to end. To be boxed: only sessions that are made to wait pay for a
    /// timer.
    pub(super) async fn rest(&mut self, time: Duration) {
        if time.is_zero() {
            return;
        }
        self.place.enter(Stage::Rest, self.core.clock.now());
        let mut left = time;
        while !left.is_zero() && self.place.ending().is_none() && self.place.waiting() != Waiting::End {
            monoio::time::sleep(left.min(LOOK)).await;
            left = left.saturating_sub(LOOK);
        }
        // A gate may have been opened, and closed for a later write, while nobody listened.
        self.woken_at = 0;
    }
}
