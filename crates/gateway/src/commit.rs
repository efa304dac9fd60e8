//! Runs the writes of a core's log: on the core's own ring, or in a committer thread where there is no ring, or where the file system makes the
//! submission to a ring wait ([`file_system`](crate::file_system)).
//!
//! One task per core, never raced and never timed out, since dropping a write would cancel it. With io_uring one request
//! is one durable commit: the segment is open with O_DIRECT and O_DSYNC. With epoll a write would block the core, so a
//! thread runs it; jobs and results pass through channels, and an octet on a socket pair wakes the core.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use inrush_log::{DiskFile, Poisoned};
use monoio::fs::File;
use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use crate::core::Core;
use crate::engine::ActiveEngine;
use crate::journal::{LogSync, LogWrite};
use crate::ring_buffer::RingBuffer;
use crate::system;

/// Segments whose files are kept open for the ring: the one in use and the one before, whose seal is under way.
const FILES: usize = 2;

/// How long the log rests when the process has no file descriptor left.
const DESCRIPTOR_REST: Duration = Duration::from_millis(20);

/// Writes and syncs that may wait for the committer thread: the journal has one of each under way at most.
const JOBS: usize = 2;

/// Runs writes until the log fails; the error is the end of the process.
pub(crate) async fn run_writes(core: &Core, mut disk: Disk) -> Poisoned {
    loop {
        let write = match core.journal.next_write(core.clock.now()) {
            Some(write) => write,
            None => {
                core.journal.work().await;
                continue;
            }
        };
        let started = core.clock.now();
        let (write, result) = disk.write(write).await;
        let now = core.clock.now();
        if let Err(poisoned) = core.journal.write_done(write, result, started, now, core.clock.wall(now)) {
            return poisoned;
        }
        core.lines.committed(core.journal.committed(), started, now, core.clock.wall(now));
    }
}

/// Runs the syncs of relaxed durability until one fails; the error is the end of the process.
pub(crate) async fn run_syncs(core: &Core, mut disk: Disk) -> Poisoned {
    loop {
        monoio::time::sleep(core.sync_interval).await;
        if let Some(sync) = core.journal.next_sync(core.clock.now()) {
            let (sync, result) = disk.sync(sync).await;
            if let Err(poisoned) = core.journal.sync_done(&sync, result, core.clock.now()) {
                return poisoned;
            }
        }
    }
}

/// Who talks to the disk.
pub(crate) enum Disk {
    Ring(Ring),
    Thread(Committer),
}

impl Disk {
    /// The way to the disk that suits the engine and the file system; called on the core's thread.
    ///
    /// # Errors
    /// The committer thread or its socket pair could not be made.
    pub(crate) fn new(engine: ActiveEngine, core: usize, start_may_wait: bool) -> io::Result<Self> {
        Ok(match engine {
            ActiveEngine::IoUring if !start_may_wait => Self::Ring(Ring::default()),
            _ => Self::Thread(Committer::start(engine, core)?),
        })
    }

    async fn write(&mut self, write: LogWrite) -> (LogWrite, io::Result<usize>) {
        match self {
            Self::Ring(ring) => ring.write(write).await,
            Self::Thread(committer) => match committer.run(Job::Write(write)).await {
                (Job::Write(write), result) => (write, result),
                (Job::Sync(_), _) => unreachable!("a job comes back as what it was"),
            },
        }
    }

    async fn sync(&mut self, sync: LogSync) -> (LogSync, io::Result<()>) {
        match self {
            Self::Ring(ring) => {
                let result = match ring.file_in_time(sync.segment(), sync.file()).await {
                    Ok(file) => file.sync_data().await,
                    Err(error) => Err(error),
                };
                (sync, result)
            }
            Self::Thread(committer) => match committer.run(Job::Sync(sync)).await {
                (Job::Sync(sync), result) => (sync, result.map(|_| ())),
                (Job::Write(_), _) => unreachable!("a job comes back as what it was"),
            },
        }
    }
}

/// Writes through the core's ring.
#[derive(Default)]
pub(crate) struct Ring {
    files: Vec<(u64, File)>,
}

impl Ring {
    async fn write(&mut self, write: LogWrite) -> (LogWrite, io::Result<usize>) {
        let file = match self.file_in_time(write.segment(), write.file()).await {
            Ok(file) => file,
            Err(error) => return (write, Err(error)),
        };
        let offset = write.offset();
        let (result, RingBuffer(write)) = file.write_at(RingBuffer(write), offset).await;
        let complete = result.as_ref().is_ok_and(|&octets| octets == write.bytes().len());
        if complete
            && write.sync_after()
            && let Err(error) = file.sync_data().await
        {
            return (write, Err(error));
        }
        (write, result)
    }

    /// The segment's file, as soon as there is a descriptor for it.
    async fn file_in_time(&mut self, segment: u64, file: &Arc<DiskFile>) -> io::Result<&File> {
        loop {
            match self.file(segment, file) {
                Ok(index) => return Ok(&self.files[index].1),
                // The disk is well: sessions hold all descriptors, and some will end.
                Err(error) if system::is_out_of_descriptors(&error) => {
                    tracing::warn!(%error, "the log waits for a file descriptor");
                    monoio::time::sleep(DESCRIPTOR_REST).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Index of the segment's file as the runtime knows files: a duplicate of the descriptor, made once a segment.
    fn file(&mut self, segment: u64, file: &Arc<DiskFile>) -> io::Result<usize> {
        if let Some(index) = self.files.iter().position(|(number, _)| *number == segment) {
            return Ok(index);
        }
        let duplicate = file.as_fd().try_clone_to_owned()?;
        if self.files.len() == FILES {
            self.files.remove(0);
        }
        self.files.push((segment, File::from_std(duplicate.into())?));
        Ok(self.files.len() - 1)
    }
}

/// What the committer thread does.
enum Job {
    Write(LogWrite),
    Sync(LogSync),
}

/// A thread that writes for a core. Ends when its core drops it.
pub(crate) struct Committer {
    jobs: Sender<Job>,
    results: Receiver<(Job, io::Result<usize>)>,
    wake: UnixStream,
    /// The octet that was read last; nobody looks at it.
    octet: Vec<u8>,
}

impl Committer {
    fn start(engine: ActiveEngine, core: usize) -> io::Result<Self> {
        let (jobs, queue) = bounded::<Job>(JOBS);
        let (finished, results) = bounded(JOBS);
        let (ours, theirs) = StdUnixStream::pair()?;
        // The epoll driver waits for readiness before it reads; the ring would take a non-blocking socket at its word.
        ours.set_nonblocking(engine == ActiveEngine::Epoll)?;
        let wake = UnixStream::from_std(ours)?;
        thread::Builder::new()
            .name(format!("inrush-commit-{core}"))
            .spawn(move || commit(&queue, &finished, theirs))?;
        Ok(Self { jobs, results, wake, octet: Vec::with_capacity(1) })
    }

    /// Hands a job over and waits for it. The thread lives as long as its core, so the channels are never closed here.
    async fn run(&mut self, job: Job) -> (Job, io::Result<usize>) {
        if let Err(returned) = self.jobs.send(job) {
            return (returned.into_inner(), Err(io::ErrorKind::BrokenPipe.into()));
        }
        loop {
            if let Ok(done) = self.results.try_recv() {
                return done;
            }
            let mut octet = std::mem::take(&mut self.octet);
            octet.clear();
            let (result, octet) = self.wake.read(octet).await;
            self.octet = octet;
            if !matches!(result, Ok(1..)) {
                // The thread is gone or about to answer: without a wake-up its answer is waited for in place.
                match self.results.recv() {
                    Ok(done) => return done,
                    Err(_) => std::process::abort(),
                }
            }
        }
    }
}

fn commit(queue: &Receiver<Job>, finished: &Sender<(Job, io::Result<usize>)>, mut wake: StdUnixStream) {
    for job in queue {
        let result = match &job {
            Job::Write(write) => write.run(),
            Job::Sync(sync) => sync.run().map(|()| 0),
        };
        if finished.send((job, result)).is_err() || wake.write_all(&[0]).is_err() {
            return;
        }
    }
}
