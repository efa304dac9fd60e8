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

use inrush_proto::client::Severity;

use crate::connect::{Candidate, candidates, connect};
use crate::destination::{Destination, Job};
use crate::failure::Verdict;
use crate::settings::HopSettings;
use crate::settle::{Attempt, shown};
use crate::shared::Shared;
use crate::tls::TlsPolicy;

use connection::{Connection, Refused};

/// Delivers `first` and what else waits at the destination, over one connection.
pub(crate) async fn deliver(
    shared: &Rc<Shared>,
    destination: &Rc<Destination>,
    hops: &HopSettings,
    lmtp: bool,
    first: Job,
) {
    let found = match candidates(shared, destination, hops).await {
        Ok(found) => found,
        Err(verdict) => return no_connection(shared, destination, first, &verdict, None),
    };
    let mut from = 0;
    let mut in_the_clear = false;
    let mut last: Option<(Verdict, Candidate)> = None;
    loop {
        let (stream, index) = match connect(shared, &found, from).await {
            Ok(connected) => connected,
            Err(verdict) => {
                let (verdict, candidate) =
                    last.map_or((verdict, None), |(verdict, candidate)| (verdict, Some(candidate)));
                return no_connection(shared, destination, first, &verdict, candidate.as_ref());
            }
        };
        let candidate = found[index].clone();
        let mut connection = Connection::new(shared, destination, hops, lmtp, candidate, stream);
        match connection.open(in_the_clear).await {
            Ok(()) => {
                let established = destination.establish();
                shared.connections.set(shared.connections.get() + 1);
                let lost = connection.run(first).await;
                shared.connections.set(shared.connections.get() - 1);
                drop(established);
                // One that was of use before it was lost says nothing about the next one.
                if let Some(verdict) = lost.filter(|_| !connection.was_of_use) {
                    destination.failed(&verdict, shared.random());
                }
                return;
            }
            // RFC 7435: better in the clear than not at all, where TLS is not demanded. Once more to the same host.
            Err(Refused::Handshake(verdict)) if hops.tls == TlsPolicy::Opportunistic && !in_the_clear => {
                tracing::info!("{}; going on without TLS", shown(&verdict.text));
                in_the_clear = true;
                from = index;
            }
            Err(Refused::Handshake(verdict) | Refused::Host(verdict)) => {
                tracing::info!("host {}: {}", connection.relay, shown(&verdict.text));
                shared.note_bad_host(connection.candidate.address);
                last = Some((verdict, connection.candidate.clone()));
                in_the_clear = false;
                from = index + 1;
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
