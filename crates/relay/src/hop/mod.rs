//! Connections to next hops: SMTP or LMTP, message after message.
//!
//! ```text
//!  connect ─▶ greeting ─▶ EHLO ─▶ STARTTLS ─▶ EHLO ─▶ MAIL RCPT… DATA ─▶ body . MAIL RCPT… DATA ─▶ … ─▶ QUIT
//!  └ mod.rs   └ connection.rs                         └ dialog.rs, flight.rs; as octets: wire.rs
//! ```
//! Which command may be sent and whose a reply is, is the affair of [`inrush_proto::client`]; here octets are moved, time is kept, and it is said
//! what the replies mean for the recipients. With PIPELINING the next message begins while the verdict on the last one is awaited. What a host
//! has not answered when a connection ends is tried again: it may come twice (RFC 1047), it is not lost.
//!
//! Standards: RFC 5321 §4.5.3.2 (timeouts), §4.2.1, RFC 2033, RFC 3207, RFC 3461 §5.2.

mod connection;
mod dialog;
mod flight;
mod wire;

use std::rc::Rc;
use std::time::Duration;

use inrush_proto::client::Severity;

use crate::connect::{Candidate, candidates, connect, time_to_connect};
use crate::destination::{Destination, Job};
use crate::failure::Verdict;
use crate::settings::HopSettings;
use crate::settle::{Attempt, shown};
use crate::shared::Shared;
use crate::tls::TlsPolicy;

use connection::{Connection, Refused};
use flight::Left;

/// Hosts that an attempt speaks with, once they were ready for a message.
const SESSIONS_MAX: u32 = 3;

/// Delivers `first` and what else waits at the destination, over one connection; over one to the next host when this one has nothing of `first`.
pub(crate) async fn deliver(
    shared: &Rc<Shared>,
    destination: &Rc<Destination>,
    hops: &HopSettings,
    lmtp: bool,
    mut first: Job,
) {
    let found = match candidates(shared, destination, hops).await {
        Ok(found) => found,
        Err(verdict) => return no_connection(shared, destination, first, &verdict, None),
    };
    let mut hosts = Hosts {
        shared,
        destination,
        hops,
        lmtp,
        found,
        next: 0,
        in_the_clear: None,
        time_left: time_to_connect(shared),
        last: None,
    };
    let mut left = None;
    let mut sessions = 0;
    while let Some(mut connection) = hosts.open().await {
        sessions += 1;
        connection.goes_on = sessions < SESSIONS_MAX && hosts.next < hosts.found.len();
        let established = destination.establish();
        shared.connections.set(shared.connections.get() + 1);
        let lost = connection.run(first).await;
        shared.connections.set(shared.connections.get() - 1);
        drop(established);
        // One that was of use before it was lost says nothing about the next one.
        let lost = lost.filter(|_| !connection.was_of_use);
        if lost.is_some() {
            shared.note_bad_host(connection.candidate.address);
        }
        let Some(Left { job, attempt, verdicts }) = connection.left.take() else {
            if let Some(verdict) = lost {
                destination.failed(&verdict, shared.random());
            }
            return;
        };
        first = job;
        left = Some((attempt, verdicts, lost));
    }
    if let Some((attempt, verdicts, lost)) = left {
        if let Some(verdict) = lost {
            destination.failed(&verdict, shared.random());
        }
        return shared.settle(first, &attempt, verdicts);
    }
    let (verdict, candidate) = hosts.last.unwrap_or_default();
    no_connection(shared, destination, first, &verdict, candidate.as_ref());
}

/// The hosts of an attempt, and how far it has come with them.
struct Hosts<'a> {
    shared: &'a Rc<Shared>,
    destination: &'a Rc<Destination>,
    hops: &'a HopSettings,
    lmtp: bool,
    found: Vec<Candidate>,
    /// The one that is tried next.
    next: usize,
    /// The one that is spoken to without TLS, since there was none to be had with it.
    in_the_clear: Option<usize>,
    /// For connecting to any of them.
    time_left: Duration,
    /// Why the last one was of no use.
    last: Option<(Verdict, Option<Candidate>)>,
}

impl<'a> Hosts<'a> {
    /// A connection to the next host that lets messages begin.
    async fn open(&mut self) -> Option<Connection<'a>> {
        loop {
            let (stream, index) =
                match connect(self.shared, &self.found, self.next, &mut self.time_left).await {
                    Ok(connected) => connected,
                    Err(verdict) => {
                        self.last.get_or_insert((verdict, None));
                        return None;
                    }
                };
            let candidate = self.found[index].clone();
            let mut connection =
                Connection::new(self.shared, self.destination, self.hops, self.lmtp, candidate, stream);
            let in_the_clear = self.in_the_clear == Some(index);
            self.next = index + 1;
            let opened = connection.open(in_the_clear).await;
            match &opened {
                Ok(()) => self.shared.count_connection(&self.destination.name, connection.tls_version),
                Err(Refused::Handshake(_)) => self.shared.count_connection(&self.destination.name, "failed"),
                Err(Refused::Host(_)) => {}
            }
            match opened {
                Ok(()) => return Some(connection),
                // RFC 7435: better in the clear than not at all, where TLS is not demanded. Once more to the same host, and to no other.
                Err(Refused::Handshake(verdict))
                    if self.hops.tls == TlsPolicy::Opportunistic && !in_the_clear =>
                {
                    let error = shown(&verdict.text);
                    tracing::info!(relay = %connection.relay, %error, "no TLS with a host: going on without");
                    self.in_the_clear = Some(index);
                    self.next = index;
                }
                Err(Refused::Handshake(verdict) | Refused::Host(verdict)) => {
                    tracing::info!(relay = %connection.relay, error = %shown(&verdict.text), "a host is of no use");
                    self.shared.note_bad_host(connection.candidate.address);
                    self.last = Some((verdict, Some(connection.candidate)));
                }
            }
        }
    }
}

/// No host took the connection, or there is none.
fn no_connection(
    shared: &Rc<Shared>,
    destination: &Rc<Destination>,
    job: Job,
    verdict: &Verdict,
    candidate: Option<&Candidate>,
) {
    if verdict.severity != Severity::Permanent {
        destination.failed(verdict, shared.random());
        // A host may take so many connections and no more: what this one was for is for the others.
        if destination.has_others() {
            return destination.push_front(job);
        }
    }
    let attempt = Attempt {
        destination: destination.name.clone(),
        relay: candidate.map(Candidate::relay).unwrap_or_default(),
        host: candidate.map(|candidate| Rc::clone(&candidate.name)).unwrap_or_default(),
        ..Attempt::default()
    };
    let verdicts = job.recipients.iter().map(|recipient| (*recipient, verdict.clone())).collect();
    shared.settle(job, &attempt, verdicts);
}
