//! Receive buffers in the sizes of the gateway's, which decide how often it has to receive: `crates/gateway/src/buffers.rs`.
//! Without its budget: nothing is refused here.

use std::cell::RefCell;

/// Octets of the buffer that every session has.
pub(crate) const COMMAND: usize = 512;

/// The larger sizes.
pub(crate) const SIZES: [usize; 3] = [20 * 1024, 80 * 1024, 272 * 1024];

/// Buffers of a size that a core keeps for reuse: together at most what the gateway keeps.
const KEPT_MAX: [usize; 3] = [512, 128, 64];

/// Command buffers that a core keeps.
const KEPT_COMMANDS_MAX: usize = 8192;

/// The buffers of one core.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    commands: RefCell<Vec<Vec<u8>>>,
    free: [RefCell<Vec<Vec<u8>>>; SIZES.len()],
}

impl Pool {
    /// An empty buffer with room for `octets`; asks beyond the largest size get the largest.
    pub(crate) fn take(&self, octets: usize) -> Vec<u8> {
        if octets <= COMMAND {
            return self.commands.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(COMMAND));
        }
        let class = SIZES.iter().position(|&size| octets <= size).unwrap_or(SIZES.len() - 1);
        self.free[class].borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SIZES[class]))
    }

    /// Takes a buffer back; its content is dropped.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let class = SIZES.iter().position(|&size| size == buffer.capacity());
        let (mut kept, max) = match class {
            Some(class) => (self.free[class].borrow_mut(), KEPT_MAX[class]),
            None if buffer.capacity() == COMMAND => (self.commands.borrow_mut(), KEPT_COMMANDS_MAX),
            None => return,
        };
        if kept.len() < max {
            kept.push(buffer);
        }
    }

    /// Makes room in `buffer`, of which the octets before `start` are worked off, so that it holds `wanted` octets of what comes
    /// and what is left together; a buffer that is larger than need be goes back.
    pub(crate) fn fit(&self, buffer: &mut Vec<u8>, start: &mut usize, wanted: usize) {
        let rest = buffer.len() - *start;
        let too_large = wanted <= COMMAND && buffer.capacity() > COMMAND;
        if buffer.capacity() >= wanted && !too_large {
            if *start > 0 && buffer.capacity() - buffer.len() < wanted - rest {
                buffer.drain(..*start);
                *start = 0;
            } else if rest == 0 {
                buffer.clear();
                *start = 0;
            }
            return;
        }
        let mut next = self.take(wanted);
        next.extend_from_slice(&buffer[*start..]);
        *start = 0;
        self.give_back(std::mem::replace(buffer, next));
    }
}

/// Octets of buffer for a session that asks for `hint` and has `rest` octets not worked off.
pub(crate) fn wanted_octets(hint: usize, rest: usize, expects_data: bool, bulk: bool) -> usize {
    if !expects_data && rest < COMMAND {
        return if bulk { COMMAND + 1 } else { COMMAND };
    }
    hint.max(rest + 1).min(SIZES[SIZES.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_moves_into_the_next_buffer() {
        let pool = Pool::default();
        let mut buffer = pool.take(COMMAND);
        buffer.extend_from_slice(b"DATA\r\nSubject: x");
        let mut start = 6;
        pool.fit(&mut buffer, &mut start, 16 * 1024);
        assert_eq!((buffer.as_slice(), start, buffer.capacity()), (&b"Subject: x"[..], 0, SIZES[0]));
        start = buffer.len();
        pool.fit(&mut buffer, &mut start, COMMAND);
        assert_eq!((buffer.len(), buffer.capacity()), (0, COMMAND));
    }

    #[test]
    fn a_buffer_grows_with_the_data() {
        for (hint, rest, expects_data, bulk, octets) in [
            (2048, 0, false, false, COMMAND),
            (2048, 0, false, true, COMMAND + 1),
            (2048, COMMAND, false, false, 2048),
            (16 * 1024, 0, true, false, 16 * 1024),
            (1, 300_000, true, false, SIZES[2]),
        ] {
            assert_eq!(wanted_octets(hint, rest, expects_data, bulk), octets, "{hint} {rest}");
        }
    }
}
