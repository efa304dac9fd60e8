//! The counters of one look, to be compared with those of the next.

use std::collections::BTreeMap;

use inrush_metrics::{ConnectionRefusal, Counter, Family as _, Snapshot};
use serde_json::{Map, Value, json};

use super::rate;

/// Everything that rates are made of.
#[derive(Default)]
pub(super) struct Look {
    pub(super) accepted_by_core: Vec<u64>,
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) descriptors: u64,
    pub(super) descriptors_limit: u64,
    /// Name in the sample, count so far.
    counts: Vec<(&'static str, u64)>,
    refusals: BTreeMap<&'static str, u64>,
    deliveries: Vec<(String, &'static str, u64)>,
}

impl Look {
    pub(super) fn at(snapshot: &Snapshot<'_>) -> Self {
        let process = snapshot.process();
        let refusals = snapshot.refusals();
        let accepted_by_core = snapshot.counter_by_core(Counter::MessagesAccepted);
        let all = |keys: &[ConnectionRefusal]| keys.iter().map(|key| snapshot.counter(*key)).sum();
        let counts = vec![
            ("accepted", accepted_by_core.iter().sum()),
            ("refused", refusals.values().sum()),
            ("recipients", snapshot.counter(Counter::RecipientsAccepted)),
            ("message_bytes", snapshot.counter(Counter::MessageBytes)),
            ("received_bytes", snapshot.counter(Counter::ReceivedBytes)),
            ("sent_bytes", snapshot.counter(Counter::SentBytes)),
            ("connections", snapshot.accepted().iter().map(|(_, count)| count).sum()),
            ("connections_refused", all(ConnectionRefusal::ALL)),
            ("log_batches", snapshot.counter(Counter::LogBatches)),
            ("log_records", snapshot.counter(Counter::LogRecords)),
            ("log_written_bytes", snapshot.counter(Counter::LogWrittenBytes)),
        ];
        Self {
            accepted_by_core,
            cpu_seconds: process.cpu_seconds,
            resident_bytes: process.resident_bytes,
            descriptors: process.descriptors,
            descriptors_limit: process.descriptors_limit,
            counts,
            refusals,
            deliveries: snapshot.delivery().map(|delivery| delivery.deliveries).unwrap_or_default(),
        }
    }

    pub(super) fn totals(&self) -> Map<String, Value> {
        self.counts.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect()
    }

    pub(super) fn rates(&self, last: &Self, seconds: f64) -> Map<String, Value> {
        let before = last.counts.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
        let rate = |((name, now), before): (&(&str, u64), u64)| {
            ((*name).to_owned(), rate(*now, before, seconds).into())
        };
        self.counts.iter().zip(before).map(rate).collect()
    }

    /// Reasons that have come up, those of now first.
    pub(super) fn refusals(&self, last: &Self, seconds: f64, max: usize) -> Vec<Value> {
        let mut reasons: Vec<_> = self
            .refusals
            .iter()
            .filter(|(_, total)| **total > 0)
            .map(|(reason, total)| {
                let before = last.refusals.get(reason).copied().unwrap_or(0);
                (*reason, *total, total.saturating_sub(before))
            })
            .collect();
        reasons.sort_by_key(|(_, total, lately)| std::cmp::Reverse((*lately, *total)));
        reasons.truncate(max);
        let told = reasons.into_iter();
        told.map(|(reason, total, lately)| json!({ "reason": reason, "total": total, "rate": rate(lately, 0, seconds) }))
            .collect()
    }

    /// What became of recipients, by route.
    pub(super) fn routes(&self, last: &Self, seconds: f64) -> Map<String, Value> {
        let mut routes = Map::new();
        for (route, what, total) in &self.deliveries {
            let before = last.deliveries.iter().find(|(of, status, _)| of == route && status == what);
            let before = before.map_or(0, |(_, _, count)| *count);
            // What no route takes has none.
            let route = routes.entry(route.clone()).or_insert_with(|| json!({}));
            route[*what] = json!({ "total": total, "rate": rate(*total, before, seconds) });
        }
        routes
    }
}
