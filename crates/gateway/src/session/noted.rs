//! What a session keeps of its transactions: their weight in memory, and when their phases happened.

use inrush_log::PhaseTimes;
use inrush_metrics::Counter;
use inrush_proto::{Phase, Transaction, Verb};

use super::Talk;
use super::secure::Secure;
use crate::core::Core;
use crate::observe::Commands;
use crate::talkers;

/// Octets of an envelope that do not count against the core's budget of memory.
const ENVELOPE_OCTETS_FREE: usize = 2048;

/// What the envelope of the open transaction takes of the core's budget of memory. A few recipients are free.
#[derive(Default)]
pub(super) struct Weight(usize);

impl Weight {
    /// Counts what the envelope has grown by; false when the budget does not allow it.
    pub(super) fn grow(&mut self, core: &Core, transaction: &Transaction) -> bool {
        let octets = transaction.text().len() + size_of_val(transaction.recipient_spans());
        if octets <= ENVELOPE_OCTETS_FREE || octets <= self.0 {
            return true;
        }
        let affordable = core.pool.charge(octets - self.0).is_ok();
        if affordable {
            self.0 = octets;
        }
        affordable
    }

    pub(super) fn release(&mut self, core: &Core) {
        core.pool.release(std::mem::take(&mut self.0));
    }
}

/// What the session core has reported about this conversation.
#[derive(Default)]
pub(super) struct Noted {
    /// Commands whose replies have not left yet.
    pub(super) commands: Commands,
    /// How many commands the input has brought that is being worked off.
    pub(super) of_input: u32,
    /// Refusals that the talkers have not been told of.
    untold_refusals: u16,
    /// How many transactions had begun.
    transactions: u32,
    pub(super) times: Times,
}

impl Noted {
    /// Takes over what was reported since the last call of the session with this number; `input_at` is when that input arrived, `transactions` how many
    /// the session has begun.
    pub(super) fn take(&mut self, core: &Core, session: u64, input_at: u64, transactions: u32) {
        let commands = core.turn.take();
        let begun = std::mem::replace(&mut self.transactions, transactions) != transactions;
        self.times.note(commands, begun, input_at);
        self.commands.join(commands);
        self.untold_refusals = self.untold_refusals.saturating_add(commands.refused);
        if commands.has_refused() {
            core.refusals.borrow_mut().entry(session).or_default().join(&core.turn.take_refusals());
        }
        let before = self.of_input;
        self.of_input += commands.count;
        if before <= 1 && self.of_input > 1 {
            core.metrics.count(Counter::PipelinedInputs);
        }
    }
}

impl Talk<'_> {
    /// Tells the talkers how many replies have refused something since the last call.
    pub(super) fn count_refusals(&mut self) {
        let refusals = std::mem::take(&mut self.noted.untold_refusals);
        if refusals > 0 {
            let open = matches!(self.session.phase(), Phase::Envelope | Phase::MailData);
            let sender = open.then(|| self.session.transaction().reverse_path());
            talkers::refused(&self.core.metrics, self.peer().ip(), sender, refusals.into());
        }
    }
}

/// When the phases of the open transaction happened, on the core's clock; 0 = not yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Times {
    hello: u64,
    pub(super) mail: u64,
    rcpt: u64,
    pub(super) data: u64,
}

impl Noted {
    /// TLS from now on; what was said before does not count (RFC 3207 §4.2).
    pub(super) fn secured(&mut self) {
        self.times = Times::default();
    }
}

impl Times {
    /// Takes over the time of the input that has brought `commands`, and with them a new transaction if one has `begun`.
    pub(super) fn note(&mut self, commands: Commands, begun: bool, input_at: u64) {
        if [Verb::Ehlo, Verb::Helo, Verb::Lhlo].iter().any(|verb| commands.has(*verb)) {
            self.hello = input_at;
        }
        // A MAIL that was refused begins nothing, and must not prolong what is open.
        if begun {
            self.mail = input_at;
            self.data = 0;
        }
        if commands.has(Verb::Rcpt) {
            self.rcpt = input_at;
        }
        // Of several BDAT the first counts.
        if commands.has(Verb::Data) || (commands.has(Verb::Bdat) && self.data == 0) {
            self.data = input_at;
        }
    }

    /// The times as the envelope keeps them.
    pub(super) fn on_the_wall(
        self,
        core: &Core,
        secure: Option<&Secure>,
        connected: u64,
        data_last: u64,
    ) -> PhaseTimes {
        let wall = |at: u64| if at == 0 { 0 } else { core.clock.wall(at) };
        PhaseTimes {
            connected_us: core.clock.wall(connected),
            tls_us: wall(secure.map_or(0, |secure| secure.since)),
            helo_us: wall(self.hello),
            auth_us: wall(secure.map_or(0, |secure| secure.login)),
            mail_us: wall(self.mail),
            rcpt_us: wall(self.rcpt),
            data_first_us: wall(self.data),
            data_last_us: wall(data_last),
        }
    }
}
