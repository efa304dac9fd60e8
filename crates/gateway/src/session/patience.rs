//! Clients that are made to wait: for the greeting, and for replies to their mistakes.

use std::time::Duration;

use inrush_policy::Access;
use inrush_proto::{Reply, Tls};

use super::Talk;
use crate::watch::Stage;

impl Talk<'_> {
    /// Lets the client wait for the greeting; false when it could not wait, and is told so instead.
    pub(super) async fn hold_greeting(&mut self) -> bool {
        if self.core.access_of(self.peer().ip()) == Access::Allowed
            || self.door.context.tls() == Tls::Implicit
        {
            return true;
        }
        self.rest(self.door.greet_delay).await;
        // RFC 5321 §3.1: the client waits for the greeting. An end of the connection shows at the first receive.
        let early = self.place.ending().is_none() && self.place.has_input();
        if early {
            self.session.close_with(Reply::EARLY_TALKER);
        }
        !early
    }

    /// Whether the replies that wait answer errors of a session that has made too many.
    pub(super) fn has_slipped(&mut self) -> bool {
        let slips = self.session.errors().saturating_add(self.session.refused_recipients());
        if slips == self.slips {
            return false;
        }
        self.slips = slips;
        let timeouts = &self.core.settings().timeouts;
        slips > timeouts.tarpit_after
            && !timeouts.tarpit_delay.is_zero()
            && self.core.access_of(self.peer().ip()) != Access::Allowed
    }

    /// Does nothing for a while. To be boxed: only sessions that are made to wait pay for a timer.
    pub(super) async fn rest(&self, time: Duration) {
        if !time.is_zero() {
            self.place.enter(Stage::Rest, self.core.clock.now());
            monoio::time::sleep(time).await;
        }
    }
}
