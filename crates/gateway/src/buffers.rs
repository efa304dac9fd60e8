//! Receive buffers in a few sizes, recycled per core, counted against the core's memory budget.
//!
//! A session borrows a buffer to receive into, and gives it back when all of it is worked off. What is not (half a command, half a message)
//! it keeps in the smallest one that takes it. What sessions hold in larger buffers and in envelopes is the core's `pending_bytes`; the pool
//! refuses to hand out more than the budget. Buffers that lie in the pool are kept for reuse up to [`KEPT_BYTES_MAX`]; the one that was
//! given back last is lent first, since it is in the cache.

use std::cell::{Cell, RefCell};

/// Octets of the buffer for part of a command; it is not counted and never refused.
pub(crate) const COMMAND: usize = 512;

/// Octets of the buffer that a receive goes into, if there are no reasons for another: the commands of many messages fit, and most messages.
pub(crate) const RECEIVE: usize = SIZES[1];

/// Free octets that are worth a receive in the middle of a message.
const ROOM_MIN: usize = 16 * 1024;

/// Those that are enough for a sender who did not fill its buffer the last time: growing for each of its packets, and shrinking behind it, would
/// copy what is there again and again.
const ROOM_FOR_SLOW: usize = 4 * 1024;

/// The larger sizes. The first takes the largest record of TLS (18 KiB), the last one piece of mail data (252 KiB) and what was read behind it.
pub(crate) const SIZES: [usize; 3] = [20 * 1024, 80 * 1024, 272 * 1024];

/// Octets of unused larger buffers that a core keeps.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// What a session would like to receive.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Octets in all, with those that are there.
    pub hint: usize,
    /// The last receive has filled its buffer.
    pub bulk: bool,
    /// Commands come next, which any buffer takes.
    pub command: bool,
}

/// Octets of the smallest buffer that takes `octets`.
fn size_of_class(octets: usize) -> usize {
    if octets <= COMMAND {
        return COMMAND;
    }
    SIZES.into_iter().find(|&size| octets <= size).unwrap_or(SIZES[SIZES.len() - 1])
}

/// The budget of the core's mail data in memory is spent.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

/// The buffers of one core.
#[derive(Debug)]
pub struct Pool {
    commands: RefCell<Vec<Vec<u8>>>,
    free: [RefCell<Vec<Vec<u8>>>; SIZES.len()],
    kept_bytes: Cell<usize>,
    held_bytes: Cell<usize>,
    held_bytes_max: usize,
}

impl Pool {
    /// A pool that lets sessions hold at most `held_bytes_max` octets in larger buffers.
    pub fn new(held_bytes_max: usize) -> Self {
        Self {
            commands: RefCell::default(),
            free: std::array::from_fn(|_| RefCell::default()),
            kept_bytes: Cell::new(0),
            held_bytes: Cell::new(0),
            held_bytes_max,
        }
    }

    /// An empty buffer with room for `octets` or more; asks beyond the largest size get the largest.
    ///
    /// # Errors
    /// [`Exhausted`] when the budget does not allow the buffer.
    pub fn take(&self, octets: usize) -> Result<Vec<u8>, Exhausted> {
        if octets <= COMMAND {
            return Ok(self.commands.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(COMMAND)));
        }
        let class = SIZES.iter().position(|&size| octets <= size).unwrap_or(SIZES.len() - 1);
        let size = SIZES[class];
        let held = self.held_bytes.get() + size;
        if held > self.held_bytes_max {
            return Err(Exhausted);
        }
        self.held_bytes.set(held);
        Ok(match self.free[class].borrow_mut().pop() {
            Some(buffer) => {
                self.kept_bytes.set(self.kept_bytes.get() - size);
                buffer
            }
            None => Vec::with_capacity(size),
        })
    }

    /// An empty buffer with room for `octets`, or as many of them as the budget allows.
    pub(crate) fn take_largest(&self, octets: usize) -> Vec<u8> {
        self.take(octets).or_else(|_| self.take(COMMAND)).unwrap_or_default()
    }

    /// Makes room for a receive in `buffer`, of which the octets before `start` are worked off; a session that asks for `hint` octets in all,
    /// with those that are there, gets some of them at least, a `bulk` sender as many as there are. False when the budget is spent.
    pub fn make_room(
        &self,
        buffer: &mut Vec<u8>,
        start: &mut usize,
        Wish { hint, bulk, command }: Wish,
    ) -> bool {
        let rest = buffer.len() - *start;
        let needed = (rest + ROOM_MIN).min(hint).max(rest + 1);
        let most = if bulk { SIZES[2] } else { RECEIVE };
        if buffer.capacity() >= needed.max(RECEIVE) {
            return self.fit(buffer, start, needed);
        }
        if !bulk && rest > 0 && buffer.capacity() - rest >= ROOM_FOR_SLOW {
            return self.fit(buffer, start, rest + ROOM_FOR_SLOW);
        }
        // More than what is needed is a favour; part of a command needs little.
        let least = if command { rest + 1 } else { needed };
        let wishes = [needed.max(most), needed.max(RECEIVE), needed, least];
        wishes.into_iter().any(|octets| self.fit(buffer, start, octets))
            || (buffer.capacity() > rest && self.fit(buffer, start, rest + 1))
    }

    /// Makes room in `buffer`, of which the octets before `start` are worked off, so that it holds `octets` in all with those that are left.
    /// False when the budget is spent.
    pub fn fit(&self, buffer: &mut Vec<u8>, start: &mut usize, octets: usize) -> bool {
        if buffer.capacity() < octets {
            return self.exchange(buffer, start, octets);
        }
        if buffer.capacity() - *start < octets {
            buffer.drain(..*start);
            *start = 0;
        }
        true
    }

    /// Moves what is not worked off into the smallest buffer that takes it, so that waiting costs no more than that.
    pub fn shelve(&self, buffer: &mut Vec<u8>, start: &mut usize) {
        let rest = buffer.len() - *start;
        if rest == 0 {
            self.give_back(std::mem::take(buffer));
            *start = 0;
        } else if size_of_class(rest) < buffer.capacity() {
            // Where the budget does not allow the smaller one beside the larger one, that stays.
            self.exchange(buffer, start, rest);
        }
    }

    /// Moves what is not worked off into a buffer for `octets`; false when the budget does not allow it.
    fn exchange(&self, buffer: &mut Vec<u8>, start: &mut usize, octets: usize) -> bool {
        let Ok(mut next) = self.take(octets) else { return false };
        next.extend_from_slice(&buffer[*start..]);
        *start = 0;
        self.give_back(std::mem::replace(buffer, next));
        true
    }

    /// Takes a buffer back; its content is dropped.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let capacity = buffer.capacity();
        let Some(class) = SIZES.iter().position(|&size| size == capacity) else {
            let mut commands = self.commands.borrow_mut();
            if capacity == COMMAND && commands.len() < KEPT_BYTES_MAX / COMMAND / 8 {
                commands.push(buffer);
            }
            return;
        };
        debug_assert!(self.held_bytes.get() >= capacity);
        self.held_bytes.set(self.held_bytes.get() - capacity);
        if self.kept_bytes.get() + capacity <= KEPT_BYTES_MAX {
            self.kept_bytes.set(self.kept_bytes.get() + capacity);
            self.free[class].borrow_mut().push(buffer);
        }
    }

    /// Counts `octets` that a session holds outside of the pool's buffers.
    ///
    /// # Errors
    /// [`Exhausted`] when the budget does not allow them; nothing was counted.
    pub(crate) fn charge(&self, octets: usize) -> Result<(), Exhausted> {
        let held = self.held_bytes.get() + octets;
        if held > self.held_bytes_max {
            return Err(Exhausted);
        }
        self.held_bytes.set(held);
        Ok(())
    }

    /// Takes back what was [charged](Self::charge).
    pub(crate) fn release(&self, octets: usize) {
        debug_assert!(self.held_bytes.get() >= octets);
        self.held_bytes.set(self.held_bytes.get() - octets);
    }

    /// Octets in larger buffers and envelopes that sessions hold now.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }

    /// What [`held_bytes`](Self::held_bytes) may reach.
    pub(crate) fn held_bytes_max(&self) -> usize {
        self.held_bytes_max
    }

    /// Whether so little is held, less than a quarter of the budget, that octets may be received before the log has room for them.
    pub(crate) fn allows_reading_ahead(&self) -> bool {
        self.held_bytes.get() < self.held_bytes_max / 4
    }

    /// Whether not even the smallest of the larger sizes is left.
    pub(crate) fn exhausted(&self) -> bool {
        self.held_bytes.get() + SIZES[0] > self.held_bytes_max
    }

    /// Seven eighths of the budget.
    pub(crate) fn high_water(&self) -> usize {
        self.held_bytes_max / 8 * 7
    }

    /// Whether these are spent: new transactions wait until there is room again.
    pub(crate) fn nearly_exhausted(&self) -> bool {
        self.held_bytes.get() >= self.high_water()
    }

    /// Gives the buffers that are kept for reuse back to the allocator.
    pub(crate) fn let_go(&self) {
        self.kept_bytes.set(0);
        self.free.iter().chain([&self.commands]).for_each(|buffers| drop(buffers.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_the_smallest_size_that_fits() {
        let pool = Pool::new(1 << 20);
        for (asked, size) in [
            (0, COMMAND),
            (COMMAND, COMMAND),
            (COMMAND + 1, SIZES[0]),
            (SIZES[0] + 1, SIZES[1]),
            (1 << 30, SIZES[2]),
        ] {
            let buffer = pool.take(asked).expect("within the budget");
            assert_eq!(buffer.capacity(), size, "asked for {asked}");
            pool.give_back(buffer);
        }
        assert_eq!(pool.held_bytes(), 0);
    }

    #[test]
    fn refuses_beyond_the_budget_and_recovers() {
        let pool = Pool::new(SIZES[0] * 2);
        let first = pool.take(SIZES[0]).expect("first");
        let _second = pool.take(SIZES[0]).expect("second");
        assert!(pool.nearly_exhausted());
        assert_eq!(pool.take(SIZES[0]), Err(Exhausted));
        assert!(pool.take(COMMAND).is_ok(), "command buffers are never refused");
        pool.give_back(first);
        assert!(pool.take(SIZES[0]).is_ok());
    }

    #[test]
    fn what_is_charged_counts_until_it_is_released() {
        let pool = Pool::new(SIZES[0] * 2);
        pool.charge(SIZES[0] + 1).expect("within the budget");
        assert_eq!(pool.charge(SIZES[0]), Err(Exhausted));
        assert_eq!(pool.take(SIZES[0]), Err(Exhausted), "buffers and charges share the budget");
        pool.release(SIZES[0] + 1);
        assert_eq!(pool.held_bytes(), 0);
    }

    #[test]
    fn lets_go_of_what_it_keeps() {
        let pool = Pool::new(1 << 20);
        for octets in [COMMAND, SIZES[0], SIZES[2]] {
            pool.give_back(pool.take(octets).expect("within the budget"));
        }
        assert_eq!(pool.kept_bytes.get(), SIZES[0] + SIZES[2]);
        pool.let_go();
        assert_eq!((pool.kept_bytes.get(), pool.held_bytes()), (0, 0));
        assert!(pool.free.iter().chain([&pool.commands]).all(|buffers| buffers.borrow().is_empty()));
        pool.give_back(pool.take(SIZES[0]).expect("within the budget"));
        assert_eq!(pool.kept_bytes.get(), SIZES[0]);
    }

    #[test]
    fn reuses_what_came_back_empty() {
        let pool = Pool::new(1 << 20);
        let mut buffer = pool.take(SIZES[1]).expect("within the budget");
        buffer.extend_from_slice(b"mail of somebody else");
        let address = buffer.as_ptr();
        pool.give_back(buffer);
        let again = pool.take(SIZES[1]).expect("within the budget");
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty());
    }

    /// `octets` that differ from their neighbours.
    fn octets(octets: usize) -> impl Iterator<Item = u8> {
        (0..=250).cycle().take(octets)
    }

    const COMMANDS: Wish = Wish { hint: 2048, bulk: false, command: true };
    const DATA: Wish = Wish { hint: 16 * 1024, bulk: false, command: false };

    #[test]
    fn who_waits_holds_the_smallest_buffer_that_takes_the_rest() {
        let pool = Pool::new(1 << 20);
        for (rest, held) in
            [(0, 0), (1, COMMAND), (COMMAND, COMMAND), (COMMAND + 1, SIZES[0]), (SIZES[0] + 1, SIZES[1])]
        {
            let (mut buffer, mut start) = (Vec::new(), 0);
            assert!(pool.make_room(&mut buffer, &mut start, COMMANDS));
            assert_eq!(buffer.capacity(), RECEIVE);
            buffer.extend(octets(rest + 7));
            start = 7;
            let left = buffer[start..].to_vec();
            pool.shelve(&mut buffer, &mut start);
            assert_eq!((buffer.capacity(), &buffer[start..]), (held, &left[..]), "rest {rest}");
            pool.give_back(buffer);
            assert_eq!(pool.held_bytes(), 0);
        }
    }

    #[test]
    fn a_receive_has_room_and_keeps_what_is_left() {
        for (rest, wish, room_min) in [
            (0, DATA, 16 * 1024),
            (100, COMMANDS, 1948),
            (70_000, Wish { hint: 140_000, ..DATA }, ROOM_FOR_SLOW),
            (70_000, Wish { hint: 140_000, bulk: true, ..DATA }, 16 * 1024),
            (79_000, Wish { hint: 158_000, ..DATA }, 16 * 1024),
            (60_000, Wish { hint: 120_000, ..DATA }, 16 * 1024),
            (250_000, Wish { hint: 250_004, bulk: true, ..DATA }, 4),
            (300, Wish { hint: 200, ..DATA }, 1),
        ] {
            for worked_off in [0, 1000] {
                let pool = Pool::new(1 << 20);
                let mut buffer = pool.take(worked_off + rest).expect("within the budget");
                buffer.extend(octets(worked_off + rest));
                let (mut start, left) = (worked_off, buffer[worked_off..].to_vec());
                assert!(pool.make_room(&mut buffer, &mut start, wish));
                assert_eq!(&buffer[start..], left, "rest {rest}");
                let room = buffer.capacity() - buffer.len();
                assert!(room >= room_min, "rest {rest}: room for {room}");
            }
        }
    }

    #[test]
    fn a_spent_budget_leaves_room_for_commands_only() {
        let pool = Pool::new(RECEIVE + SIZES[0]);
        let (mut first, mut second, mut third, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
        assert!(pool.make_room(&mut first, &mut start, Wish { bulk: true, ..DATA }));
        assert_eq!(first.capacity(), RECEIVE, "the largest is too large");
        assert!(pool.make_room(&mut second, &mut start, DATA));
        assert_eq!(second.capacity(), SIZES[0]);
        assert!(!pool.make_room(&mut third, &mut start, DATA));
        assert!(pool.make_room(&mut third, &mut start, COMMANDS));
        assert_eq!(third.capacity(), COMMAND);
        assert_eq!(pool.take_largest(RECEIVE).capacity(), COMMAND);
        second.extend(octets(SIZES[0] - 1));
        assert!(pool.make_room(&mut second, &mut start, DATA), "there is room for one more");
        second.push(0);
        assert!(!pool.make_room(&mut second, &mut start, DATA));
    }
}
