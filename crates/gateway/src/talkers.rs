//! Who is counted among the top talkers, and for what.
//!
//! ```text
//!   message accepted      ─▶ peer · sender domain · each recipient domain      (messages, octets)
//!   connection refused    ─▶ peer                                              (refusals)
//!   recipient refused     ─▶ its domain                                        (refusals)
//!   replies 4xx and 5xx   ─▶ peer · sender domain of the open transaction      (refusals)
//! ```

use std::net::IpAddr;

use inrush_metrics::{CoreWriter, Share};
use inrush_proto::{Path, Transaction};

/// Domains of one message that are told apart; those beyond count once for each of their recipients.
const DOMAINS_MAX: usize = 8;

const REFUSAL: Share = Share { messages: 0, refusals: 1, bytes: 0 };

/// A message was accepted.
pub(crate) fn accepted(metrics: &CoreWriter, transaction: &Transaction, peer: IpAddr) {
    let share = Share { messages: 1, refusals: 0, bytes: transaction.message_octets() };
    metrics.talks(peer, share);
    metrics.sends(transaction.reverse_path().domain(), share);
    let mut told = [""; DOMAINS_MAX];
    let mut count = 0;
    for domain in transaction.recipients().filter_map(|recipient| recipient.path.domain()) {
        if told[..count].iter().any(|known| known.eq_ignore_ascii_case(domain)) {
            continue;
        }
        if count < DOMAINS_MAX {
            told[count] = domain;
            count += 1;
        }
        metrics.is_sent(domain, share);
    }
}

/// A connection got no session.
pub(crate) fn refused_connection(metrics: &CoreWriter, peer: IpAddr) {
    metrics.talks(peer, REFUSAL);
}

/// A recipient was refused.
pub(crate) fn refused_recipient(metrics: &CoreWriter, path: Path<'_>) {
    if let Some(domain) = path.domain() {
        metrics.is_sent(domain, REFUSAL);
    }
}

/// Replies have refused something; `sender` is the reverse-path of the open transaction.
pub(crate) fn refused(metrics: &CoreWriter, peer: IpAddr, sender: Option<Path<'_>>, refusals: u32) {
    let share = Share { refusals: refusals.into(), ..Share::default() };
    metrics.talks(peer, share);
    if let Some(sender) = sender {
        metrics.sends(sender.domain(), share);
    }
}
