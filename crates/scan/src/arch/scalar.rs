//! One octet at a time, for any CPU: the twin that the others are compared with.

use crate::dispatch::Implementation;
use crate::state::State;

pub(crate) const IMPLEMENTATION: Implementation =
    Implementation { name: "scalar", data: scan::<true>, opaque: scan::<false> };

/// The state machine as the standards tell it. `DATA`: look for the end-of-data indication.
fn scan<const DATA: bool>(state: &mut State, bytes: &[u8]) -> Option<usize> {
    // A copy that the compiler can keep in registers.
    let mut s = *state;
    for (at, &octet) in bytes.iter().enumerate() {
        if octet == b'\n' {
            if s.cr == 0 {
                s.bare_lf = true;
            } else if DATA && s.dot_cr == 1 {
                // RFC 5321 §4.1.1.4: CRLF . CRLF, and nothing else.
                s.end_data();
                *state = s;
                return Some(at + 1);
            } else {
                s.longest = s.longest.max(s.octets - s.line_start - 1);
                s.lines += 1;
                s.line_start = s.octets + 1;
            }
            s.cr = 0;
            s.dot = 0;
            s.dot_cr = 0;
        } else {
            s.bare_cr |= s.cr == 1;
            s.dot_cr = 0;
            if octet == b'\r' {
                s.cr = 1;
                s.dot_cr = s.dot;
                s.dot = 0;
            } else {
                s.cr = 0;
                s.dot = u8::from(octet == b'.' && s.octets == s.line_start);
                s.dot_lines += u64::from(s.dot);
                s.nul |= octet == 0;
                s.eight_bit |= octet >= 0x80;
            }
        }
        s.octets += 1;
    }
    *state = s;
    None
}
