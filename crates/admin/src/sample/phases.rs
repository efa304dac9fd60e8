//! Latencies of the last seconds, by phase.

use std::collections::VecDeque;
use std::time::Instant;

use inrush_metrics::{Distribution, Histogram, Phase, Snapshot};
use serde_json::{Map, Value};

use super::WINDOW;
use crate::status::quantiles;

/// The histograms of the last looks, the newest last.
#[derive(Default)]
pub(super) struct Phases {
    looks: VecDeque<(Instant, Vec<Distribution>)>,
}

impl Phases {
    pub(super) fn look(&mut self, snapshot: &Snapshot<'_>) {
        if self.looks.len() > WINDOW {
            self.looks.pop_front();
        }
        let phases = Phase::ALL.iter().map(|phase| snapshot.distribution(Histogram::Phase(*phase)));
        self.looks.push_back((Instant::now(), phases.collect()));
    }

    /// How long ago the first of the looks was, seen from the last one.
    pub(super) fn window_seconds(&self) -> f64 {
        match (self.looks.front(), self.looks.back()) {
            (Some((first, _)), Some((last, _))) => last.duration_since(*first).as_secs_f64(),
            _ => 0.0,
        }
    }

    /// The phases that have had anything.
    pub(super) fn quantiles(&self) -> Map<String, Value> {
        let (Some((_, first)), Some((_, last))) = (self.looks.front(), self.looks.back()) else {
            return Map::new();
        };
        let between = first.iter().zip(last).map(|(first, last)| last.since(first));
        let named = Phase::ALL.iter().zip(between).filter(|(_, distribution)| distribution.count() > 0);
        let told = named.map(|(phase, distribution)| (phase.value().to_owned(), quantiles(&distribution)));
        told.collect()
    }
}
