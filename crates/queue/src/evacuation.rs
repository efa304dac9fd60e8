//! Which segment gives up what it still holds.
//!
//! Old segments stay for the few messages in them that are still owed. While these are the smaller part of what is kept, they are moved: from the
//! arrival log into the retry log, and within the retry log to its head. While they are the larger part, as when a large destination is down, keeping
//! them where they are is cheaper than a copy of everything. So at most twice the octets are kept that are owed, whatever stays behind.

/// A segment with what is owed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLoad {
    /// Its number.
    pub number: u64,
    /// Octets of the file.
    pub octets: u64,
    /// Octets of messages in it that are owed, about.
    pub live_octets: u64,
    /// When it was sealed, in µs since 1970; `None` while it takes records.
    pub sealed_at_us: Option<u64>,
    /// What it holds cannot be moved, as was found before.
    pub stays: bool,
}

/// Share of live octets, in percent, below which an arrival log gives up a segment.
pub const ARRIVAL_SHARE: u64 = 50;
/// The same for the retry log, whose messages have been moved before.
pub const RETRY_SHARE: u64 = 40;

/// The segment whose live messages are to be moved now: the oldest one that has any and does not stay, where of all that were sealed before `sealed_before_us` less than
/// `share` percent is live. `segments` are those that are kept, oldest first.
#[must_use]
pub fn choose_segment(segments: &[SegmentLoad], sealed_before_us: u64, share: u64) -> Option<u64> {
    let aged = segments.iter().take_while(|one| one.sealed_at_us.is_some_and(|at| at < sealed_before_us));
    let (mut octets, mut live, mut first) = (0_u64, 0_u64, None);
    for segment in aged {
        octets += segment.octets;
        live += segment.live_octets;
        if segment.live_octets > 0 && !segment.stays {
            first = first.or(Some(segment.number));
        }
    }
    first.filter(|_| live.saturating_mul(100) < octets.saturating_mul(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(live: &[u64]) -> Vec<SegmentLoad> {
        let load = |(number, live_octets): (u64, &u64)| SegmentLoad {
            number,
            octets: 100,
            live_octets: *live_octets,
            sealed_at_us: Some(number),
            stays: false,
        };
        (1..).zip(live).map(load).collect()
    }

    #[test]
    fn the_oldest_goes_while_little_is_live() {
        assert_eq!(choose_segment(&segments(&[0, 30, 10]), 10, ARRIVAL_SHARE), Some(2));
        assert_eq!(choose_segment(&segments(&[90, 0, 0]), 10, ARRIVAL_SHARE), Some(1));
        assert_eq!(choose_segment(&segments(&[0, 0]), 10, ARRIVAL_SHARE), None, "nothing to move");
        let mut stays = segments(&[10, 10, 10]);
        stays[0].stays = true;
        assert_eq!(choose_segment(&stays, 10, ARRIVAL_SHARE), Some(2), "the others are moved all the same");
    }

    #[test]
    fn what_is_mostly_live_or_young_stays() {
        assert_eq!(choose_segment(&segments(&[80, 60]), 10, ARRIVAL_SHARE), None);
        assert_eq!(choose_segment(&segments(&[10, 0]), 1, ARRIVAL_SHARE), None, "sealed too lately");
        let mut open = segments(&[10, 10]);
        open[0].sealed_at_us = None;
        assert_eq!(choose_segment(&open, 10, ARRIVAL_SHARE), None);
    }
}
