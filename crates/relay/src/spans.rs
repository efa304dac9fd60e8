//! What becomes of a message, as spans: one for each attempt, and one around them from the acceptance until nothing is owed any more.

use inrush_queue::Status;
use inrush_spans::Value;

use crate::destination::Job;
use crate::settle::{Attempt, Settled, route_of, shown};
use crate::shared::Shared;

/// Recipients of an attempt that are told one by one; the others are in the counts.
const RECIPIENTS_TOLD_MAX: usize = 10;

impl Shared {
    /// Hands over the span of an attempt that has ended at `now`, if its message is followed.
    pub(crate) fn follow_attempt(&self, job: &Job, attempt: &Attempt, settled: &[Settled], now: u64) {
        let Some(trace) = self.spans.message(job.message.id, job.message.header.accepted_at_us) else {
            return;
        };
        let mut span = trace
            .attempt(job.taken_at_us.min(now), now)
            .with("inrush.route", shown(route_of(&attempt.destination)).into_owned())
            .with("inrush.destination", shown(&attempt.destination).into_owned())
            .with("inrush.attempt", i64::from(job.attempts.saturating_add(1)));
        if !attempt.relay.is_empty() {
            span = span
                .with("server.address", attempt.host.to_string())
                .with("inrush.relay", attempt.relay.to_string());
        }
        if !attempt.tls.is_empty() {
            span = span.with("inrush.tls", attempt.tls.to_string());
        }
        for (key, status) in [
            ("inrush.recipients.sent", Status::Sent),
            ("inrush.recipients.deferred", Status::Deferred),
            ("inrush.recipients.bounced", Status::Bounced),
            ("inrush.recipients.expired", Status::Expired),
        ] {
            let count = settled.iter().filter(|settled| settled.status == status).count();
            if count > 0 {
                span = span.with(key, i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        for (name, at) in [("connected", attempt.connected_at_us), ("sending", attempt.sent_at_us)] {
            if at != 0 {
                span = span.with_event(name, at, []);
            }
        }
        let addresses = job.message.envelope().ok();
        let addresses: Vec<&[u8]> = addresses
            .iter()
            .flat_map(|envelope| envelope.recipients())
            .map(|recipient| recipient.path)
            .collect();
        for settled in settled.iter().take(RECIPIENTS_TOLD_MAX) {
            let address = addresses.get(settled.recipient as usize).copied().unwrap_or_default();
            let told: [(&str, Value); 4] = [
                ("inrush.recipient", shown(address).into_owned().into()),
                ("inrush.status", settled.status.name().into()),
                ("inrush.dsn", settled.verdict.status().to_string().into()),
                ("inrush.reply", shown(&settled.verdict.text).into_owned().into()),
            ];
            span = span.with_event("recipient", now, told);
        }
        if let Some(first) = settled.iter().find(|settled| settled.status != Status::Sent) {
            span = span.failed(shown(&first.verdict.text).into_owned());
        }
        span.end();
    }

    /// Hands over the span of the whole message once nothing is owed of it any more.
    pub(crate) fn follow_end(&self, job: &Job, now: u64) {
        let id = job.message.id;
        let Some(trace) = self.spans.message(id, job.message.header.accepted_at_us) else { return };
        if !self.ledger.borrow().is_settled(id) {
            return;
        }
        let mut span = trace.whole(now);
        if let Ok(envelope) = job.message.envelope() {
            let recipients = i64::try_from(envelope.recipients().count()).unwrap_or(i64::MAX);
            span = span
                .with("inrush.sender", shown(envelope.reverse_path()).into_owned())
                .with("inrush.recipients", recipients);
        }
        if let Ok(octets) = job.message.body_octets() {
            span = span.with("inrush.octets", i64::try_from(octets).unwrap_or(i64::MAX));
        }
        span.end();
    }
}
