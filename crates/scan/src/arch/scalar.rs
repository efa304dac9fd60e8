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
        let line_dot = octet == b'.' && s.open_line == 0;
        if octet == b'\n' && s.cr == 1 {
            // RFC 5321 §4.1.1.4: CRLF . CRLF, and nothing else.
            if DATA && s.dots == 0b01 {
                s.end_data();
                *state = s;
                return Some(at + 1);
            }
            s.longest = s.longest.max(s.open_line - 1);
            s.open_line = 0;
            s.lines += 1;
        } else {
            s.bare_cr |= s.cr == 1;
            s.bare_lf |= octet == b'\n';
            s.nul |= octet == 0;
            s.eight_bit |= octet >= 0x80;
            s.open_line += 1;
        }
        s.cr = u8::from(octet == b'\r');
        s.dots = s.dots >> 1 | u8::from(line_dot) << 1;
        s.dot_lines += u64::from(line_dot);
        s.octets += 1;
    }
    *state = s;
    None
}
