//! What a worker counts: a histogram for each phase, outcomes, and why something failed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::live::LiveCells;

/// Shortest time told apart, nanoseconds.
const NANOSECONDS_MIN: u64 = 100;
/// Longest time told apart; longer ones count as this.
const NANOSECONDS_MAX: u64 = 3_600_000_000_000;

/// A part of a message's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Socket made and connected.
    Connect,
    /// Connected, to the end of the greeting.
    Banner,
    /// The handshake: from the reply to STARTTLS, or connected, to its end.
    Tls,
    /// EHLO (and HELO after a refusal) to its reply.
    Ehlo,
    /// AUTH to its verdict, all its lines.
    Auth,
    /// MAIL to its reply; only where commands are not grouped.
    Mail,
    /// Each RCPT to its reply; only where commands are not grouped.
    Recipient,
    /// MAIL sent, to the reply to the last RCPT.
    Envelope,
    /// DATA to 354; only where commands are not grouped.
    Data,
    /// Mail data sent, to the final reply.
    Body,
    /// The message's start (open loop: its planned time) to the final reply.
    Total,
}

impl Phase {
    /// In the order of time.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::Banner,
        Self::Tls,
        Self::Ehlo,
        Self::Auth,
        Self::Mail,
        Self::Recipient,
        Self::Envelope,
        Self::Data,
        Self::Body,
        Self::Total,
    ];

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::Tls => "tls",
            Self::Ehlo => "ehlo",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Recipient => "rcpt",
            Self::Envelope => "mail+rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::Total => "total",
        }
    }

    /// The phase of that name.
    ///
    /// # Errors
    /// A sentence with the names there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|phase| phase.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{name:?} is no phase ({names})")
        })
    }
}

/// Why something failed: where, and the reply code (0: none came).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Command or kind of failure.
    pub place: &'static str,
    /// Reply code, or 0.
    pub code: u16,
}

/// How often a cause was met, and the first text that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrences {
    /// How often.
    pub count: u64,
    /// First reply text or error, control characters escaped.
    pub example: String,
}

/// Counters of messages and connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions begun.
    pub started: u64,
    /// Positive final reply for at least one recipient.
    pub acknowledged: u64,
    /// Octets of acknowledged messages.
    pub octets: u64,
    /// Negative reply ended the transaction.
    pub refused: u64,
    /// Connection lost, refused, timed out or out of protocol before the final reply.
    pub failed: u64,
    /// Under way when the run was ended by force.
    pub unfinished: u64,
    /// This machine had no port, descriptor or memory for a connection: the generator's limit, not the server's.
    pub not_possible: u64,
    /// Recipients refused of messages that were acknowledged for others.
    pub recipients_refused: u64,
    /// Connections established.
    pub connections: u64,
    /// Connections that could not be established.
    pub connections_failed: u64,
    /// Connections that the server closed while they waited for their next message.
    pub closed_idle: u64,
    /// TLS handshakes completed.
    pub handshakes: u64,
    /// Those that resumed an earlier session.
    pub handshakes_resumed: u64,
}

impl Counts {
    /// Everything that was not as it should be.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.refused + self.failed + self.unfinished + self.not_possible + self.recipients_refused
    }

    /// Adds those of others.
    pub fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.acknowledged += other.acknowledged;
        self.octets += other.octets;
        self.refused += other.refused;
        self.failed += other.failed;
        self.unfinished += other.unfinished;
        self.not_possible += other.not_possible;
        self.recipients_refused += other.recipients_refused;
        self.connections += other.connections;
        self.connections_failed += other.connections_failed;
        self.closed_idle += other.closed_idle;
        self.handshakes += other.handshakes;
        self.handshakes_resumed += other.handshakes_resumed;
    }
}

/// All figures of one worker, or of the run.
#[derive(Clone, Debug)]
pub struct Record {
    /// The measured window.
    pub counts: Counts,
    /// The time before it.
    pub warmup: Counts,
    /// Causes of everything that is an error, warm-up included.
    pub causes: BTreeMap<Cause, Occurrences>,
    /// A phase that was never met takes no memory: 200 KB for each, for each sender, target and core.
    /// Where a running display looks; None: nowhere.
    pub live: Option<Arc<LiveCells>>,
    histograms: [Option<Histogram<u64>>; Phase::ALL.len()],
}

/// A histogram of times in nanoseconds, 3 significant digits.
///
/// # Panics
/// Never: the bounds are constants that the histogram accepts.
#[must_use]
pub fn nanoseconds() -> Histogram<u64> {
    #[expect(clippy::unwrap_used, reason = "constant bounds, covered by every test that records")]
    Histogram::new_with_bounds(NANOSECONDS_MIN, NANOSECONDS_MAX, 3).unwrap()
}

impl Record {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        let histograms = Phase::ALL.map(|_| None);
        Self {
            counts: Counts::default(),
            warmup: Counts::default(),
            causes: BTreeMap::new(),
            live: None,
            histograms,
        }
    }

    /// The counters that an event belongs to.
    pub fn counts_mut(&mut self, measured: bool) -> &mut Counts {
        if measured { &mut self.counts } else { &mut self.warmup }
    }

    /// Books the duration of a phase.
    pub fn time(&mut self, phase: Phase, taken: Duration) {
        let nanoseconds = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        let histogram = self.histograms[phase as usize].get_or_insert_with(self::nanoseconds);
        histogram.saturating_record(nanoseconds);
        if let Some(live) = &self.live {
            live.time(phase, nanoseconds);
        }
    }

    /// Nanoseconds of a phase.
    #[must_use]
    pub fn histogram(&self, phase: Phase) -> &Histogram<u64> {
        static NONE: LazyLock<Histogram<u64>> = LazyLock::new(nanoseconds);
        self.histograms[phase as usize].as_ref().unwrap_or(&NONE)
    }

    /// Books a cause; its first text is kept as the example.
    pub fn cause(&mut self, place: &'static str, code: u16, text: &[u8]) {
        if let Some(live) = &self.live {
            live.cause(place, code);
        }
        self.causes
            .entry(Cause { place, code })
            .or_insert_with(|| Occurrences { count: 0, example: printable(text) })
            .count += 1;
    }

    /// Adds the figures of another worker.
    pub fn merge(&mut self, other: &Self) {
        self.merge_counts(other);
        for (mine, theirs) in self.histograms.iter_mut().zip(&other.histograms) {
            let Some(theirs) = theirs else { continue };
            let added = mine.get_or_insert_with(nanoseconds).add(theirs);
            debug_assert!(added.is_ok(), "all histograms have the same bounds");
        }
    }

    /// Adds the figures of another worker without its times.
    pub fn merge_counts(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.warmup.add(&other.warmup);
        for (cause, occurrences) in &other.causes {
            self.causes
                .entry(cause.clone())
                .or_insert_with(|| Occurrences { count: 0, example: occurrences.example.clone() })
                .count += occurrences.count;
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

/// The first 200 octets of what a server said, safe for a terminal.
fn printable(text: &[u8]) -> String {
    text[..text.len().min(200)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds() {
        let mut one = Record::new();
        one.time(Phase::Total, Duration::from_micros(100));
        one.cause("rcpt", 550, b"5.1.1 no\x1b[2J");
        one.counts_mut(true).acknowledged = 3;
        let mut two = Record::new();
        two.time(Phase::Total, Duration::from_secs(100_000));
        two.cause("rcpt", 550, b"other");
        two.counts_mut(true).acknowledged = 4;
        two.counts_mut(false).refused = 1;
        one.merge(&two);
        assert_eq!((one.counts.acknowledged, one.warmup.refused), (7, 1));
        assert_eq!(one.histogram(Phase::Total).len(), 2);
        assert!(
            one.histogram(Phase::Total).max() >= 3_600_000_000_000,
            "a longer time counts as the longest"
        );
        let occurrences = &one.causes[&Cause { place: "rcpt", code: 550 }];
        assert_eq!((occurrences.count, occurrences.example.as_str()), (2, "5.1.1 no\\x1b[2J"));
    }
}
