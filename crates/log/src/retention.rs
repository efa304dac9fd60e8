//! Which sealed segments may go.
//!
//! | a required consumer is not past its end | a limit is exceeded | there is a required consumer | a best-effort consumer is not past its end | verdict |
//! |---|---|---|---|---|
//! | yes | – | – | – | stays |
//! | no | yes | – | – | goes: for that limit; consumers that were not past it lose it |
//! | no | no | no | – | stays: the log is all there is |
//! | no | no | yes | yes | stays |
//! | no | no | yes | no | goes: consumed |
//!
//! Besides, segments go from the oldest on only, and none goes that holds a chunk of a message that stays or is still to come. For want of free space
//! what somebody has linked goes only before one that nobody has, since by itself it frees nothing; and none goes while the space of those that went
//! before is awaited.

use std::fmt;
use std::time::Duration;

use crate::Lsn;
use crate::cursor::{ConsumerKind, CursorState};
use crate::segment::{Seal, SegmentSummary};
use crate::settings::LogSettings;

/// Why a segment was retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetireReason {
    /// Every consumer is past it, and there is a required one.
    Consumed,
    /// Its newest message is older than [`LogSettings::retention_age`].
    Age,
    /// All sealed segments together are larger than [`LogSettings::retention_bytes`].
    Bytes,
    /// The file system has less free space than [`LogSettings::retention_free_bytes`].
    FreeBytes,
}

impl RetireReason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Consumed, Self::Age, Self::Bytes, Self::FreeBytes];

    /// The word of logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consumed => "consumed",
            Self::Age => "retention_age",
            Self::Bytes => "retention_bytes",
            Self::FreeBytes => "retention_free_bytes",
        }
    }
}

impl fmt::Display for RetireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A segment that takes no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedSegment {
    pub(crate) number: u64,
    pub(crate) octets: u64,
    pub(crate) end: Lsn,
    pub(crate) summary: SegmentSummary,
    pub(crate) sealed_at_us: u64,
}

impl SealedSegment {
    pub(crate) fn new(number: u64, octets: u64, seal: &Seal) -> Self {
        let Seal { end, summary, sealed_at_us, .. } = *seal;
        Self { number, octets, end, summary, sealed_at_us }
    }

    /// Time of the newest message; of the seal, when there is none.
    pub(crate) fn newest_us(&self) -> u64 {
        if self.summary.messages > 0 { self.summary.accepted_max_us } else { self.sealed_at_us }
    }
}

/// One log as retention sees it.
pub(crate) struct Holdings<'a> {
    /// Sealed segments, oldest first.
    pub(crate) sealed: &'a [SealedSegment],
    /// Consumers; a cursor that cannot be read counts as a required one at the start.
    pub(crate) cursors: &'a [CursorState],
    /// The lowest chunk that a message in an open segment lists, or that no message lists yet.
    pub(crate) needed_from: Lsn,
    /// Whether the space of a segment, by its number, comes free when it goes.
    pub(crate) frees: &'a dyn Fn(u64) -> bool,
}

/// The state of the disk and the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) now_us: u64,
    pub(crate) free_bytes: u64,
    /// Segments were removed for want of space, which has not come free yet.
    pub(crate) space_awaited: bool,
}

/// What is to go from one log: its oldest segments, each with its reason.
pub(crate) type Going = Vec<(SealedSegment, RetireReason)>;

/// Decides over all logs of a data directory together, since they share the limits.
pub(crate) fn plan(logs: &[Holdings<'_>], limits: &LogSettings, situation: Situation) -> Vec<Going> {
    let mut plan: Vec<Going> = logs.iter().map(|_| Going::new()).collect();
    let sealed = logs.iter().flat_map(|log| log.sealed);
    let mut octets: u64 = sealed.map(|segment| segment.octets).sum();
    let mut free_bytes = situation.free_bytes;
    for (log, going) in logs.iter().zip(&mut plan) {
        let gone = log.sealed.iter().map_while(|segment| {
            (log.is_consumed(segment) || (log.is_free(segment) && is_old(segment, limits, situation.now_us)))
                .then(|| {
                    (
                        *segment,
                        if log.is_consumed(segment) { RetireReason::Consumed } else { RetireReason::Age },
                    )
                })
        });
        going.extend(gone);
        octets -= going.iter().map(|(segment, _)| segment.octets).sum::<u64>();
        free_bytes = free_bytes.saturating_add(going.iter().map(|(segment, _)| segment.octets).sum());
    }
    // What else has to go is the oldest of all logs, one by one.
    while let Some(reason) = exceeded(limits, octets, free_bytes) {
        let for_space = reason == RetireReason::FreeBytes;
        if for_space && situation.space_awaited {
            break;
        }
        let next = |index: &usize| {
            let log = &logs[*index];
            let segment = log.sealed.get(plan[*index].len())?;
            log.is_free(segment).then_some((segment.newest_us(), *segment))
        };
        let oldest = (0..logs.len()).filter_map(|index| Some((next(&index)?, index)));
        let Some(((_, segment), index)) = oldest.min_by_key(|((newest, _), _)| *newest) else { break };
        plan[index].push((segment, reason));
        octets -= segment.octets;
        if !for_space || (logs[index].frees)(segment.number) {
            free_bytes = free_bytes.saturating_add(segment.octets);
        }
    }
    for (log, going) in logs.iter().zip(&mut plan) {
        let vain = |(segment, reason): &(SealedSegment, RetireReason)| {
            *reason == RetireReason::FreeBytes && !(log.frees)(segment.number)
        };
        while going.pop_if(|last| vain(last)).is_some() {}
        log.keep_chunks(going);
    }
    plan
}

fn is_old(segment: &SealedSegment, limits: &LogSettings, now_us: u64) -> bool {
    let age = Duration::from_micros(now_us.saturating_sub(segment.newest_us()));
    !limits.retention_age.is_zero() && age > limits.retention_age
}

fn exceeded(limits: &LogSettings, octets: u64, free_bytes: u64) -> Option<RetireReason> {
    if limits.retention_bytes > 0 && octets > limits.retention_bytes {
        Some(RetireReason::Bytes)
    } else if free_bytes < limits.retention_free_bytes {
        Some(RetireReason::FreeBytes)
    } else {
        None
    }
}

impl Holdings<'_> {
    fn has_required(&self) -> bool {
        self.cursors.iter().any(|cursor| cursor.kind == ConsumerKind::Required)
    }

    /// Whether no required consumer needs it.
    fn is_free(&self, segment: &SealedSegment) -> bool {
        let mut required = self.cursors.iter().filter(|cursor| cursor.kind == ConsumerKind::Required);
        required.all(|cursor| cursor.position >= segment.end)
    }

    /// Whether every consumer is done with it, and that is a reason for it to go.
    fn is_consumed(&self, segment: &SealedSegment) -> bool {
        self.has_required() && self.cursors.iter().all(|cursor| cursor.position >= segment.end)
    }

    /// Takes back what holds chunks of messages that stay. What a segment that is taken back needs itself goes all the same: its own messages were due,
    /// and overlapping transactions would tie all segments together for ever.
    fn keep_chunks(&self, going: &mut Going) {
        let staying = &self.sealed[going.len()..];
        let needed_from = staying
            .iter()
            .map(|segment| segment.summary.chunks_from)
            .min()
            .unwrap_or(Lsn::MAX)
            .min(self.needed_from);
        while let Some((segment, _)) = going.last() {
            if needed_from >= segment.end {
                return;
            }
            going.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;
    const HOUR: u64 = 3600 * 1_000_000;

    /// Segments 1, 2, 3 …, whose newest messages are as many hours old as their place says.
    fn sealed(count: u64) -> Vec<SealedSegment> {
        (1..=count)
            .map(|number| SealedSegment {
                number,
                octets: SIZE,
                end: Lsn::new((number + 1) * SIZE - 4096),
                summary: SegmentSummary {
                    messages: 1,
                    accepted_max_us: number * HOUR,
                    ..SegmentSummary::default()
                },
                sealed_at_us: number * HOUR,
            })
            .collect()
    }

    fn cursor(kind: ConsumerKind, position: u64) -> CursorState {
        CursorState {
            name: "x".to_owned(),
            kind,
            generation: 1,
            position: Lsn::new(position),
            saved_at_us: 0,
        }
    }

    fn goes(
        sealed: &[SealedSegment],
        cursors: &[CursorState],
        limits: &LogSettings,
        needed: u64,
    ) -> Vec<(u64, RetireReason)> {
        let log = Holdings { sealed, cursors, needed_from: Lsn::new(needed), frees: &|_| true };
        let situation = Situation { now_us: 10 * HOUR, free_bytes: 2 * SIZE, space_awaited: false };
        let going = plan(&[log], limits, situation).remove(0);
        going.into_iter().map(|(segment, reason)| (segment.number, reason)).collect()
    }

    fn keep() -> LogSettings {
        LogSettings::default()
    }

    #[test]
    fn by_default_everything_stays() {
        assert_eq!(goes(&sealed(3), &[], &keep(), u64::MAX), []);
        let past_all = cursor(ConsumerKind::BestEffort, u64::MAX);
        assert_eq!(goes(&sealed(3), &[past_all], &keep(), u64::MAX), [], "it may be read again");
    }

    #[test]
    fn what_all_consumers_have_passed_goes_when_one_is_required() {
        let required = cursor(ConsumerKind::Required, 3 * SIZE + 5);
        assert_eq!(
            goes(&sealed(3), std::slice::from_ref(&required), &keep(), u64::MAX),
            [(1, RetireReason::Consumed), (2, RetireReason::Consumed)]
        );
        let behind = cursor(ConsumerKind::BestEffort, 2 * SIZE + 5);
        assert_eq!(goes(&sealed(3), &[required, behind], &keep(), u64::MAX), [(1, RetireReason::Consumed)]);
    }

    #[test]
    fn limits_take_from_best_effort_consumers_but_not_from_required_ones() {
        let limits = LogSettings { retention_age: Duration::from_hours(8), ..keep() };
        assert_eq!(goes(&sealed(3), &[], &limits, u64::MAX), [(1, RetireReason::Age)]);
        let behind = cursor(ConsumerKind::BestEffort, 0);
        assert_eq!(goes(&sealed(3), &[behind], &limits, u64::MAX), [(1, RetireReason::Age)]);
        let required = cursor(ConsumerKind::Required, 0);
        assert_eq!(goes(&sealed(3), &[required], &limits, u64::MAX), []);
    }

    #[test]
    fn limits_of_size_and_space_take_the_oldest() {
        let limits = LogSettings { retention_bytes: 2 * SIZE, ..keep() };
        assert_eq!(goes(&sealed(3), &[], &limits, u64::MAX), [(1, RetireReason::Bytes)]);
        let limits = LogSettings { retention_free_bytes: 4 * SIZE, ..keep() };
        let going = [(1, RetireReason::FreeBytes), (2, RetireReason::FreeBytes)];
        assert_eq!(goes(&sealed(3), &[], &limits, u64::MAX), going);
    }

    #[test]
    fn of_several_logs_the_oldest_segments_go() {
        let (first, second) = (sealed(3), sealed(2));
        let log = |sealed| Holdings { sealed, cursors: &[], needed_from: Lsn::MAX, frees: &|_| true };
        let limits = LogSettings { retention_bytes: 2 * SIZE, ..keep() };
        let situation = Situation { now_us: 10 * HOUR, free_bytes: 0, space_awaited: false };
        let plan = plan(&[log(&first), log(&second)], &limits, situation);
        assert_eq!((plan[0].len(), plan[1].len()), (2, 1));
    }

    const ALL: u64 = u64::MAX;

    #[test]
    fn for_want_of_space_only_goes_what_frees_some() {
        let sealed = sealed(3);
        let limits = LogSettings { retention_free_bytes: 4 * SIZE, ..keep() };
        let going = |linked: u64, space_awaited| {
            let frees = |number| number != linked && linked != ALL;
            let log = Holdings { sealed: &sealed, cursors: &[], needed_from: Lsn::MAX, frees: &frees };
            let situation = Situation { now_us: 10 * HOUR, free_bytes: 2 * SIZE, space_awaited };
            plan(&[log], &limits, situation).remove(0).len()
        };
        assert_eq!(going(0, false), 2);
        assert_eq!(going(1, false), 3, "a snapshot keeps the first one, which is in the way");
        assert_eq!(going(3, false), 2);
        assert_eq!(going(ALL, false), 0, "nothing would come free");
        assert_eq!(going(0, true), 0, "the last ones have not come free yet");
    }

    #[test]
    fn chunks_of_messages_that_stay_keep_their_segment() {
        let all = cursor(ConsumerKind::Required, 3 * SIZE + 5);
        let consumed = |sealed: &[SealedSegment], needed| {
            goes(sealed, std::slice::from_ref(&all), &keep(), needed)
                .into_iter()
                .map(|(number, _)| number)
                .collect::<Vec<_>>()
        };
        assert_eq!(consumed(&sealed(3), 2 * SIZE + 64), [1], "an open transaction has a chunk in segment 2");
        let mut chain = sealed(3);
        chain[2].summary.chunks_from = Lsn::new(2 * SIZE + 64);
        assert_eq!(consumed(&chain, u64::MAX), [1], "a message in segment 3 lists a chunk in segment 2");
        chain[1].summary.chunks_from = Lsn::new(SIZE + 64);
        assert_eq!(
            consumed(&chain, u64::MAX),
            [1],
            "one in segment 2 lists a chunk in segment 1, but was due itself"
        );
    }
}
