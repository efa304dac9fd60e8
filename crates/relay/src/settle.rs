//! From what a host has said to what the queue keeps: status, next attempt, outcome, line of the log.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::rc::Rc;

use inrush_proto::client::Severity;
use inrush_queue::{OutcomeRef, ResultRef, Status, outcome_flag, result_flag};

use crate::destination::Job;
use crate::failure::Verdict;
use crate::shared::{Shared, now_us};

/// One attempt, as far as it got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempt {
    /// As in the outcome log.
    pub(crate) destination: Vec<u8>,
    /// `name[address]:port`, or what else was spoken to.
    pub(crate) relay: Rc<str>,
    /// Name of that host alone.
    pub(crate) host: Rc<str>,
    /// `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    pub(crate) tls: Rc<str>,
    /// The next hop has taken over the duty to tell the sender (RFC 3461 §5.2.1).
    pub(crate) dsn_handed_on: bool,
    /// A mailbox has it: nobody will send it on.
    pub(crate) is_final: bool,
    /// In µs since 1970; 0 = not got there.
    pub(crate) connected_at_us: u64,
    /// The message began to be sent.
    pub(crate) sent_at_us: u64,
}

/// A recipient with what it came to.
pub(crate) struct Settled {
    pub(crate) recipient: u32,
    pub(crate) verdict: Verdict,
    pub(crate) status: Status,
    pub(crate) next_attempt_us: u64,
    pub(crate) flags: u8,
    pub(crate) attempts: u32,
}

impl Shared {
    /// Records the end of an attempt. Each recipient of the job has a verdict.
    pub(crate) fn settle(self: &Rc<Self>, job: Job, attempt: &Attempt, verdicts: Vec<(u32, Verdict)>) {
        let now = now_us();
        let accepted_at = job.accepted_at_us / 1_000_000;
        let expired = self.ledger.borrow().is_expired(accepted_at, now / 1_000_000);
        // One for all: recipients that are put off together are tried together.
        let random = self.random();
        let settled: Vec<_> = verdicts
            .into_iter()
            .map(|(recipient, verdict)| {
                let attempts = job.attempts.saturating_add(1);
                let (status, next) = match verdict.severity {
                    Severity::Completed | Severity::Intermediate => (Status::Sent, 0),
                    Severity::Permanent => (Status::Bounced, 0),
                    Severity::Transient if expired => (Status::Expired, 0),
                    Severity::Transient => {
                        let pause = self.queue.pause(attempts, random);
                        let pause = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
                        (Status::Deferred, now.saturating_add(pause))
                    }
                };
                Settled {
                    recipient,
                    verdict,
                    status,
                    next_attempt_us: next,
                    flags: kept(job.flags),
                    attempts,
                }
            })
            .collect();
        self.follow_attempt(&job, attempt, &settled, now);
        self.tell_and_record(job, attempt.clone(), settled);
    }

    /// Puts a message off without an attempt: it is due at once, and waits at its destination.
    pub(crate) fn put_off(&self, job: &Job, destination: &[u8], verdict: &Verdict) {
        let now = now_us();
        let next_attempt_us = if destination.is_empty() { now + micros(self.queue.retry_first) } else { now };
        let settled = job.recipients.iter().map(|&recipient| Settled {
            recipient,
            verdict: verdict.clone(),
            status: Status::Deferred,
            next_attempt_us,
            flags: kept(job.flags) | result_flag::PARKED,
            attempts: job.attempts,
        });
        let settled: Vec<_> = settled.collect();
        let attempt = Attempt { destination: destination.to_vec(), ..Attempt::default() };
        self.record(job, &attempt, &settled, 0);
    }

    /// Keeps a message until an operator decides.
    pub(crate) fn hold(&self, job: &Job, destination: &[u8]) {
        let settled: Vec<_> = job
            .recipients
            .iter()
            .map(|&recipient| Settled {
                recipient,
                verdict: Verdict::later((4, 3, 0), "held"),
                status: Status::Held,
                next_attempt_us: 0,
                flags: kept(job.flags),
                attempts: job.attempts,
            })
            .collect();
        let attempt = Attempt { destination: destination.to_vec(), ..Attempt::default() };
        self.record(job, &attempt, &settled, 0);
    }

    /// Writes an outcome down, and says it in the log.
    pub(crate) fn record(&self, job: &Job, attempt: &Attempt, settled: &[Settled], flags: u16) {
        let Ok(envelope) = job.message.envelope() else { return };
        let now = now_us();
        let addresses: Vec<&[u8]> = envelope.recipients().map(|recipient| recipient.path).collect();
        let address = |index: u32| addresses.get(index as usize).copied().unwrap_or_default();
        let results: Vec<_> = settled
            .iter()
            .map(|settled| ResultRef {
                recipient: settled.recipient,
                status: settled.status,
                flags: settled.flags,
                attempts: settled.attempts,
                next_attempt_us: settled.next_attempt_us,
                code: settled.verdict.code,
                enhanced: settled.verdict.enhanced,
                address: address(settled.recipient),
                reply: &settled.verdict.text,
            })
            .collect();
        let outcome = OutcomeRef {
            id: job.message.id,
            at_us: now,
            place: job.place,
            accepted_at_us: job.accepted_at_us,
            octets: job.message.body_octets().unwrap_or_default(),
            recipients_total: u32::try_from(addresses.len()).unwrap_or(u32::MAX),
            flags,
            sender: envelope.reverse_path(),
            destination: &attempt.destination,
            relay: attempt.relay.as_bytes(),
            tls: attempt.tls.as_bytes(),
            started_at_us: if attempt.relay.is_empty() { 0 } else { job.taken_at_us },
            connected_at_us: attempt.connected_at_us,
            sent_at_us: attempt.sent_at_us,
            results: &results,
        };
        self.recorder.borrow_mut().record(&mut self.ledger.borrow_mut(), &outcome);
        if !self.outcomes_wait.replace(true) {
            self.attention.notify_one();
        }
        for settled in settled {
            self.count(&attempt.destination, settled.status, 1);
            if flags & outcome_flag::COMMAND == 0 {
                self.replies.borrow_mut().note(&attempt.destination, settled, now);
            }
            if settled.status == Status::Sent {
                let delay = now.saturating_sub(job.message.header.accepted_at_us);
                self.delivery.borrow_mut().delivered(delay / 1000, job.message.id, now);
            }
            say(job, attempt, settled, address(settled.recipient), now);
        }
        self.follow_end(job, now);
    }
}

impl Shared {
    /// Counts recipients that have come to something.
    pub(crate) fn count(&self, destination: &[u8], status: Status, recipients: u64) {
        add(&mut self.delivery.borrow_mut().deliveries, destination, status.name(), recipients);
    }

    /// Counts a connection to a next hop: its version of TLS, `none`, or `failed`.
    pub(crate) fn count_connection(&self, destination: &[u8], tls: &'static str) {
        add(&mut self.delivery.borrow_mut().connections_by_tls, destination, tls, 1);
    }

    /// Shows how delivery goes.
    pub(crate) fn show(&self) {
        let counts = self.ledger.borrow().counts();
        let mut delivery = self.delivery.borrow_mut();
        delivery.deferred = counts.deferred;
        delivery.held = counts.held;
        delivery.oldest_deferred_at = self.ledger.borrow().oldest(false);
        delivery.oldest_held_at = self.ledger.borrow().oldest(true);
        delivery.under_way = self.ledger.borrow().open_count() as u64;
        delivery.connections = self.connections.get();
        delivery.connections_limit = self.settings.connections_max.into();
        let destinations = self.destinations.borrow();
        delivery.destinations_down = destinations.values().filter(|one| one.is_down()).count() as u64;
        delivery.memory_bytes = self.memory.octets();
        delivery.memory_limit_bytes = self.settings.memory_max;
        self.metrics.set_delivery(delivery.clone());
    }
}

/// Adds to the count of a destination's route and `value`.
fn add(counts: &mut Vec<(String, &'static str, u64)>, destination: &[u8], value: &'static str, more: u64) {
    let route = route_of(destination);
    match counts.iter_mut().find(|(name, of, _)| name.as_bytes() == route && *of == value) {
        Some((_, _, count)) => *count += more,
        None => counts.push((String::from_utf8_lossy(route).into_owned(), value, more)),
    }
}

/// The name of the route of a destination, which begins with it.
pub(crate) fn route_of(destination: &[u8]) -> &[u8] {
    destination.split(|octet| *octet == b':').next().unwrap_or_default()
}

/// One line for each recipient, in Postfix's words.
fn say(job: &Job, attempt: &Attempt, settled: &Settled, address: &[u8], now: u64) {
    let again = job.attempts > 0 || job.flags & result_flag::PARKED != 0;
    if settled.flags & result_flag::PARKED != 0 && settled.status == Status::Deferred && again {
        let (id, to, reply) = (job.message.id, Path(address), shown(&settled.verdict.text));
        return tracing::debug!(%id, %to, %reply, "put off");
    }
    let delays = Delays::of(job, attempt, now);
    let relay: &str = if attempt.relay.is_empty() { "none" } else { &attempt.relay };
    let Verdict { code, text, .. } = &settled.verdict;
    let mut words = String::new();
    if *code != 0 {
        let _ = write!(words, "{code} ");
    }
    words.push_str(&shown(text));
    tracing::info!(
        id = %job.message.id,
        to = %Path(address),
        relay,
        delay = seconds(now.saturating_sub(job.message.header.accepted_at_us)),
        delays = %delays,
        dsn = %settled.verdict.status(),
        status = settled.status.name(),
        reply = words,
        "delivery"
    );
}

/// A path in its brackets.
pub(crate) struct Path<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", shown(self.0))
    }
}

/// Postfix's a/b/c/d: before it was taken up, waiting for a connection, setting it up, transmission.
struct Delays([f64; 4]);

impl Delays {
    fn of(job: &Job, attempt: &Attempt, now: u64) -> Self {
        let accepted = job.message.header.accepted_at_us;
        let taken = job.taken_at_us.max(accepted);
        let sent = if attempt.sent_at_us == 0 { now } else { attempt.sent_at_us };
        let connected = attempt.connected_at_us.clamp(taken, sent.max(taken));
        let marks = [accepted, taken, connected, sent, now];
        Self([0, 1, 2, 3].map(|at| seconds(marks[at + 1].saturating_sub(marks[at]))))
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, waiting, setup, transmission] = self.0;
        write!(f, "{before:.6}/{waiting:.6}/{setup:.6}/{transmission:.6}")
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// What of an entry's flags outlives an attempt.
pub(crate) fn kept(flags: u8) -> u8 {
    flags & result_flag::DELAY_TOLD
}

pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Octets of others, for the log: what is not printable is escaped.
pub(crate) fn shown(octets: &[u8]) -> Cow<'_, str> {
    let is_plain = |octet: &u8| matches!(octet, b' '..=b'~');
    if let (true, Ok(plain)) = (octets.iter().all(is_plain), std::str::from_utf8(octets)) {
        return Cow::Borrowed(plain);
    }
    let mut text = String::with_capacity(octets.len());
    for piece in octets.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '\n' => text.push(' '),
                c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for octet in piece.invalid() {
            let _ = write!(text, "\\x{octet:02x}");
        }
    }
    Cow::Owned(text)
}
