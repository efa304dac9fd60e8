//! The kernel interface of a core: io_uring, or epoll where it is denied.
//!
//! A ring is asked for once before the cores start, with the flags and operations that they will use, so that a
//! seccomp profile or `kernel.io_uring_disabled` shows up here and not in the middle of a session.
//!
//! Ring flags: `SINGLE_ISSUER` and `DEFER_TASKRUN` keep completion work on the core's own thread and out of other
//! sessions' system calls. `SUBMIT_ALL` lets one refused entry not hold up those behind it.

use std::io;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::settings::Engine;

/// Entries of a core's submission queue; one loop turn submits at most this many operations before it enters the kernel.
const RING_ENTRIES: u32 = 4096;

/// The kernel interface that was chosen at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveEngine {
    /// Sockets and log writes go through the core's ring.
    IoUring,
    /// Sockets go through epoll, log writes through a committer thread.
    Epoll,
}

impl ActiveEngine {
    /// The label in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// io_uring was demanded and the kernel does not grant it.
#[derive(Debug, thiserror::Error)]
#[error(
    "engine = \"io_uring\", but the kernel refuses it: {0}. Set engine = \"auto\", or allow io_uring_setup in the seccomp profile and kernel.io_uring_disabled = 0"
)]
pub struct EngineRefused(io::Error);

/// Chooses the engine; says in the log why it is not io_uring.
///
/// # Errors
/// [`EngineRefused`] when io_uring was demanded and is not to be had.
pub(crate) fn choose(wanted: Engine) -> Result<ActiveEngine, EngineRefused> {
    if wanted == Engine::Epoll {
        return Ok(ActiveEngine::Epoll);
    }
    match probe() {
        Ok(()) => Ok(ActiveEngine::IoUring),
        Err(error) if wanted == Engine::IoUring => Err(EngineRefused(error)),
        Err(error) => {
            tracing::warn!(%error, "io_uring is refused: using epoll and committer threads, at a higher cost per message");
            Ok(ActiveEngine::Epoll)
        }
    }
}

fn probe() -> io::Result<()> {
    use io_uring::opcode;
    let ring: io_uring::IoUring = io_uring::IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .build(8)?;
    let mut operations = io_uring::Probe::new();
    ring.submitter().register_probe(&mut operations)?;
    let needed = [
        (opcode::Accept::CODE, "accept"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::Write::CODE, "write"),
        (opcode::Fsync::CODE, "fsync"),
        (opcode::Close::CODE, "close"),
        (opcode::AsyncCancel::CODE, "cancel"),
    ];
    for (code, name) in needed {
        if !operations.is_supported(code) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("operation {name} is not supported"),
            ));
        }
    }
    Ok(())
}

/// Runs `main` to its end on a new runtime of the calling thread.
///
/// # Errors
/// The runtime could not be set up, for instance for want of locked memory or file descriptors.
pub fn run<F: Future>(engine: ActiveEngine, main: F) -> io::Result<F::Output> {
    match engine {
        ActiveEngine::IoUring => {
            let mut ring = io_uring06::IoUring::builder();
            ring.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
            let mut runtime: Runtime<TimeDriver<IoUringDriver>> = RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(RING_ENTRIES)
                .uring_builder(ring)
                .enable_timer()
                .build()?;
            Ok(runtime.block_on(main))
        }
        ActiveEngine::Epoll => {
            let mut runtime: Runtime<TimeDriver<LegacyDriver>> =
                RuntimeBuilder::<LegacyDriver>::new().with_entries(RING_ENTRIES).enable_timer().build()?;
            Ok(runtime.block_on(main))
        }
    }
}
