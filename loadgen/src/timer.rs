//! A sleep finer than the runtime's wheel of 1 ms: a kernel timer read through the ring.
//!
//! In the open loop a message that starts half a millisecond after its planned time would show a latency that is the generator's, not
//! the server's. With epoll the runtime's own timer serves; its millisecond then shows in the figures.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A precise sleep for one task.
#[derive(Debug)]
pub struct Timer {
    /// None: the runtime's own timer.
    kernel: Option<Kernel>,
}

#[derive(Debug)]
struct Kernel {
    /// Armed through this one, read through `file`: both name the same timer.
    handle: OwnedFd,
    file: monoio::fs::File,
    /// For the count of expiries that a read gives; taken while it is under way.
    expiries: RefCell<Vec<u8>>,
}

impl Timer {
    /// `fine`: the runtime can read a timer descriptor without blocking, which the ring can.
    #[must_use]
    pub fn new(fine: bool) -> Self {
        Self { kernel: if fine { Kernel::new() } else { None } }
    }

    /// Sleeps at least so long.
    pub async fn sleep(&self, time: Duration) {
        if let Some(kernel) = &self.kernel
            && kernel.sleep(time).await
        {
            return;
        }
        monoio::time::sleep(time).await;
    }
}

impl Kernel {
    fn new() -> Option<Self> {
        let handle = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).ok()?;
        let file = monoio::fs::File::from_std(std::fs::File::from(handle.try_clone().ok()?)).ok()?;
        Some(Self { handle, file, expiries: RefCell::new(Vec::with_capacity(8)) })
    }

    /// False: the timer cannot be used.
    async fn sleep(&self, time: Duration) -> bool {
        // Zero would disarm the timer.
        let time = time.max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let flags = TimerfdTimerFlags::empty();
        if timerfd_settime(self.handle.as_fd(), flags, &Itimerspec { it_interval, it_value }).is_err() {
            return false;
        }
        let (result, mut expiries) = self.file.read_at(self.expiries.take(), 0).await;
        expiries.clear();
        self.expiries.replace(expiries);
        result.is_ok()
    }
}
