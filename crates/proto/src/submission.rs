//! What a message that was submitted lacks, and the fields that are added for it.
//!
//! A mail program may leave `Date` and `Message-ID` to the server of its user. Fields that are there stay as they are, even
//! empty or wrong ones: only the user knows what they should say. The message itself is not touched; the fields go in front
//! of its header section, where the trace goes.
//!
//! Standards: RFC 6409 §8.2 (Date), §8.3 (Message-ID); RFC 5322 §2.2 (fields), §3.3 (date and time), §3.6.4 (identification).

/// The fields that a header section lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// No `Date`.
    pub date: bool,
    /// No `Message-ID`.
    pub message_id: bool,
}

impl Missing {
    /// Looks through a header section: whole lines, with or without the empty line behind it. A bare LF ends a line here, as it
    /// does where the end of the header section is looked for.
    pub fn find(header: &[u8]) -> Self {
        let mut missing = Self { date: true, message_id: true };
        let mut rest = header;
        while !rest.is_empty() && missing.any() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, behind) = rest.split_at(end);
            rest = behind;
            if let Some(name) = name(line) {
                // RFC 5322 §1.2.2: names of fields are not case sensitive.
                missing.date &= !name.eq_ignore_ascii_case(b"Date");
                missing.message_id &= !name.eq_ignore_ascii_case(b"Message-ID");
            }
        }
        missing
    }

    /// Whether a field is missing.
    pub const fn any(self) -> bool {
        self.date || self.message_id
    }

    /// Appends the missing fields to `out`, each with its CRLF. `at_us` is the time in microseconds since 1970; `id` names the
    /// message for good and `hostname` this host (both dot-atoms, RFC 5322 §3.2.3): together they are unique in the world.
    pub fn render(self, at_us: u64, id: &str, hostname: &str, out: &mut Vec<u8>) {
        debug_assert!(!id.is_empty() && !hostname.is_empty());
        debug_assert!(id.bytes().chain(hostname.bytes()).all(|octet| octet.is_ascii_graphic()));
        if self.date {
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(date(at_us).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if self.message_id {
            // RFC 5322 §3.6.4: msg-id = "<" id-left "@" id-right ">"
            for part in ["Message-ID: <", id, "@", hostname, ">\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
}

/// The name of the field that begins with `line`; none for a folded line.
fn name(line: &[u8]) -> Option<&[u8]> {
    let name = &line[..memchr::memchr(b':', line)?];
    // RFC 5322 §4.5: old mail may have white space before the colon. White space in front makes it the rest of another field.
    Some(name.trim_ascii_end())
}

/// Date and time in UTC (RFC 5322 §3.3).
fn date(at_us: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = at_us / 1_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let name = |names: &[&'static str], at: u64| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or_default()
    };
    let (weekday, month) = (name(&DAYS, days % 7), name(&MONTHS, month));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Year, month (0 = January) and day of the month, from days since 1970-01-01, in cycles of 400 years that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day_of_year + 2) / 153; // 0 = March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    (cycle * 400 + year_of_cycle + u64::from(month >= 10), (month + 2) % 12, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(missing: Missing, at_us: u64) -> String {
        let mut out = Vec::new();
        missing.render(at_us, "00010000000008001000", "mx1.example.com", &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn finds_what_is_missing() {
        for (header, date, message_id) in [
            (&b""[..], true, true),
            (b"\r\n", true, true),
            (b"Subject: a\r\n\r\n", true, true),
            (b"Date: x\r\nMessage-ID: <a@b>\r\n\r\n", false, false),
            (b"Message-ID: <a@b>\r\nSubject: a\r\nDate: x\r\n", false, false),
            (b"DATE:x\r\nmessage-id:<a@b>\r\n\r\n", false, false),
            // As old mail has it, RFC 5322 §4.5.
            (b"Date : x\r\nMessage-Id\t: <a@b>\r\n\r\n", false, false),
            (b"Subject: a\nDate: x\n\n", false, true),
            // There, though empty.
            (b"Date:\r\n\r\n", false, true),
            // Other fields, and text of other fields.
            (b"Resent-Date: x\r\nResent-Message-ID: <a@b>\r\n\r\n", true, true),
            (b"Dates: x\r\nDat: x\r\nX-Date: x\r\n\r\n", true, true),
            (b"Subject: a\r\n Date: x\r\n\tMessage-ID: <a@b>\r\n\r\n", true, true),
            (b"Subject: Date: x\r\n\r\n", true, true),
            (b"From joe Mon\r\nDate: x\r\n\r\n", false, true),
            (b"Subject: a\r\nMessage-ID: <a@b>", true, false),
        ] {
            let text = header.escape_ascii();
            assert_eq!(Missing::find(header), Missing { date, message_id }, "{text}");
            assert_eq!(Missing::find(header).any(), date || message_id, "{text}");
        }
    }

    // RFC 5322 §3.3
    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (951_868_800, "Wed, 1 Mar 2000 00:00:00 +0000"),
            (1_700_000_000, "Tue, 14 Nov 2023 22:13:20 +0000"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
        ] {
            assert_eq!(date(seconds * 1_000_000 + 999_999), expected);
        }
    }

    #[test]
    fn renders_what_is_missing() {
        const DATE: &str = "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n";
        const ID: &str = "Message-ID: <00010000000008001000@mx1.example.com>\r\n";
        let at = 1_700_000_000_000_000;
        for (date, message_id, expected) in [
            (true, true, format!("{DATE}{ID}")),
            (true, false, DATE.to_owned()),
            (false, true, ID.to_owned()),
            (false, false, String::new()),
        ] {
            let text = rendered(Missing { date, message_id }, at);
            assert_eq!(text, expected);
            // What was added is found again.
            let found = Missing::find(text.as_bytes());
            assert_eq!(found, Missing { date: !date, message_id: !message_id });
        }
    }
}
