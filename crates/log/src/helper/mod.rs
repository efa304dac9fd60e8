//! Helper thread of a data directory: keeps segments ready, retires those that nobody needs, watches the disk.
//!
//! One thread serves all logs. It takes spares of logs that are not written any more, and fills others at a bounded rate, the slower the less is missing:
//! commits flush the disk, and would wait for what was filled in between. A log that is about to need one gets what there is by then. Once a second it looks at free space and inodes and at the cursors of the
//! consumers, and tries again what has failed. It never digs into [`LogSettings::free_bytes_min`].

mod housekeeping;
mod work;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crate::maker::SegmentMaker;
use crate::retention::SealedSegment;
use crate::settings::LogSettings;
use crate::status::StatusHandle;
use crate::storage::Storage;
use crate::supply::Supply;
use work::{Served, Work};

/// How often the helper looks at the disk and the consumers, and tries again after an error.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the helper shares with the data directory.
struct Shared<S: Storage> {
    stop: AtomicBool,
    incoming: Mutex<Vec<Served<S>>>,
    /// Nothing is filled but for a log that is about to need it.
    held: AtomicBool,
    /// Who waits until spares were put aside.
    lend: Mutex<Option<Sender<()>>>,
    /// Where the names of the logs go that are to be given up.
    give_up: Mutex<Option<Sender<Vec<String>>>>,
    status: StatusHandle,
}

/// The helper. Its thread stops in order when it is dropped.
pub(crate) struct Helper<S: Storage> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
    /// The work itself, when there is no thread for it.
    inline: Option<Work<S>>,
}

impl<S: Storage> Helper<S> {
    /// A helper with a thread of its own.
    pub(crate) fn start(storage: S, settings: &LogSettings) -> io::Result<Self> {
        let work = Work::new(storage, settings.clone(), LOOK_INTERVAL);
        let shared = work.shared();
        let thread =
            std::thread::Builder::new().name("inrush-spares".to_owned()).spawn(move || work.run())?;
        Ok(Self { shared, thread: Some(thread), inline: None })
    }

    /// A helper that works when it is told to: nothing happens by chance or by the clock.
    pub(crate) fn inline(storage: S, settings: &LogSettings) -> Self {
        let settings = LogSettings { spare_fill_bytes_per_second: u64::MAX, ..settings.clone() };
        let work = Work::new(storage, settings, Duration::ZERO);
        Self { shared: work.shared(), thread: None, inline: Some(work) }
    }

    /// Does what there is to do, without a thread.
    pub(crate) fn work(&mut self) {
        if let Some(work) = &mut self.inline {
            while work.round() {}
        }
    }

    /// Looks after a log from now on. Without `supply` it takes no mail: it is only drained.
    pub(crate) fn serve(
        &self,
        maker: SegmentMaker<S>,
        sealed: Vec<SealedSegment>,
        supply: Option<Arc<Supply<S::File>>>,
    ) {
        let served = Served::new(maker, sealed, supply);
        self.shared.incoming.lock().unwrap_or_else(PoisonError::into_inner).push(served);
        if let Some(thread) = self.thread() {
            thread.unpark();
        }
    }

    /// Lets go of the logs that are only drained; their names.
    pub(crate) fn give_up_adopted(&mut self) -> Vec<String> {
        // A helper that has ended serves nothing.
        self.ask(|shared| &shared.give_up).unwrap_or_default()
    }

    /// Puts spares aside for another process.
    pub(crate) fn lend(&mut self) {
        self.ask(|shared| &shared.lend);
    }

    /// Has nothing filled but for a log that is about to need it; when that is over, what was lent comes back.
    pub(crate) fn hold(&self, hold: bool) {
        self.shared.held.store(hold, Ordering::Release);
        if let Some(thread) = self.thread() {
            thread.unpark();
        }
    }

    /// Asks the thread, and waits for its answer.
    fn ask<T>(&mut self, place: impl Fn(&Shared<S>) -> &Mutex<Option<Sender<T>>>) -> Option<T> {
        let (tell, told) = mpsc::channel();
        *place(&self.shared).lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
        self.work();
        if let Some(thread) = self.thread() {
            thread.unpark();
        }
        told.recv().ok()
    }

    pub(crate) fn thread(&self) -> Option<Thread> {
        self.thread.as_ref().map(|handle| handle.thread().clone())
    }

    pub(crate) fn status(&self) -> StatusHandle {
        self.shared.status.clone()
    }
}

impl<S: Storage> Drop for Helper<S> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in there has been printed; there is nothing left to stop.
            let _ = thread.join();
        }
        if let Some(work) = &mut self.inline {
            work.take_back();
        }
    }
}
