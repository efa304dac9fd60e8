//! Reading ahead of a walk through a file: threads keep reads under way while checksums are computed.
//!
//! ```text
//! next: 0 1 2 3 …    read n is done by thread n mod 2, and each thread answers in order, so reads are taken in the order of the file
//! ```
//! Bounds: [`READS`] reads of [`READ_OCTETS`] under way or waiting. A storage whose files cannot be read by other threads, such as the simulated disk,
//! is not read ahead of.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::buffer::AlignedBuffer;
use crate::layout::{BLOCK_OCTETS, RECORD_OCTETS_MAX, to_usize};
use crate::storage::disk::DiskFile;
use crate::storage::read_full;

/// Octets of one read; larger ones are no faster.
pub(crate) const READ_OCTETS: usize = 1024 * 1024;
/// Room in front of what was read, for the part of a record that the read before it brought.
pub(crate) const HEADROOM_OCTETS: usize = RECORD_OCTETS_MAX + BLOCK_OCTETS;
/// Threads, and reads that the disk works on at the same time: it is never idle between two of them.
const THREADS: usize = 2;
/// Reads under way or waiting to be taken.
const READS: usize = 2 * THREADS;

/// A buffer with its headroom.
pub(crate) fn new_buffer() -> AlignedBuffer {
    AlignedBuffer::new(HEADROOM_OCTETS + READ_OCTETS)
}

/// A read to be done, and then done: octets go behind the headroom.
struct Read {
    file: Arc<DiskFile>,
    offset: u64,
    room: usize,
    buffer: AlignedBuffer,
    filled: io::Result<usize>,
}

impl Read {
    fn run(&mut self) {
        let part = &mut self.buffer[HEADROOM_OCTETS..HEADROOM_OCTETS + self.room];
        self.filled = read_full(&*self.file, part, self.offset);
    }
}

#[derive(Debug)]
struct Worker {
    /// `None` only while it is being dropped.
    asked: Option<Sender<Read>>,
    answered: Receiver<Read>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (asked, to_do) = channel::<Read>();
        let (done, answered) = channel();
        let work = move || {
            while let Ok(mut read) = to_do.recv() {
                read.run();
                if done.send(read).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("inrush-read".to_owned()).spawn(work)?;
        Ok(Self { asked: Some(asked), answered, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            // It only reads: a panic in there was printed and concerns nobody any more.
            let _ = thread.join();
        }
    }
}

/// Reads of one file in order, some of them ahead.
#[derive(Debug)]
pub(crate) struct Ahead {
    workers: Vec<Worker>,
    free: Vec<AlignedBuffer>,
    file: Option<Arc<DiskFile>>,
    /// Which threads have the reads that are not yet taken, in the order of the file.
    under_way: VecDeque<usize>,
    /// Thread of the next read.
    turn: usize,
    /// Offset of the next read.
    next: u64,
    /// No read goes beyond this offset.
    end: u64,
}

impl Ahead {
    /// Threads without work.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn new() -> io::Result<Self> {
        let workers = (0..THREADS).map(|_| Worker::start()).collect::<io::Result<_>>()?;
        let free = Vec::with_capacity(READS + 1);
        Ok(Self { workers, free, file: None, under_way: VecDeque::new(), turn: 0, next: 0, end: 0 })
    }

    /// Whether reads of a file are under way or would be.
    pub(crate) fn running(&self) -> bool {
        self.file.is_some()
    }

    /// Begins to read `file` from `offset`, a multiple of 4 KiB, to `end`.
    pub(crate) fn start(&mut self, file: DiskFile, offset: u64, end: u64) {
        self.stop();
        self.file = Some(Arc::new(file));
        (self.next, self.end) = (offset, end);
        self.ask();
    }

    /// Forgets what is under way.
    pub(crate) fn stop(&mut self) {
        self.file = None;
        while let Some(worker) = self.under_way.pop_front() {
            if let Ok(read) = self.workers[worker].answered.recv() {
                self.free.push(read.buffer);
            }
        }
    }

    /// Takes the next read: a buffer from [`new_buffer`] with so many octets behind its headroom; `None` at the end.
    ///
    /// # Errors
    /// Those of the disk; reading ahead is over then.
    pub(crate) fn take(&mut self) -> io::Result<Option<(AlignedBuffer, usize)>> {
        let Some(worker) = self.under_way.pop_front() else {
            self.file = None;
            return Ok(None);
        };
        let gone = |_| io::Error::other("a reading thread has ended");
        let read = self.workers[worker].answered.recv().map_err(gone)?;
        match read.filled {
            Ok(octets) => {
                if octets < read.room {
                    // The end of the file; what was asked for behind it brings nothing.
                    self.end = 0;
                }
                self.ask();
                Ok(Some((read.buffer, octets)))
            }
            Err(error) => {
                self.free.push(read.buffer);
                self.stop();
                Err(error)
            }
        }
    }

    /// Takes back a buffer that is done with.
    pub(crate) fn give_back(&mut self, buffer: AlignedBuffer) {
        if buffer.len() == HEADROOM_OCTETS + READ_OCTETS && self.free.len() <= READS {
            self.free.push(buffer);
        }
    }

    /// Asks for as many reads as may be under way.
    fn ask(&mut self) {
        let Some(file) = &self.file else { return };
        while self.under_way.len() < READS && self.next < self.end {
            let left = (self.end - self.next).min(READ_OCTETS as u64);
            let room = to_usize(left).next_multiple_of(BLOCK_OCTETS);
            let buffer = self.free.pop().unwrap_or_else(new_buffer);
            let read = Read { file: Arc::clone(file), offset: self.next, room, buffer, filled: Ok(0) };
            let asked = self.workers[self.turn].asked.as_ref().is_some_and(|asked| asked.send(read).is_ok());
            if !asked {
                // The thread is gone; the walk goes on without it when it has taken what is under way.
                self.end = 0;
                return;
            }
            self.under_way.push_back(self.turn);
            self.turn = (self.turn + 1) % THREADS;
            self.next += room as u64;
        }
    }
}
