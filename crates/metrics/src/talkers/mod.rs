//! Who asks the most of the gateway at the moment: peers, domains of senders and of recipients. Shown by the API, never as labels.
//!
//! Each core counts into sketches of its own (256 places for each kind, in fixed memory: about 0.7 MiB a core), one for the running
//! minute and one for the minute before it; whoever asks gets both added up over all cores, so that a talker who has gone quiet is forgotten after two
//! minutes at most. Asking costs the cores nothing: the reader reads the cells of the sketches as they are.
//!
//! A name is shown when at least half of its count is surely its own. Where there are so many that nobody stands out, nobody is shown.

mod sketch;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
pub use sketch::Share;
use sketch::{Counted, Sketch};

use crate::cells::CoreWriter;
use crate::snapshot::Metrics;

/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(60);

/// Octets of the longest domain (RFC 5321 §4.5.3.1.2).
const DOMAIN_OCTETS_MAX: usize = 255;

/// Names that [`Metrics::talkers`] gives at most.
pub const TALKERS_MAX: usize = 256;

/// What the talkers are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TalkersBy {
    /// The peer: an IPv4 address, or a /64 of IPv6.
    Address,
    /// The domain of the reverse-path; `<>` for the null reverse-path.
    SenderDomain,
    /// The domain of a recipient. A message with recipients in several domains counts for each of them.
    RecipientDomain,
}

impl TalkersBy {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Address, Self::SenderDomain, Self::RecipientDomain];

    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::SenderDomain => "sender_domain",
            Self::RecipientDomain => "recipient_domain",
        }
    }
}

/// One of the most frequent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talker {
    /// Address, network or domain.
    pub name: String,
    /// What it has done.
    pub share: Share,
    /// Messages and refusals together may be fewer by so many.
    pub over_by_at_most: u64,
}

impl Talker {
    /// Events that surely are its own.
    fn sure(&self) -> u64 {
        self.share.events().saturating_sub(self.over_by_at_most)
    }
}

/// The most frequent of the last minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talkers {
    /// The time in which they were counted.
    pub window: Duration,
    /// The most frequent first.
    pub talkers: Vec<Talker>,
}

/// The running window and the one before.
type Windows<const WORDS: usize> = [Sketch<WORDS>; 2];

/// The sketches of one core.
#[derive(Debug)]
pub(crate) struct CoreTalkers {
    key: RandomState,
    /// When the first window began.
    since: Instant,
    /// Number of the running window, from 1 on.
    window: AtomicU64,
    addresses: Windows<2>,
    senders: Windows<{ DOMAIN_OCTETS_MAX.div_ceil(8) }>,
    recipients: Windows<{ DOMAIN_OCTETS_MAX.div_ceil(8) }>,
}

impl CoreTalkers {
    pub(crate) fn new(since: Instant) -> Self {
        Self {
            key: RandomState::default(),
            since,
            window: AtomicU64::new(1),
            addresses: [Sketch::new(), Sketch::new()],
            senders: [Sketch::new(), Sketch::new()],
            recipients: [Sketch::new(), Sketch::new()],
        }
    }

    fn note<const WORDS: usize>(&self, windows: &Windows<WORDS>, name: &[u8], share: Share) {
        let window = self.window.load(Relaxed);
        windows[(window % 2) as usize].note(window, self.key.hash_one(name), name, share);
    }

    fn note_domain(&self, windows: &Windows<{ DOMAIN_OCTETS_MAX.div_ceil(8) }>, domain: &str, share: Share) {
        let mut name = [0; DOMAIN_OCTETS_MAX];
        let octets = domain.len().min(DOMAIN_OCTETS_MAX);
        name[..octets].copy_from_slice(&domain.as_bytes()[..octets]);
        name[..octets].make_ascii_lowercase();
        self.note(windows, &name[..octets], share);
    }

    fn collect(&self, by: TalkersBy, first: u64) -> Vec<Counted> {
        let mut counted = Vec::new();
        for window in 0..2 {
            match by {
                TalkersBy::Address => self.addresses[window].collect(first, &mut counted),
                TalkersBy::SenderDomain => self.senders[window].collect(first, &mut counted),
                TalkersBy::RecipientDomain => self.recipients[window].collect(first, &mut counted),
            }
        }
        counted
    }
}

/// Number of the window at `since` + `elapsed`.
fn window_at(elapsed: Duration) -> u64 {
    elapsed.as_secs() / WINDOW.as_secs() + 1
}

impl CoreWriter {
    /// Begins a new window of the talkers when it is time; to be called about once a second.
    pub fn turn_talkers(&self) {
        let talkers = self.cells().talkers();
        talkers.window.store(window_at(talkers.since.elapsed()), Relaxed);
    }

    /// Counts for a peer.
    pub fn talks(&self, peer: IpAddr, share: Share) {
        let talkers = self.cells().talkers();
        talkers.note(&talkers.addresses, &site(peer), share);
    }

    /// Counts for the domain of a reverse-path; `None` for the null reverse-path.
    pub fn sends(&self, domain: Option<&str>, share: Share) {
        let talkers = self.cells().talkers();
        talkers.note_domain(&talkers.senders, domain.unwrap_or("<>"), share);
    }

    /// Counts for the domain of a recipient.
    pub fn is_sent(&self, domain: &str, share: Share) {
        let talkers = self.cells().talkers();
        talkers.note_domain(&talkers.recipients, domain, share);
    }
}

impl Metrics {
    /// The most frequent of the last one to two minutes, at most `limit` and [`TALKERS_MAX`].
    #[must_use]
    pub fn talkers(&self, by: TalkersBy, limit: usize) -> Talkers {
        let elapsed = self.began().elapsed();
        // The window before the running one.
        let first = (window_at(elapsed) - 1).max(1);
        let window = elapsed - WINDOW * u32::try_from(first - 1).unwrap_or(u32::MAX);
        let mut by_name: HashMap<Vec<u8>, Talker> = HashMap::new();
        for counted in self.cores().iter().flat_map(|core| core.talkers().collect(by, first)) {
            let Counted { name, share, inherited } = counted;
            let known = by_name.entry(name).or_insert_with_key(|name| Talker {
                name: shown(by, name),
                share: Share::default(),
                over_by_at_most: 0,
            });
            known.share.messages += share.messages;
            known.share.refusals += share.refusals;
            known.share.bytes += share.bytes;
            known.over_by_at_most += inherited;
        }
        let stands_out = |talker: &Talker| talker.sure() > 0 && talker.sure() >= talker.over_by_at_most;
        let mut talkers: Vec<Talker> = by_name.into_values().filter(stands_out).collect();
        talkers.sort_by(|a, b| {
            let order = b.sure().cmp(&a.sure()).then(b.share.bytes.cmp(&a.share.bytes));
            order.then_with(|| a.name.cmp(&b.name))
        });
        talkers.truncate(limit.min(TALKERS_MAX));
        Talkers { window, talkers }
    }
}

/// The part of an address that stands for one site: all of IPv4, a /64 of IPv6 (RFC 6177 §2).
fn site(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => (v6.to_bits() >> 64 << 64).to_be_bytes(),
    }
}

fn shown(by: TalkersBy, name: &[u8]) -> String {
    match (by, <[u8; 16]>::try_from(name)) {
        (TalkersBy::Address, Ok(site)) => match IpAddr::from(Ipv6Addr::from(site)).to_canonical() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("{v6}/64"),
        },
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::Arc;

    use super::*;
    use crate::snapshot::Names;

    const MESSAGE: Share = Share { messages: 1, refusals: 0, bytes: 100 };
    const REFUSAL: Share = Share { messages: 0, refusals: 1, bytes: 0 };

    fn metrics() -> (Arc<Metrics>, Vec<CoreWriter>) {
        let metrics = Metrics::new(Names::default(), 2);
        let writers = metrics.cores().iter().map(|core| core.writer().unwrap()).collect();
        (metrics, writers)
    }

    #[test]
    fn cores_are_added_up_and_the_most_frequent_is_first() {
        let (metrics, writers) = metrics();
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        for writer in &writers {
            writer.talks(peer("192.0.2.1"), MESSAGE);
            writer.talks(peer("::ffff:192.0.2.1"), REFUSAL);
            writer.talks(peer("2001:db8:1:2:3::4"), MESSAGE);
        }
        writers[0].talks(peer("2001:db8:1:2:ffff::1"), MESSAGE);
        writers[0].talks(peer("198.51.100.7"), REFUSAL);
        let Talkers { window, talkers } = metrics.talkers(TalkersBy::Address, 10);
        let found: Vec<_> = talkers.iter().map(|talker| (talker.name.as_str(), talker.share)).collect();
        assert_eq!(
            found,
            [
                ("192.0.2.1", Share { messages: 2, refusals: 2, bytes: 200 }),
                ("2001:db8:1:2::/64", Share { messages: 3, refusals: 0, bytes: 300 }),
                ("198.51.100.7", REFUSAL),
            ]
        );
        assert!(talkers.iter().all(|talker| talker.over_by_at_most == 0));
        assert!(window < WINDOW * 2);
        assert_eq!(metrics.talkers(TalkersBy::Address, 1).talkers.len(), 1);
        assert!(metrics.talkers(TalkersBy::SenderDomain, 10).talkers.is_empty());
    }

    #[test]
    fn domains_are_one_in_any_case() {
        let (metrics, writers) = metrics();
        writers[0].sends(Some("One.Example"), MESSAGE);
        writers[1].sends(Some("one.example"), MESSAGE);
        writers[0].sends(None, MESSAGE);
        writers[0].is_sent("two.example", REFUSAL);
        let names = |by| {
            let talkers = metrics.talkers(by, 10).talkers;
            talkers.into_iter().map(|talker| (talker.name, talker.share.events())).collect::<Vec<_>>()
        };
        assert_eq!(names(TalkersBy::SenderDomain), [("one.example".to_owned(), 2), ("<>".to_owned(), 1)]);
        assert_eq!(names(TalkersBy::RecipientDomain), [("two.example".to_owned(), 1)]);
    }

    #[test]
    fn who_stands_out_is_found_in_a_flood_of_others() {
        let (metrics, writers) = metrics();
        for number in 0..50_000_u32 {
            let writer = &writers[(number % 2) as usize];
            writer.talks(IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + number)), MESSAGE);
            if number.is_multiple_of(20) {
                writer.talks(IpAddr::from([192, 0, 2, 1]), REFUSAL);
            }
        }
        let talkers = metrics.talkers(TalkersBy::Address, TALKERS_MAX).talkers;
        assert_eq!(talkers[0].name, "192.0.2.1");
        let refusals = talkers[0].share.events();
        assert!((2_500..=2_500 + talkers[0].over_by_at_most).contains(&refusals), "{:?}", talkers[0]);
        assert!(talkers.iter().all(|talker| talker.sure() >= talker.over_by_at_most));
    }

    #[test]
    fn a_window_is_shown_until_the_next_one_ends() {
        let (metrics, writers) = metrics();
        let talkers = metrics.core(0).talkers();
        writers[0].sends(Some("a.example"), MESSAGE);
        // As if a minute had passed for the core.
        talkers.window.store(2, Relaxed);
        writers[0].sends(Some("a.example"), MESSAGE);
        assert_eq!(talkers.collect(TalkersBy::SenderDomain, 1).len(), 2, "one for each window");
        assert_eq!(talkers.collect(TalkersBy::SenderDomain, 2).len(), 1);
        writers[0].turn_talkers();
        assert_eq!(talkers.window.load(Relaxed), 1, "by the clock it is still the first");
    }

    #[test]
    fn windows_are_numbered_from_one() {
        let at = |seconds| window_at(Duration::from_secs(seconds));
        assert_eq!([at(0), at(59), at(60), at(119), at(120)], [1, 1, 2, 2, 3]);
    }
}
