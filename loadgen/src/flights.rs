//! The messages under way on one connection, and what the server's replies mean for them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use inrush_proto::client::{Answer, Command, Protocol, Severity};

use crate::record::{Counts, Phase, Record};
use crate::worker::{Ticket, Worker};

/// A message under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) ticket: Ticket,
    pub(crate) octets: usize,
    mail_sent: Instant,
    /// The last command of the envelope was answered, so the next one left.
    step_began: Instant,
    recipients: u32,
    pub(crate) body_sent: Instant,
    recipients_refused: u32,
    /// Recipients that the final replies so far were positive for.
    delivered: u32,
    acknowledged: bool,
    /// Its first error is booked; what follows from it is not.
    cause_booked: bool,
}

/// How a message came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Refused,
    Failed,
    Unfinished,
    /// For want of something on this machine.
    Impossible,
}

/// The messages of a connection, oldest first.
#[derive(Debug)]
pub(crate) struct Flights {
    worker: Rc<Worker>,
    sender: usize,
    /// Where this connection is booked: sender and target.
    part: usize,
    /// Commands go in groups here.
    pub(crate) grouped: bool,
    flights: VecDeque<Flight>,
    /// Transaction number of the oldest.
    front: u64,
    /// Time of the last read.
    pub(crate) now: Instant,
    pub(crate) connected_at: Instant,
    hello_sent: Instant,
}

impl Flights {
    pub(crate) fn new(worker: Rc<Worker>, sender: usize) -> Self {
        let now = Instant::now();
        let flights = VecDeque::with_capacity(worker.plan.senders[sender].in_flight);
        Self {
            worker,
            sender,
            part: 0,
            grouped: false,
            flights,
            front: 1,
            now,
            connected_at: now,
            hello_sent: now,
        }
    }

    /// For a new connection.
    pub(crate) fn restart(&mut self, target: usize) {
        debug_assert!(self.flights.is_empty());
        self.front = 1;
        self.part = self.sender * self.worker.plan.targets.len() + target;
    }

    /// The message is this connection's.
    pub(crate) fn started(&self, ticket: &Ticket) {
        self.record(ticket, |record| record.counts_mut(ticket.measured).started += 1);
    }

    pub(crate) fn begin(&mut self, ticket: Ticket, octets: usize, recipients: u32) {
        self.flights.push_back(Flight {
            ticket,
            octets,
            recipients,
            mail_sent: self.now,
            step_began: self.now,
            body_sent: self.now,
            recipients_refused: 0,
            delivered: 0,
            acknowledged: false,
            cause_booked: false,
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn newest(&mut self) -> Option<&mut Flight> {
        self.flights.back_mut()
    }

    /// Books a reply. True: a message was acknowledged with it.
    pub(crate) fn answer(&mut self, answer: &Answer<'_>) -> bool {
        let now = self.now;
        match answer.command {
            Command::Greeting => {
                self.time_connection(Phase::Banner, self.connected_at);
                self.hello_sent = now;
                return false;
            }
            Command::Hello(_) => {
                if answer.reply.is_completed() {
                    self.time_connection(Phase::Ehlo, self.hello_sent);
                }
                self.hello_sent = now;
                return false;
            }
            Command::Reset | Command::Quit | Command::StartTls => return false,
            _ => {}
        }
        let index = usize::try_from(answer.transaction.wrapping_sub(self.front)).unwrap_or(usize::MAX);
        let Some(flight) = self.flights.get_mut(index) else {
            debug_assert!(false, "answers belong to messages under way");
            return false;
        };
        let worker = &*self.worker;
        let completed = answer.reply.is_completed();
        let current = flight.ticket.stage == worker.stage_number();
        let mut records = worker.records.borrow_mut();
        let record = &mut records[self.part];
        let times = current && flight.ticket.measured;
        let mut time = |phase: Phase, since: Instant| {
            if times {
                record.time(phase, now.saturating_duration_since(since));
            }
        };
        let alone = !self.grouped;
        let place = match answer.command {
            Command::Mail => {
                if completed && alone {
                    time(Phase::Mail, flight.step_began);
                }
                flight.step_began = now;
                "mail"
            }
            Command::Recipient(index) => {
                if completed {
                    if alone {
                        time(Phase::Recipient, flight.step_began);
                    }
                    if index + 1 == flight.recipients {
                        time(Phase::Envelope, flight.mail_sent);
                    }
                } else {
                    flight.recipients_refused += 1;
                }
                flight.step_began = now;
                "rcpt"
            }
            Command::Data => {
                if answer.reply.severity() == Severity::Intermediate && alone {
                    time(Phase::Data, flight.step_began);
                }
                "data"
            }
            _ => {
                // A 250 for a message without recipients delivers nothing.
                flight.acknowledged |= completed && answer.recipients_accepted > 0;
                if completed {
                    // RFC 2033 §4.2: in LMTP each final reply is for one recipient.
                    let lmtp = worker.plan.protocol == Protocol::Lmtp;
                    flight.delivered += if lmtp { 1 } else { answer.recipients_accepted };
                    time(Phase::Body, flight.body_sent);
                } else if matches!(answer.command, Command::FinalFor(_)) {
                    flight.recipients_refused += 1;
                }
                "final"
            }
        };
        // One refused message is one cause, though each command of its group may be refused; recipients count one by one.
        let refused = matches!(answer.reply.severity(), Severity::Transient | Severity::Permanent);
        let about_one = matches!(answer.command, Command::Recipient(_) | Command::FinalFor(_));
        if refused && (!flight.cause_booked || (about_one && flight.recipients_refused > 1)) {
            flight.cause_booked = true;
            if current {
                record.cause(place, answer.reply.code, answer.reply.text);
            }
        }
        if !answer.end {
            return false;
        }
        debug_assert_eq!(index, 0);
        self.front += 1;
        let Some(flight) = self.flights.pop_front() else { return false };
        if !flight.acknowledged {
            drop(records);
            self.book(&flight.ticket, Failure::Refused);
            return false;
        }
        if times {
            record.time(Phase::Total, now.saturating_duration_since(flight.ticket.start));
            // A slow sender ends when it pleases.
            if !worker.plan.senders[self.sender].is_slow() || worker.plan.only_slow() {
                worker.last_acknowledged.set(Some(now));
            }
        }
        if current {
            let counts = record.counts_mut(flight.ticket.measured);
            counts.acknowledged += 1;
            counts.octets += flight.octets as u64;
            counts.recipients_refused += u64::from(flight.recipients_refused);
        }
        drop(records);
        let mut series = worker.series.borrow_mut();
        // The slowness of a slow sender is its own.
        let slow = worker.plan.senders[self.sender].is_slow() && !worker.plan.only_slow();
        let total = (!slow).then(|| now.saturating_duration_since(flight.ticket.start));
        series.acknowledged(now, total, flight.octets as u64);
        if flight.recipients_refused > 0 {
            series.errors(now, u64::from(flight.recipients_refused));
        }
        drop(series);
        worker.over(&flight.ticket);
        for _ in 0..flight.recipients_refused {
            worker.error();
        }
        let mut acks = worker.acks.borrow_mut();
        if !acks.is_idle() {
            acks.add(flight.ticket.n, flight.delivered, answer.reply.text, &worker.plan.content);
        }
        true
    }

    /// Books a message that came to nothing.
    pub(crate) fn book(&self, ticket: &Ticket, failure: Failure) {
        self.record(ticket, |record| {
            let counts = record.counts_mut(ticket.measured);
            match failure {
                Failure::Refused => counts.refused += 1,
                Failure::Failed => counts.failed += 1,
                Failure::Unfinished => counts.unfinished += 1,
                Failure::Impossible => counts.not_possible += 1,
            }
        });
        self.worker.series.borrow_mut().errors(self.now, 1);
        self.worker.over(ticket);
        self.worker.error();
    }

    /// Books all messages under way as come to nothing; how many they were.
    pub(crate) fn lose(&mut self, failure: Failure) -> usize {
        let lost = self.flights.len();
        while let Some(flight) = self.flights.pop_front() {
            self.book(&flight.ticket, failure);
        }
        lost
    }

    /// Books a cause that belongs to the connection.
    pub(crate) fn cause(&self, place: &'static str, code: u16, text: &[u8]) {
        self.worker.records.borrow_mut()[self.part].cause(place, code, text);
    }

    /// Books what belongs to the connection, not to a message of it.
    pub(crate) fn count_connection(&self, measured: bool, count: impl FnOnce(&mut Counts)) {
        count(self.worker.records.borrow_mut()[self.part].counts_mut(measured));
    }

    /// Books a phase of the connection that ends now.
    pub(crate) fn time_connection(&self, phase: Phase, since: Instant) {
        if self.worker.is_measured(since) {
            let taken = self.now.saturating_duration_since(since);
            self.worker.records.borrow_mut()[self.part].time(phase, taken);
        }
    }

    /// The connection is under TLS since now, and EHLO leaves once more.
    pub(crate) fn secured(&mut self) {
        self.hello_sent = self.now;
    }

    fn record(&self, ticket: &Ticket, book: impl FnOnce(&mut Record)) {
        self.worker.with_record(self.part, ticket.stage, book);
    }
}
