//! What an operator who looks is shown of this conversation. Nobody does: then a turn costs one load.

use inrush_proto::{Recipient, Reply};
use inrush_trace::{Begin, Event, Traced};

use super::Talk;
use crate::core::Core;

impl Core {
    /// Tells of a session that it is not the turn of.
    pub(crate) fn tell_of(&self, traced: Traced, number: u64, opened: u64, event: &Event<'_>) {
        let now = self.clock.now();
        self.trace.attend(traced, number, opened, now, self.clock.wall(now));
        self.trace.tell(event);
        self.trace.attend(Traced::default(), 0, 0, 0, 0);
    }
}

impl Talk<'_> {
    /// The session's turn: what is observed from now on is its own.
    pub(super) fn attend(&mut self) {
        let trace = &self.core.trace;
        if trace.is_due(self.traced) {
            self.match_client();
        }
        if self.traced.is_seen() {
            let now = self.core.clock.now();
            trace.attend(self.traced, self.number, self.place.opened(), now, self.core.clock.wall(now));
        } else if trace.is_attended() {
            // Another session had to wait in the middle of its turn.
            trace.attend(Traced::default(), 0, 0, 0, 0);
        }
    }

    /// The end of the turn.
    pub(super) fn turn_away(&mut self) {
        if self.traced.is_seen() {
            self.core.trace.leave(&mut self.traced);
        }
    }

    /// Says the last word from outside the dialog.
    pub(super) fn close_with(&mut self, reply: &'static Reply) {
        self.attend();
        self.session.close_with(reply);
        self.turn_away();
    }

    /// Whom the session is with has changed.
    pub(super) fn forget_matches(&mut self) {
        self.show(&Event::End("introduced"));
        self.turn_away();
        self.traced = Traced::default();
    }

    /// Tells of this session, if somebody sees it.
    pub(super) fn show(&self, event: &Event<'_>) {
        if self.traced.is_seen() {
            self.core.tell_of(self.traced, self.number, self.place.opened(), event);
        }
    }

    /// Somebody has begun to look, or has ceased to.
    #[cold]
    fn match_client(&mut self) {
        let client = self.peer().ip();
        if self.core.trace.match_client(&mut self.traced, client) {
            self.show(&self.begin());
        }
    }

    /// Matches a recipient for those who wait for one.
    #[cold]
    pub(super) fn match_recipient(&mut self) {
        let Some(Recipient { path, .. }) = self.session.pending_recipient() else { return };
        let domain = path.domain().unwrap_or_default();
        if self.core.trace.match_recipient(&mut self.traced, domain) {
            self.show(&self.begin());
            self.attend();
            let Some(Recipient { path, .. }) = self.session.pending_recipient() else { return };
            self.core.trace.tell(&Event::Command(&[b"RCPT TO:<", path.as_str().as_bytes(), b">"].concat()));
        }
    }

    fn begin(&self) -> Event<'_> {
        let transaction = self.session.phase() != inrush_proto::Phase::Greeting
            && !self.session.transaction().recipient_spans().is_empty();
        Event::Begin(Begin {
            client: self.peer(),
            listener: &self.door.name,
            helo: self.session.hello_name(),
            from: transaction.then(|| self.session.transaction().reverse_path().as_str()),
            commands: self.session.commands(),
        })
    }
}
