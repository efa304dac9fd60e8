//! SMTP smuggling: does the server take anything but `CR LF . CR LF` for the end of mail data?
//!
//! ```text
//!   … DATA ─▶ 354      text FALSE-END MAIL RCPT DATA text CR LF . CR LF QUIT   in one write
//!   in step:           one reply to the message, 221 to QUIT
//!   open to it:        a reply for each command inside of what was text
//! ```
//! A server is told by the number of its replies, whatever their codes: one that refuses the smuggled recipient took the line for a command all the
//! same, and for another recipient it would have taken the message. Nothing is called safe that was not seen to be.
//!
//! Standards: RFC 5321 §4.1.1.4 (end of mail data), §2.3.8 (lines); CVE-2023-51764, CVE-2023-51765, CVE-2023-51766.

/// What a server may wrongly take for the end of mail data: name in reports, octets.
pub const FALSE_ENDS: [(&str, &[u8]); 4] =
    [("LF . LF", b"\n.\n"), ("LF . CR LF", b"\n.\r\n"), ("CR LF . LF", b"\r\n.\n"), ("CR . CR", b"\r.\r")];

/// What one connection showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One message, the false end in it.
    TakenAsText,
    /// The message was refused, and no command in it was answered.
    Refused,
    /// A command inside of the mail data was answered.
    Found,
    /// Nothing was shown: no mail data was asked for, or the connection ended in between.
    NotTested,
}

/// How often each verdict was met for one false end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmugglingCounts {
    /// [`Verdict::TakenAsText`].
    pub taken_as_text: u64,
    /// [`Verdict::Refused`].
    pub refused: u64,
    /// [`Verdict::Found`].
    pub found: u64,
    /// [`Verdict::NotTested`].
    pub not_tested: u64,
}

impl SmugglingCounts {
    /// Counts a connection.
    pub fn book(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::TakenAsText => self.taken_as_text += 1,
            Verdict::Refused => self.refused += 1,
            Verdict::Found => self.found += 1,
            Verdict::NotTested => self.not_tested += 1,
        }
    }

    /// Adds those of another core.
    pub fn add(&mut self, other: &Self) {
        self.taken_as_text += other.taken_as_text;
        self.refused += other.refused;
        self.found += other.found;
        self.not_tested += other.not_tested;
    }

    /// At least one connection showed something.
    #[must_use]
    pub fn is_tested(&self) -> bool {
        self.taken_as_text + self.refused + self.found > 0
    }
}

/// `found`, `not_found` (every false end was tried) or `not_tested`.
#[must_use]
pub fn verdict(counts: &[SmugglingCounts]) -> &'static str {
    if counts.iter().any(|counts| counts.found > 0) {
        "found"
    } else if counts.iter().all(SmugglingCounts::is_tested) {
        "not_found"
    } else {
        "not_tested"
    }
}

/// Everything from the text on, sent in one go. `envelope`: MAIL and RCPT of a message that the server takes.
#[must_use]
pub fn text(false_end: &[u8], envelope: &[u8]) -> Vec<u8> {
    let first: &[u8] = b"Subject: one\r\n\r\nfirst";
    let second: &[u8] = b"DATA\r\nSubject: two\r\n\r\nsecond\r\n.\r\nQUIT\r\n";
    [first, false_end, envelope, second].concat()
}

/// Judges the codes of all replies to [`text`], up to the end of the connection.
#[must_use]
pub fn judge(replies: &[u16]) -> Verdict {
    let Some((&first, rest)) = replies.split_first() else { return Verdict::NotTested };
    // To a server in step there is nothing to answer but QUIT; and 421 it may say at any time (RFC 5321 §3.8).
    if rest.iter().any(|code| !matches!(code, 221 | 421)) {
        return Verdict::Found;
    }
    match first / 100 {
        // Without its 221 the server may have gone in front of the first smuggled command.
        2 if first != 221 && rest.first() == Some(&221) => Verdict::TakenAsText,
        4 | 5 => Verdict::Refused,
        _ => Verdict::NotTested,
    }
}

/// Smuggled messages that were acknowledged: a 2yz behind a 354 behind the reply to the first message.
#[must_use]
pub fn messages(replies: &[u16]) -> u64 {
    let pairs = replies.windows(2).skip(1);
    pairs.filter(|pair| pair[0] == 354 && pair[1] / 100 == 2).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_replies_decides_and_not_their_codes() {
        for (replies, verdict) in [
            (&[250, 221][..], Verdict::TakenAsText),
            (&[554, 221], Verdict::Refused),
            (&[521], Verdict::Refused),
            (&[421], Verdict::Refused),
            (&[554, 421], Verdict::Refused),
            (&[250, 250, 250, 354, 250, 221], Verdict::Found),
            // Unknown recipient, relaying denied, sender refused: commands all the same.
            (&[250, 250, 550, 554, 500, 500, 221], Verdict::Found),
            (&[250, 250, 454], Verdict::Found),
            (&[250, 553, 421], Verdict::Found),
            (&[554, 250, 250, 354, 250, 221], Verdict::Found),
            (&[250, 503], Verdict::Found),
            (&[], Verdict::NotTested),
            (&[250], Verdict::NotTested),
            (&[250, 421], Verdict::NotTested),
            (&[221], Verdict::NotTested),
            (&[0], Verdict::NotTested),
        ] {
            assert_eq!(judge(replies), verdict, "{replies:?}");
        }
        assert_eq!(messages(&[250, 250, 250, 354, 250, 221]), 1);
        assert_eq!(messages(&[250, 250, 250, 354, 451, 221]) + messages(&[354, 250]), 0);
    }

    #[test]
    fn nothing_is_safe_that_was_not_tried() {
        let mut counts = [SmugglingCounts::default(); FALSE_ENDS.len()];
        counts[1..].iter_mut().for_each(|counts| counts.book(Verdict::TakenAsText));
        counts[0].book(Verdict::NotTested);
        assert_eq!(verdict(&counts), "not_tested");
        counts[0].book(Verdict::Refused);
        assert_eq!(verdict(&counts), "not_found");
        counts[2].book(Verdict::Found);
        assert_eq!(verdict(&counts), "found");
    }
}
