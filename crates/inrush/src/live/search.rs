//! Looks for messages in the logs, the newest first, within bounds.
//!
//! A log is read segment by segment, each from its begin, since records can only be read forwards; of each as many as are asked for are kept, the newest.
//! The search ends when it has enough, has read [`OCTETS_MAX`], or has taken [`TIME_MAX`]: the answer says so, and how far back it has come.
//! It runs on a thread of its own that leaves the processors to others, and reads as gently as the tools do beside a gateway that takes mail.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use inrush_log::{Entry, LogKind, Lsn, MessageId, Reader, RecordKind, parse_log_directory};
use inrush_relay::{is_address, time};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Octets of log that a search looks at.
const OCTETS_MAX: u64 = 4 << 30;
/// How long it may take.
const TIME_MAX: Duration = Duration::from_secs(8);
/// Records between two looks at the clock.
const LOOK_EVERY: u32 = 32;
/// How much processor time it leaves to others: all of it, as `nice` has it.
const NICE: i32 = 19;
/// Recipients of a message that an answer names.
const RECIPIENTS_SHOWN: usize = 20;

/// What is looked for; everything that is given has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) id: Option<MessageId>,
    pub(super) sender: Option<String>,
    pub(super) recipient: Option<String>,
    pub(super) limit: usize,
}

/// What a search has come to.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest first.
    pub(super) messages: Vec<(MessageId, Value)>,
    pub(super) more: bool,
    /// Which bound has ended it.
    pub(super) cut: Option<&'static str>,
    pub(super) octets: u64,
    /// When the oldest message was accepted that was looked at, in µs since 1970.
    pub(super) since_us: Option<u64>,
}

/// A segment to be looked at.
struct Part {
    reader: usize,
    number: u64,
    newest_us: u64,
}

/// Searches on a thread of its own; ends early when nobody waits for the answer any more.
pub(super) async fn search(data_dir: PathBuf, wanted: Wanted) -> anyhow::Result<Found> {
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new().name("inrush-search".to_owned()).spawn(move || {
        // Of this thread alone (nice(2), "C library/kernel differences"). Where it cannot be, everything else still works.
        let _ = rustix::process::nice(NICE);
        let found = look(&data_dir, &wanted, &Bounds::new(OCTETS_MAX, TIME_MAX), || answer.is_closed());
        let _ = answer.send(found);
    })?;
    answered.await.context("the search has ended without an answer")?
}

struct Bounds {
    octets_max: u64,
    until: Instant,
}

impl Bounds {
    fn new(octets_max: u64, time_max: Duration) -> Self {
        Self { octets_max, until: Instant::now() + time_max }
    }
}

fn look(
    data_dir: &Path,
    wanted: &Wanted,
    bounds: &Bounds,
    mut nobody_waits: impl FnMut() -> bool,
) -> anyhow::Result<Found> {
    let mut readers = open(data_dir)?;
    let mut parts = Vec::new();
    for (index, reader) in readers.iter().enumerate() {
        let newest = |segment: &inrush_log::SegmentInfo| {
            segment.seal.map_or(u64::MAX, |seal| seal.summary.accepted_max_us)
        };
        let of = reader.segments().iter().filter(|segment| segment.header.is_ok());
        parts.extend(of.map(|segment| Part {
            reader: index,
            number: segment.number,
            newest_us: newest(segment),
        }));
    }
    parts.sort_by_key(|part| std::cmp::Reverse((part.newest_us, part.number)));
    let mut found = Found::default();
    let mut kept: Vec<(u64, MessageId, Value)> = Vec::new();
    for part in parts {
        let enough = kept.len() > wanted.limit;
        if enough || found.cut.is_some() || nobody_waits() {
            break;
        }
        look_at(&mut readers[part.reader], part.number, wanted, bounds, &mut found, &mut kept)?;
    }
    kept.sort_by_key(|(accepted_at_us, id, _)| std::cmp::Reverse((*accepted_at_us, *id)));
    // A message that waits for long stands in two logs while it moves.
    let mut seen = HashSet::new();
    kept.retain(|(_, id, _)| seen.insert(*id));
    found.more |= kept.len() > wanted.limit;
    kept.truncate(wanted.limit);
    found.messages = kept.into_iter().map(|(_, id, message)| (id, message)).collect();
    Ok(found)
}

fn open(data_dir: &Path) -> anyhow::Result<Vec<Reader>> {
    let mut readers = Vec::new();
    for entry in std::fs::read_dir(data_dir).with_context(|| data_dir.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = name.to_str().and_then(parse_log_directory).map(|(kind, _)| kind);
        if !matches!(kind, Some(LogKind::Arrival | LogKind::Retry)) {
            continue;
        }
        // One that cannot be read has said so when the gateway started.
        let Ok(mut reader) = Reader::open_gently(&entry.path()) else { continue };
        reader.limit_to_present()?;
        readers.push(reader);
    }
    Ok(readers)
}

/// Looks at one segment.
fn look_at(
    reader: &mut Reader,
    number: u64,
    wanted: &Wanted,
    bounds: &Bounds,
    found: &mut Found,
    kept: &mut Vec<(u64, MessageId, Value)>,
) -> anyhow::Result<()> {
    let segment_bytes = reader.identity().segment_bytes;
    let begin = Lsn::new(number.saturating_mul(segment_bytes));
    reader.set_limit(begin.plus(segment_bytes));
    reader.seek(begin);
    let mut newest: VecDeque<(u64, MessageId, Value)> = VecDeque::new();
    let mut records = 0_u32;
    while let Some(entry) = reader.next()? {
        records += 1;
        if records.is_multiple_of(LOOK_EVERY) && Instant::now() >= bounds.until {
            found.cut = Some("time");
            break;
        }
        let Entry::Record(record) = entry else { continue };
        let header = record.header;
        found.octets += u64::from(header.envelope_octets) + u64::from(header.body_octets);
        if found.octets > bounds.octets_max {
            found.cut = Some("octets");
            break;
        }
        if header.kind != RecordKind::Message {
            continue;
        }
        found.since_us =
            Some(found.since_us.map_or(header.accepted_at_us, |since| since.min(header.accepted_at_us)));
        let Ok(envelope) = record.read_envelope() else { continue };
        let fits = wanted.id.is_none_or(|id| id == record.id)
            && wanted.sender.as_ref().is_none_or(|sender| is_address(sender, envelope.reverse_path()))
            && wanted
                .recipient
                .as_ref()
                .is_none_or(|recipient| envelope.recipients().any(|one| is_address(recipient, one.path)));
        if !fits {
            continue;
        }
        let chunks: u64 = envelope.chunks().map(|chunk| u64::from(chunk.octets)).sum();
        let recipients = envelope.recipients().take(RECIPIENTS_SHOWN);
        let message = json!({
            "id": record.id.to_string(),
            "accepted_at": time(header.accepted_at_us),
            "octets": chunks + u64::from(header.body_octets),
            "sender": String::from_utf8_lossy(envelope.reverse_path()),
            "recipients": recipients.map(|one| String::from_utf8_lossy(one.path).into_owned()).collect::<Vec<_>>(),
            "recipients_total": envelope.recipients().count(),
        });
        if newest.len() > wanted.limit {
            newest.pop_front();
        }
        newest.push_back((header.accepted_at_us, record.id, message));
    }
    kept.extend(newest);
    Ok(())
}
