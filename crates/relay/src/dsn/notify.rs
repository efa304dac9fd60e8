//! Whether a report is due: what the sender asked for, against what became of the message.
//!
//! | null reverse-path | event | NOTIFY | decision |
//! |---|---|---|---|
//! | yes | any | any | nothing |
//! | no | failed | not given, or with FAILURE | report `failed` |
//! | no | delayed | not given, or with DELAY | report `delayed` |
//! | no | delivered | with SUCCESS | report `delivered` |
//! | no | relayed to a host without DSN | with SUCCESS | report `relayed` |
//! | no | relayed to a host with DSN | any | handed on |
//! | no | any but the last | anything else, NEVER above all | nothing |
//!
//! One decision is for one recipient. A relay asks once per recipient and event, and puts the recipients of one message for which the
//! answer is the same [`Action`] into one report.
//!
//! Standards: RFC 3461 §4.1 (NOTIFY), §5.2.1 (next hop with DSN), §5.2.2 (next hop without), §5.2.3 (final delivery), §5.2.5 (delay),
//! §5.2.6 (failure); RFC 5321 §4.5.5, §6.1 (no report on a message with a null reverse-path).

use super::Action;

/// NOTIFY of RCPT, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify(u8);

impl Notify {
    /// Not given.
    pub const UNSPECIFIED: Self = Self(0);
    /// `NEVER`
    pub const NEVER: Self = Self(1);
    /// `SUCCESS`
    pub const SUCCESS: Self = Self(2);
    /// `FAILURE`
    pub const FAILURE: Self = Self(4);
    /// `DELAY`
    pub const DELAY: Self = Self(8);

    /// The set from its stored bits: 1 never, 2 success, 4 failure, 8 delay; 0 = not given. Other bits mean nothing.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        // RFC 3461 §4.1: NEVER stands alone. Where it does not, silence is the safer reading.
        if bits & Self::NEVER.0 != 0 { Self::NEVER } else { Self(bits & 0b1110) }
    }

    /// The set as bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// True when every member of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What became of a message for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is given up.
    Failed,
    /// It is kept for longer than a sender would expect, and tried again.
    Delayed,
    /// It lies in the mailbox, or a delivery agent took it over (LMTP).
    Delivered,
    /// The next hop took it and offers DSN: NOTIFY, ORCPT, ENVID and RET went with it.
    RelayedWithDsn,
    /// The next hop took it and does not offer DSN.
    RelayedWithoutDsn,
}

/// What is to be done about an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No report.
    Nothing,
    /// A report in which the recipient stands with this action.
    Report(Action),
    /// No report: the duty to send one is the next hop's from now on.
    HandedOn,
}

/// The table at the head of this file.
#[must_use]
pub fn decide(notify: Notify, null_reverse_path: bool, event: Event) -> Decision {
    match (null_reverse_path, event, is_wanted(notify, event)) {
        // RFC 5321 §6.1: reports about reports would never end.
        (true, _, _) => Decision::Nothing,
        (false, Event::Failed, true) => Decision::Report(Action::Failed),
        (false, Event::Delayed, true) => Decision::Report(Action::Delayed),
        (false, Event::Delivered, true) => Decision::Report(Action::Delivered),
        // RFC 3461 §5.2.2: nobody behind that host will report success, so this is the last that can be said.
        (false, Event::RelayedWithoutDsn, true) => Decision::Report(Action::Relayed),
        // RFC 3461 §5.2.1: a relay between conforming hosts reports nothing on its own.
        (false, Event::RelayedWithDsn, _) => Decision::HandedOn,
        (false, Event::Failed | Event::Delayed | Event::Delivered | Event::RelayedWithoutDsn, false) => {
            Decision::Nothing
        }
    }
}

/// Whether the sender wants to hear of it.
fn is_wanted(notify: Notify, event: Event) -> bool {
    // RFC 3461 §4.1: without NOTIFY a failure is reported, and a delay may be; here it is, since a sender who waits for nothing
    // asks people instead.
    match (notify, event) {
        (Notify::UNSPECIFIED, event) => matches!(event, Event::Failed | Event::Delayed),
        (_, Event::Failed) => notify.contains(Notify::FAILURE),
        (_, Event::Delayed) => notify.contains(Notify::DELAY),
        (_, Event::Delivered | Event::RelayedWithDsn | Event::RelayedWithoutDsn) => {
            notify.contains(Notify::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 5] =
        [Event::Failed, Event::Delayed, Event::Delivered, Event::RelayedWithDsn, Event::RelayedWithoutDsn];

    /// A row of the table: what it holds for, on the bits themselves, and the decision.
    type Row = (fn(bool, Event, u8) -> bool, Decision);

    const ROWS: [Row; 7] = [
        (|null, _, _| null, Decision::Nothing),
        (
            |null, event, bits| !null && event == Event::Failed && (bits == 0 || bits & 5 == 4),
            Decision::Report(Action::Failed),
        ),
        (
            |null, event, bits| !null && event == Event::Delayed && (bits == 0 || bits & 9 == 8),
            Decision::Report(Action::Delayed),
        ),
        (
            |null, event, bits| !null && event == Event::Delivered && bits & 3 == 2,
            Decision::Report(Action::Delivered),
        ),
        (
            |null, event, bits| !null && event == Event::RelayedWithoutDsn && bits & 3 == 2,
            Decision::Report(Action::Relayed),
        ),
        (|null, event, _| !null && event == Event::RelayedWithDsn, Decision::HandedOn),
        (
            |null, event, bits| {
                let asked = match event {
                    Event::Failed => bits == 0 || bits & 4 != 0,
                    Event::Delayed => bits == 0 || bits & 8 != 0,
                    Event::Delivered | Event::RelayedWithoutDsn => bits & 2 != 0,
                    Event::RelayedWithDsn => true,
                };
                let never = bits & 1 != 0 && event != Event::RelayedWithDsn;
                !null && (never || !asked)
            },
            Decision::Nothing,
        ),
    ];

    /// RFC 3461 §4.1, §5.2
    #[test]
    fn every_combination_hits_exactly_one_row() {
        for bits in 0..16 {
            for event in EVENTS {
                for null in [false, true] {
                    let hits: Vec<Decision> =
                        ROWS.iter().filter(|(holds, _)| holds(null, event, bits)).map(|row| row.1).collect();
                    let decision = decide(Notify::from_bits(bits), null, event);
                    assert_eq!(hits, [decision], "NOTIFY {bits}, null {null}, {event:?}");
                }
            }
        }
    }

    #[test]
    fn bits_are_a_valid_set() {
        assert_eq!(Notify::from_bits(0xf0), Notify::UNSPECIFIED);
        assert_eq!(Notify::from_bits(15), Notify::NEVER);
        assert_eq!(Notify::from_bits(6).bits(), 6);
    }
}
