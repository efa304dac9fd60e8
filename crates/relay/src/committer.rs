//! The thread that writes the logs of the relay and saves its cursors: both wait for the disk.

use std::io;
use std::thread;

use crossbeam::channel::{Receiver, Sender, unbounded};
use inrush_log::{DiskFile, Write};
use inrush_queue::{Keeper, Positions};
use tokio::sync::mpsc;

/// Which log a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    Outcome,
    Internal,
    Retry,
}

enum Job {
    Write(Log, Write<DiskFile>),
    Save(Positions, u64),
}

/// A finished write.
pub(crate) struct Written {
    pub(crate) log: Log,
    pub(crate) write: Write<DiskFile>,
    pub(crate) result: io::Result<usize>,
}

/// The way to the thread. It ends when this is dropped, after what it was given.
pub(crate) struct Committer {
    jobs: Option<Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread; finished writes come through the channel.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn start(keeper: Keeper) -> io::Result<(Self, mpsc::UnboundedReceiver<Written>)> {
        let (jobs, queue) = unbounded();
        let (finished, written) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("inrush-outcome".to_owned())
            .spawn(move || commit(&queue, &finished, keeper))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, written))
    }

    /// Has a write run.
    pub(crate) fn write(&self, log: Log, write: Write<DiskFile>) {
        self.send(Job::Write(log, write));
    }

    /// Has cursors saved.
    pub(crate) fn save(&self, positions: Positions, now_us: u64) {
        self.send(Job::Save(positions, now_us));
    }

    fn send(&self, job: Job) {
        // The thread lives as long as this.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic has ended the process before.
            let _ = thread.join();
        }
    }
}

fn commit(queue: &Receiver<Job>, finished: &mpsc::UnboundedSender<Written>, mut keeper: Keeper) {
    for job in queue {
        match job {
            Job::Write(log, write) => {
                let result = write.run();
                if finished.send(Written { log, write, result }).is_err() {
                    return;
                }
            }
            Job::Save(positions, now_us) => {
                if let Err(error) = keeper.save(&positions, now_us) {
                    tracing::error!(%error, "the position in a log was not saved: its segments stay");
                }
            }
        }
    }
}
