//! What the session core reports while it works: counters, and which commands this input has brought.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use inrush_logging::{CoreLines, Names, Refusals};
use inrush_metrics::{CoreWriter, Counter, Phase};
use inrush_proto::{Observe, Reply, Verb};
use inrush_trace::{CoreTrace, Event};

use crate::settings::GatewaySettings;

/// The commands of the input that is being worked off. One session at a time is worked on, and it takes what it left.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    verbs: Cell<u32>,
    commands: Cell<u32>,
    last: Cell<Option<Verb>>,
    /// Replies that refuse something, which may have been no command at all.
    refused: Cell<u16>,
    refusals: RefCell<Refusals>,
}

impl Turn {
    /// What was refused since the last call.
    pub(crate) fn take_refusals(&self) -> Refusals {
        self.refusals.take()
    }

    /// The commands since the last call.
    pub(crate) fn take(&self) -> Commands {
        Commands {
            verbs: self.verbs.take(),
            count: self.commands.take(),
            refused: self.refused.take(),
            last: self.last.take(),
        }
    }
}

/// A set of verbs, and how many commands there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commands {
    verbs: u32,
    pub(crate) count: u32,
    /// How many replies were refusals.
    pub(crate) refused: u16,
    last: Option<Verb>,
}

const _: () = assert!(Verb::ALL.len() <= 32);

impl Commands {
    pub(crate) fn has(self, verb: Verb) -> bool {
        self.verbs & (1 << verb.index()) != 0
    }

    /// Whether something was refused.
    pub(crate) fn has_refused(self) -> bool {
        self.refused > 0
    }

    /// Whether there are no others than these, and none was refused.
    pub(crate) fn are_taken_and_among(self, verbs: &[Verb]) -> bool {
        let set = verbs.iter().fold(0, |set, verb| set | 1 << verb.index());
        self.refused == 0 && self.verbs & !set == 0
    }

    /// The last one.
    pub(crate) fn last(self) -> Option<Verb> {
        self.last
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.verbs |= other.verbs;
        self.count += other.count;
        self.refused = self.refused.saturating_add(other.refused);
        self.last = other.last.or(self.last);
    }

    /// The phases whose replies have left, each named once.
    pub(crate) fn phases(self) -> impl Iterator<Item = Phase> {
        let mut verbs = self.verbs;
        std::iter::from_fn(move || {
            if verbs == 0 {
                return None;
            }
            let index = verbs.trailing_zeros();
            verbs &= verbs - 1;
            Some(match Verb::ALL[index as usize] {
                Verb::Helo | Verb::Ehlo | Verb::Lhlo => Phase::Ehlo,
                Verb::Mail => Phase::Mail,
                Verb::Rcpt => Phase::Rcpt,
                Verb::Data => Phase::Data,
                Verb::Bdat => Phase::Bdat,
                _ => Phase::Other,
            })
        })
    }
}

/// Reports of the session core of one core.
pub(crate) struct Observer {
    pub(crate) metrics: CoreWriter,
    pub(crate) turn: Rc<Turn>,
    pub(crate) trace: Rc<CoreTrace>,
}

impl Observe for Observer {
    fn reply(&self, reply: &'static Reply, wire: &[u8]) {
        self.metrics.reply(reply.index());
        if reply.code() >= 400 {
            self.turn.refused.set(self.turn.refused.get().saturating_add(1));
            self.turn.refusals.borrow_mut().add(u16::try_from(reply.index()).unwrap_or(u16::MAX));
        }
        if self.trace.is_attended() {
            self.trace.tell(&Event::Reply(wire.strip_suffix(b"\r\n").unwrap_or(wire)));
        }
    }

    fn command(&self, verb: Verb, line: &[u8]) {
        self.metrics.command(verb.index());
        self.turn.verbs.set(self.turn.verbs.get() | 1 << verb.index());
        self.turn.commands.set(self.turn.commands.get() + 1);
        self.turn.last.set(Some(verb));
        if self.trace.is_attended() {
            self.trace.tell_command(line, verb == Verb::Auth, verb != Verb::Unknown);
        }
    }

    fn unauthorized_pipelining(&self) {
        self.metrics.count(Counter::UnauthorizedPipelining);
    }
}

/// The ring for the lines of a core.
pub(crate) fn lines(core: usize, settings: &GatewaySettings) -> CoreLines {
    inrush_logging::of_core(Names {
        core,
        listeners: settings.listeners.iter().map(|listener| listener.name.clone()).collect(),
        reasons: Reply::ALL.iter().map(|reply| reply.reason().unwrap_or_default()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_once_and_joined() {
        let turn = Turn::default();
        turn.verbs.set(1 << Verb::Mail.index() | 1 << Verb::Rcpt.index());
        turn.commands.set(3);
        turn.last.set(Some(Verb::Rcpt));
        let mut commands = turn.take();
        assert_eq!(turn.take().count, 0);
        assert!(commands.has(Verb::Mail) && commands.has(Verb::Rcpt) && !commands.has(Verb::Data));
        assert!(commands.are_taken_and_among(&[Verb::Rcpt, Verb::Mail, Verb::Bdat]));
        assert!(!commands.are_taken_and_among(&[Verb::Mail, Verb::Bdat]));
        assert_eq!(commands.last(), Some(Verb::Rcpt));
        commands.join(Commands {
            verbs: 1 << Verb::Quit.index(),
            count: 1,
            refused: 1,
            last: Some(Verb::Quit),
        });
        commands.join(Commands::default());
        assert_eq!(commands.last(), Some(Verb::Quit));
        assert!(!commands.are_taken_and_among(&Verb::ALL));
        let phases: Vec<Phase> = commands.phases().collect();
        assert_eq!(phases, [Phase::Mail, Phase::Rcpt, Phase::Other]);
        assert_eq!(commands.count, 4);
    }
}
