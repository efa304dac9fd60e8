//! Looks for messages in the logs, the newest first, within bounds.
//!
//! A log is read segment by segment, each from its begin, since records can only be read forwards; of each as many as are asked for are kept, the newest.
//! The search ends when it has enough, has read [`OCTETS_MAX`], or has taken [`TIME_MAX`]: the answer says so, and since when everything was looked at.
//! From there the next search can go on: what the newest segment that was not read to its end may hold is behind that time.
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
    /// Accepted before then, in µs since 1970.
    pub(super) until_us: Option<u64>,
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
    /// All that was accepted then or later was looked at, in µs since 1970; `None` where that holds for nothing yet, or there is no mail.
    pub(super) since_us: Option<u64>,
}

/// A segment to be looked at.
struct Part {
    reader: usize,
    number: u64,
    /// When its newest message was accepted; the end of time where that is not known yet.
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
        // Of what is sealed it is known whether all of it is too new.
        let of = of.filter(|segment| {
            let until_us = wanted.until_us.unwrap_or(u64::MAX);
            segment.seal.is_none_or(|seal| seal.summary.accepted_min_us < until_us)
        });
        parts.extend(of.map(|segment| Part {
            reader: index,
            number: segment.number,
            newest_us: newest(segment),
        }));
    }
    parts.sort_by_key(|part| std::cmp::Reverse((part.newest_us, part.number)));
    let mut found = Found::default();
    let mut kept: Vec<(u64, MessageId, Value)> = Vec::new();
    let mut oldest_us: Option<u64> = None;
    let mut unread = None;
    for part in &parts {
        // Enough, when nothing that is still to be looked at can be newer than the last one that will be told.
        let enough = last_told(&mut kept, wanted.limit).is_some_and(|last_us| part.newest_us < last_us);
        if !enough && !nobody_waits() {
            let reader = &mut readers[part.reader];
            let oldest = look_at(reader, part.number, wanted, bounds, &mut found, &mut kept)?;
            oldest_us = [oldest_us, oldest].into_iter().flatten().min();
        }
        if enough || found.cut.is_some() {
            unread = Some(part.newest_us);
            break;
        }
    }
    kept.sort_by_key(|(accepted_at_us, id, _)| std::cmp::Reverse((*accepted_at_us, *id)));
    // A message that waits for long stands in two logs while it moves.
    let mut seen = HashSet::new();
    kept.retain(|(_, id, _)| seen.insert(*id));
    found.more = kept.len() > wanted.limit;
    // What is left out is older than the last one that is told, or as old.
    let told_us = last_told(&mut kept, wanted.limit).map(|last_us| last_us.saturating_add(1));
    found.since_us = match unread {
        // Nothing is known of what is being written.
        Some(u64::MAX) => None,
        Some(newest_us) => told_us.max(Some(newest_us + 1)),
        None => told_us.max(oldest_us),
    };
    kept.truncate(wanted.limit);
    found.messages = kept.into_iter().map(|(_, id, message)| (id, message)).collect();
    Ok(found)
}

/// When the last message was accepted that will be told, where there are more than those.
fn last_told(kept: &mut [(u64, MessageId, Value)], limit: usize) -> Option<u64> {
    if limit == 0 || kept.len() <= limit {
        return None;
    }
    let (_, last, _) = kept.select_nth_unstable_by_key(limit - 1, |(at_us, ..)| std::cmp::Reverse(*at_us));
    Some(last.0)
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

/// Looks at one segment; when its oldest message was accepted.
fn look_at(
    reader: &mut Reader,
    number: u64,
    wanted: &Wanted,
    bounds: &Bounds,
    found: &mut Found,
    kept: &mut Vec<(u64, MessageId, Value)>,
) -> anyhow::Result<Option<u64>> {
    let segment_bytes = reader.identity().segment_bytes;
    let begin = Lsn::new(number.saturating_mul(segment_bytes));
    reader.set_limit(begin.plus(segment_bytes));
    reader.seek(begin);
    let mut newest: VecDeque<(u64, MessageId, Value)> = VecDeque::new();
    let mut records = 0_u32;
    let mut oldest_us: Option<u64> = None;
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
        oldest_us = Some(oldest_us.map_or(header.accepted_at_us, |oldest| oldest.min(header.accepted_at_us)));
        let Ok(envelope) = record.read_envelope() else { continue };
        let fits = wanted.until_us.is_none_or(|until_us| header.accepted_at_us < until_us)
            && wanted.id.is_none_or(|id| id == record.id)
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
    Ok(oldest_us)
}

#[cfg(test)]
mod tests {
    use inrush_log::Lsn;

    use super::*;

    #[test]
    fn the_newest_are_told_and_the_search_goes_on_behind_the_last() {
        let message = |at_us: u64| {
            let id = MessageId { node: 0, log: 0, lsn: Lsn::new(at_us) };
            (at_us, id, Value::Null)
        };
        let mut kept: Vec<_> = [5, 9, 1, 7].map(message).into();
        assert_eq!(last_told(&mut kept, 4), None);
        assert_eq!(last_told(&mut kept, 3), Some(5));
        assert_eq!(last_told(&mut kept, 1), Some(9));
        assert_eq!(last_told(&mut [], 1), None);
    }

    #[test]
    fn a_directory_without_logs_has_nothing() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let wanted = Wanted { limit: 5, ..Wanted::default() };
        let found = look(folder.path(), &wanted, &Bounds::new(1, TIME_MAX), || false)?;
        assert!(found.messages.is_empty() && found.cut.is_none() && found.since_us.is_none());
        assert!(look(&folder.path().join("none"), &wanted, &Bounds::new(1, TIME_MAX), || false).is_err());
        Ok(())
    }
}
