//! Receive buffers in a few sizes, recycled per core, counted against the core's memory budget.
//!
//! An idle session holds one [`COMMAND`] buffer. While mail data flows it holds a larger one, which goes back to the
//! pool with the end of the transaction. What sessions hold in larger buffers and in envelopes is the core's `pending_bytes`; the pool
//! refuses to hand out more than the budget. Buffers that lie in the pool are kept for reuse up to [`KEPT_BYTES_MAX`].

use std::cell::{Cell, RefCell};

/// Octets of the buffer that every session has: the commands of a transaction fit. Every idle session pays for it.
pub(crate) const COMMAND: usize = 512;

/// The larger sizes. The first takes the largest record of TLS (18 KiB), the last one piece of mail data (252 KiB) and what was read behind it.
pub(crate) const SIZES: [usize; 3] = [20 * 1024, 80 * 1024, 272 * 1024];

/// Octets of unused larger buffers that a core keeps.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// The budget of the core's mail data in memory is spent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The buffers of one core.
#[derive(Debug)]
pub(crate) struct Pool {
    commands: RefCell<Vec<Vec<u8>>>,
    free: [RefCell<Vec<Vec<u8>>>; SIZES.len()],
    kept_bytes: Cell<usize>,
    held_bytes: Cell<usize>,
    held_bytes_max: usize,
}

impl Pool {
    /// A pool that lets sessions hold at most `held_bytes_max` octets in larger buffers.
    pub(crate) fn new(held_bytes_max: usize) -> Self {
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
    pub(crate) fn take(&self, octets: usize) -> Result<Vec<u8>, Exhausted> {
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

    /// Takes a buffer back; its content is dropped.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
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
}
