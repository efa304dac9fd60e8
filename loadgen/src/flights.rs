//! The messages under way on one connection, and what the server's replies mean for them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use inrush_proto::client::{Answer, Command, Protocol, Severity};

use crate::record::Phase;
use crate::worker::{Ticket, Worker};

/// A message under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) ticket: Ticket,
    pub(crate) octets: usize,
    mail_sent: Instant,
    envelope_done: Instant,
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
}

/// The messages of a connection, oldest first.
#[derive(Debug)]
pub(crate) struct Flights {
    worker: Rc<Worker>,
    flights: VecDeque<Flight>,
    /// Transaction number of the oldest.
    front: u64,
    /// Time of the last read.
    pub(crate) now: Instant,
    pub(crate) connected_at: Instant,
    hello_sent: Instant,
}

impl Flights {
    pub(crate) fn new(worker: Rc<Worker>) -> Self {
        let now = Instant::now();
        let flights = VecDeque::with_capacity(worker.plan.in_flight);
        Self { worker, flights, front: 1, now, connected_at: now, hello_sent: now }
    }

    /// For a new connection.
    pub(crate) fn restart(&mut self) {
        debug_assert!(self.flights.is_empty());
        self.front = 1;
    }

    pub(crate) fn begin(&mut self, ticket: Ticket, octets: usize) {
        self.flights.push_back(Flight {
            ticket,
            octets,
            mail_sent: self.now,
            envelope_done: self.now,
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
                self.hello_sent = now;
                self.time_connection(Phase::Banner, self.connected_at);
                return false;
            }
            Command::Hello(_) => {
                if answer.reply.is_completed() {
                    self.time_connection(Phase::Ehlo, self.hello_sent);
                }
                return false;
            }
            Command::Reset | Command::Quit => return false,
            _ => {}
        }
        let index = usize::try_from(answer.transaction.wrapping_sub(self.front)).unwrap_or(usize::MAX);
        let Some(flight) = self.flights.get_mut(index) else {
            debug_assert!(false, "answers belong to messages under way");
            return false;
        };
        let worker = &*self.worker;
        let completed = answer.reply.is_completed();
        let place = match answer.command {
            Command::Mail => "mail",
            Command::Recipient(index) => {
                if completed {
                    if index + 1 == worker.plan.recipients {
                        flight.envelope_done = now;
                        flight.time(worker, Phase::Envelope, now, flight.mail_sent);
                    }
                } else {
                    flight.recipients_refused += 1;
                }
                "rcpt"
            }
            Command::Data => {
                if answer.reply.severity() == Severity::Intermediate {
                    flight.time(worker, Phase::Data, now, flight.envelope_done);
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
                }
                if completed {
                    flight.time(worker, Phase::Body, now, flight.body_sent);
                }
                "final"
            }
        };
        // One refused message is one cause, though each command of its group may be refused; recipients count one by one.
        let refused = matches!(answer.reply.severity(), Severity::Transient | Severity::Permanent);
        if refused && (!flight.cause_booked || (place == "rcpt" && flight.recipients_refused > 1)) {
            flight.cause_booked = true;
            worker.record.borrow_mut().cause(place, answer.reply.code, answer.reply.text);
        }
        if !answer.end {
            return false;
        }
        debug_assert_eq!(index, 0);
        self.front += 1;
        let Some(flight) = self.flights.pop_front() else { return false };
        if !flight.acknowledged {
            self.book(flight.ticket, Failure::Refused);
            return false;
        }
        let mut record = worker.record.borrow_mut();
        let measured = flight.ticket.measured;
        if measured {
            record.time(Phase::Total, now.saturating_duration_since(flight.ticket.start));
            worker.last_acknowledged.set(Some(now));
        }
        let counts = record.counts_mut(measured);
        counts.acknowledged += 1;
        counts.octets += flight.octets as u64;
        counts.recipients_refused += u64::from(flight.recipients_refused);
        if let Some(series) = &mut record.series {
            series.acknowledged(
                now,
                now.saturating_duration_since(flight.ticket.start),
                flight.octets as u64,
            );
            if flight.recipients_refused > 0 {
                series.errors(now, u64::from(flight.recipients_refused));
            }
        }
        drop(record);
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
    pub(crate) fn book(&self, ticket: Ticket, failure: Failure) {
        let mut record = self.worker.record.borrow_mut();
        let counts = record.counts_mut(ticket.measured);
        match failure {
            Failure::Refused => counts.refused += 1,
            Failure::Failed => counts.failed += 1,
            Failure::Unfinished => counts.unfinished += 1,
        }
        if let Some(series) = &mut record.series {
            series.errors(self.now, 1);
        }
        drop(record);
        self.worker.error();
    }

    /// Books all messages under way as come to nothing; how many they were.
    pub(crate) fn lose(&mut self, failure: Failure) -> usize {
        let lost = self.flights.len();
        while let Some(flight) = self.flights.pop_front() {
            self.book(flight.ticket, failure);
        }
        lost
    }

    fn time_connection(&self, phase: Phase, since: Instant) {
        if self.worker.is_measured(self.connected_at) {
            self.worker.record.borrow_mut().time(phase, self.now.saturating_duration_since(since));
        }
    }
}

impl Flight {
    fn time(&self, worker: &Worker, phase: Phase, now: Instant, since: Instant) {
        if self.ticket.measured {
            worker.record.borrow_mut().time(phase, now.saturating_duration_since(since));
        }
    }
}
