//! What the log lines say of this conversation: one for each message, one for its end.

use inrush_log::Appended;
use inrush_logging::{MessageQueued, Peer, SessionEnded};
use inrush_metrics::{Family as _, SessionEnd, Timeout};
use inrush_proto::Transaction;
use inrush_trace::Event;

use super::Talk;
use crate::watch::Ending;

impl Talk<'_> {
    /// The open transaction's message is in the log under `id`.
    pub(super) fn say_queued(&mut self, appended: &Appended, id: &str) {
        let core = self.core;
        if self.traced.is_seen() {
            core.trace.tell(&Event::Queued(id, self.session.transaction().message_octets()));
        }
        if !core.lines.of_messages() {
            return;
        }
        let transaction = self.session.transaction();
        let recipients = transaction.recipient_spans();
        let times = self.noted.times;
        let message = MessageQueued {
            wall_us: core.wall(),
            gate: appended.gate.get(),
            id,
            peer: self.line_peer(),
            from: transaction.reverse_path().as_str(),
            recipients: recipients.len(),
            size: transaction.message_octets(),
            chunking: transaction.chunking(),
            mail_us: times.mail,
            data_us: times.data,
            end_us: self.input_at,
            appended_us: core.clock.recent(),
        };
        core.lines.message(&message, mailboxes(transaction));
    }

    /// The session is over.
    pub(super) fn say_ended(&mut self, end: SessionEnd) {
        let core = self.core;
        self.show(&Event::End(end.value()));
        // Its last replies.
        self.noted.take(core, self.number, self.input_at, self.session.transactions());
        let refusals = core.refusals.borrow_mut().remove(&self.number);
        if !core.lines.of_sessions() {
            return;
        }
        let now = core.clock.now();
        core.lines.session(&SessionEnded {
            wall_us: core.clock.wall(now),
            peer: self.line_peer(),
            duration_us: now.saturating_sub(self.place.opened()),
            commands: self.session.commands(),
            messages: self.place.shown.messages(),
            refusals: refusals.as_ref(),
            end: end.value(),
            timeout: self.place.ending().and_then(setting),
        });
    }

    fn line_peer(&self) -> Peer<'_> {
        let introduction = self.introduction();
        // What the proxy has ended is as good as ours, as in the envelope.
        let agreed = self.secure.as_deref().map(|secure| &secure.agreed);
        let agreed = agreed.or_else(|| introduction.and_then(|introduction| introduction.tls.as_ref()));
        Peer {
            listener: self.door.index,
            session: self.number,
            client: self.peer(),
            client_name: introduction.and_then(|introduction| introduction.name.as_deref()),
            proxy: introduction.and_then(|introduction| introduction.proxy),
            helo: self.session.hello_name(),
            protocol: self.session.protocol(),
            user: self.session.identity().map(|identity| identity.name.as_str()),
            tls: agreed.map(|agreed| (agreed.version, agreed.cipher.as_str())),
        }
    }
}

fn mailboxes(transaction: &Transaction) -> impl Iterator<Item = &str> {
    transaction.recipient_spans().iter().map(|recipient| transaction.slice(recipient.path.mailbox))
}

/// The setting of the clock that has run out.
fn setting(ending: Ending) -> Option<&'static str> {
    Some(match ending {
        Ending::Idle => Timeout::Idle.value(),
        Ending::Transaction => Timeout::Transaction.value(),
        Ending::Session => Timeout::Session.value(),
        Ending::DataRate => Timeout::DataRate.value(),
        Ending::Handshake => "handshake_timeout",
        Ending::Proxy => "proxy_timeout",
        Ending::Shutdown => return None,
    })
}
