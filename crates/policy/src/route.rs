//! Routes in a local part: `user%other@ours`, `other!user@ours`, `"user@other"@ours`.
//!
//! To us a local part is one name, but a host behind us may still read it as old ones did, and send the mail on to `other`: then we
//! would be the way into an open relay. Hence nobody gets such mail who is not listed with that very name.
//!
//! Standards: RFC 1123 §5.2.16 (`%` and `!` in local parts).

/// Which of `%`, `!` and `@` a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteMarks(u8);

impl RouteMarks {
    /// Those of `text`. Quoting neither makes nor hides one: it need not be taken off.
    pub(crate) fn of(text: &str) -> Self {
        Self(text.bytes().fold(0, |marks, byte| {
            marks
                | match byte {
                    b'%' => 1,
                    b'!' => 2,
                    b'@' => 4,
                    _ => 0,
                }
        }))
    }

    /// None at all.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of `other` are among these.
    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
