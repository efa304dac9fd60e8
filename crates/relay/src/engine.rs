//! The relay's thread: takes messages in, sees to what is due, has the logs written.
//!
//! ```text
//!   fresh ─┐                       ┌─▶ destination ─▶ worker (one task a connection)
//!   log ───┼─▶ take ─▶ dispatch ───┤
//!   due ───┘                       └─▶ put off, held
//! ```
//! One loop, woken by what it waits for and at least ten times a second; workers are tasks on the same thread.

use std::rc::Rc;
use std::time::{Duration, Instant};

use inrush_log::{AgeClock, AppendError, Poisoned, Storage as _};
use inrush_queue::{Due, Place};
use tokio::sync::{mpsc, oneshot};

use crate::commands::Request;
use crate::committer::{Committer, Log, Written};
use crate::destination::{Destination, Next};
use crate::intake::{Intake, Taken};
use crate::reader::{Batch, Found};
use crate::settings::RouteKind;
use crate::shared::{Shared, now_us};
use crate::{hop, local};

/// How often the loop looks at everything, whatever happens.
const TICK: Duration = Duration::from_millis(100);
/// Outcomes are written together for so long: each write is a flush of the disk.
const COMMIT_INTERVAL: Duration = Duration::from_millis(10);
/// How often the recorder and the cursors go on.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Entries that become ready in one look.
const DUE_MAX: usize = 5000;
/// How long a destination in whose queue nothing moves may keep the memory from others.
const HOG: Duration = Duration::from_secs(1);
/// Destinations that are remembered while they have nothing to do.
const DESTINATIONS_IDLE_MAX: usize = 10_000;
/// How long dialogs may go on after the request to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// What the loop owns.
pub(crate) struct Engine {
    pub(crate) shared: Rc<Shared>,
    pub(crate) intake: Intake,
    pub(crate) batches: mpsc::UnboundedReceiver<Batch>,
    pub(crate) committer: Committer,
    pub(crate) written: mpsc::UnboundedReceiver<Written>,
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    pub(crate) stop: oneshot::Receiver<()>,
    pub(crate) writing: Writing,
    /// How old mail is.
    pub(crate) clock: AgeClock,
}

/// Which writes are under way.
#[derive(Default)]
pub(crate) struct Writing {
    outcome: bool,
    internal: bool,
    retry: bool,
    outcome_at: Option<Instant>,
    /// A checkpoint is under way.
    more: bool,
    /// Looks for which outcomes have found no room, one after the other.
    stuck_for: u32,
}

impl Engine {
    /// Runs until it is asked to stop.
    ///
    /// # Errors
    /// A log has failed: the process has to end.
    pub(crate) async fn run(mut self) -> Result<(), Poisoned> {
        self.take_unfinished();
        tokio::task::spawn_local(crate::evacuate::run(Rc::clone(&self.shared)));
        let mut kept = Instant::now();
        let mut looked = Instant::now();
        let mut stop_at = None;
        loop {
            self.intake.sleep();
            self.take_in();
            if let Some(failed) = self.shared.failed.take() {
                return Err(failed);
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                if self.shared.may_begin() {
                    self.look_for_due();
                }
                self.look_at_destinations();
            }
            self.shared.see_aside();
            self.start_workers();
            if kept.elapsed() >= KEEP_INTERVAL {
                kept = Instant::now();
                self.keep();
            } else if self.writing.more {
                self.advance();
            }
            self.write();
            if stop_at.is_some_and(|at| Instant::now() >= at) || self.is_stopped() {
                return self.finish().await;
            }
            let pause = self.pause();
            tokio::select! {
                () = self.shared.attention.notified() => {}
                Some(batch) = self.batches.recv() => self.intake.arrived(batch),
                Some(written) = self.written.recv() => self.write_done(written)?,
                Some(request) = self.requests.recv() => self.shared.answer(request),
                _ = &mut self.stop, if !self.shared.stopping.get() => {
                    self.shared.stopping.set(true);
                    stop_at = Some(Instant::now() + STOP_DEADLINE);
                    for destination in self.shared.destinations.borrow().values() {
                        destination.work.notify_waiters();
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
            // Everything that has come meanwhile, at once.
            while let Ok(batch) = self.batches.try_recv() {
                self.intake.arrived(batch);
            }
            while let Ok(written) = self.written.try_recv() {
                self.write_done(written)?;
            }
        }
    }

    /// What was under way when the process ended comes first.
    fn take_unfinished(&mut self) {
        let places = std::iter::from_fn(|| self.intake.unfinished()).collect();
        tokio::task::spawn_local(crate::unfinished::run(Rc::clone(&self.shared), places));
    }

    fn take_in(&mut self) {
        let shared = &self.shared;
        if !shared.has_room() {
            return;
        }
        self.intake.pull(|Taken { log, found }| {
            let (message, end) = match found {
                Found::Message(message, end) => (message, end),
                Found::Nothing(next) => {
                    shared.ledger.borrow_mut().skip(log, next, next);
                    return true;
                }
                Found::Unreadable(bad, lsn, next) => {
                    tracing::error!(log, %bad, "what is owed cannot be read, and is left where it is");
                    shared.ledger.borrow_mut().keep(log, lsn, next);
                    return shared.has_room();
                }
            };
            let lsn = message.header.lsn;
            match shared.recipients_of(&message) {
                None => shared.ledger.borrow_mut().keep(log, lsn, end),
                Some(total) => {
                    let owed = shared.ledger.borrow_mut().take(log, lsn, end, total);
                    if !owed.is_empty() {
                        shared.dispatch(&message, Place::arrival(message.id), &owed);
                    }
                }
            }
            shared.has_room()
        });
    }

    fn look_for_due(&mut self) {
        let wall = now_us();
        let ages = self.clock.now(wall, self.shared.reader.storage().boot_us());
        let mut due = Vec::new();
        {
            let mut ledger = self.shared.ledger.borrow_mut();
            ledger.set_clock_lead(wall.saturating_sub(ages) / 1_000_000);
            ledger.due(wall / 1_000_000, DUE_MAX, |one| due.push(one));
        }
        for one in due {
            match one {
                Due::Attempt(slot) => self.shared.make_ready(slot),
                Due::Age(slot) => self.shared.look_at_age(slot),
            }
        }
    }

    fn start_workers(&self) {
        if !self.shared.may_begin() {
            return;
        }
        self.shared.places.hand_out(|destination| {
            tokio::task::spawn_local(work(Rc::clone(&self.shared), Rc::clone(destination)));
        });
    }

    /// Who may want a connection because time has passed, who should give one back, who is forgotten.
    fn look_at_destinations(&self) {
        let shared = &self.shared;
        let destinations = shared.destinations.borrow();
        for destination in destinations.values().filter(|one| one.wants_worker()) {
            shared.places.queue(destination);
        }
        if shared.places.are_short() {
            destinations.values().for_each(|destination| destination.nudge_idle());
        }
        let crowded = destinations.len() > DESTINATIONS_IDLE_MAX;
        drop(destinations);
        if crowded {
            shared.destinations.borrow_mut().retain(|_, destination| !destination.is_idle());
        }
        if !shared.memory.has_room() {
            self.give_way_to_others();
        }
    }

    /// While the memory is full, what has been waiting for long makes room for others: it goes back to the disk.
    fn give_way_to_others(&self) {
        let destinations = self.shared.destinations.borrow();
        let hogs = destinations.values().filter(|one| one.oldest().is_some_and(|age| age > HOG));
        let Some(largest) = hogs.max_by_key(|one| one.queued()).cloned() else { return };
        drop(destinations);
        for job in largest.take_surplus(largest.queued() / 2) {
            let why = crate::failure::Verdict::later((4, 4, 5), "the destination is slow");
            self.shared.put_off(&job, &largest.name, &why);
        }
    }

    fn keep(&mut self) {
        let now = now_us();
        {
            let mut delivery = self.shared.delivery.borrow_mut();
            (delivery.waiting, delivery.logs_behind) = self.intake.waiting();
        }
        self.shared.show();
        let mut recorder = self.shared.recorder.borrow_mut();
        self.writing.more = recorder.tick(&self.shared.ledger.borrow(), now, Some(self.shared.retry_floor()));
        if let Some(positions) = recorder.positions() {
            self.committer.save(positions, now);
        }
        let stuck = recorder.stuck();
        drop(recorder);
        self.tell_whether_stuck(stuck);
        // As the recorder does: mail that rots in them is not taken for a torn write.
        for log in [&self.shared.internal, &self.shared.retry] {
            let mut log = log.borrow_mut();
            if log.is_idle() {
                let _ = log.append_mark(now);
            }
        }
    }

    /// Says once that outcomes find no room, and once that they do again: nothing is tried meanwhile, since it would be tried again by the next life.
    fn tell_whether_stuck(&mut self, stuck: Option<AppendError>) {
        // For a moment all buffers may be on their way to the disk.
        let before = self.writing.stuck_for;
        self.writing.stuck_for = if stuck.is_some() { before.saturating_add(1) } else { 0 };
        match stuck {
            Some(error) if before == 1 => {
                tracing::error!(%error, "outcomes cannot be written down: nothing is delivered until they can");
            }
            None if before > 1 => tracing::info!("outcomes are written down again, and mail is delivered"),
            _ => {}
        }
    }

    /// Goes on with a checkpoint, as fast as the disk takes it.
    fn advance(&mut self) {
        let mut recorder = self.shared.recorder.borrow_mut();
        self.writing.more = recorder.advance(&self.shared.ledger.borrow(), now_us());
    }

    /// Has the logs written where there is something to write.
    fn write(&mut self) {
        let at = self.writing.outcome_at;
        if !self.writing.outcome && at.is_none_or(|at| at.elapsed() >= COMMIT_INTERVAL) {
            let write = self.shared.recorder.borrow_mut().next_write();
            self.shared.outcomes_wait.set(false);
            if let Some(write) = write {
                self.writing.outcome = true;
                self.writing.outcome_at = Some(Instant::now());
                self.committer.write(Log::Outcome, write);
            }
        }
        if !self.writing.internal {
            let write = self.shared.internal.borrow_mut().next_write();
            if let Some(write) = write {
                self.writing.internal = true;
                self.committer.write(Log::Internal, write);
            }
        }
        if !self.writing.retry {
            let write = self.shared.retry.borrow_mut().next_write();
            if let Some(write) = write {
                self.writing.retry = true;
                self.committer.write(Log::Retry, write);
            }
        }
    }

    fn write_done(&mut self, written: Written) -> Result<(), Poisoned> {
        let Written { log, write, result } = written;
        match log {
            Log::Outcome => {
                self.writing.outcome = false;
                self.shared.recorder.borrow_mut().write_done(write, result)
            }
            Log::Internal => {
                self.writing.internal = false;
                self.shared.internal.borrow_mut().write_done(write, result)?;
                self.shared.internal_written.notify_waiters();
                Ok(())
            }
            Log::Retry => {
                self.writing.retry = false;
                self.shared.retry.borrow_mut().write_done(write, result)?;
                self.shared.retry_written.notify_waiters();
                Ok(())
            }
        }
    }

    fn pause(&self) -> Duration {
        if self.writing.outcome || self.shared.recorder.borrow().is_durable() {
            return TICK;
        }
        let since = self.writing.outcome_at.map_or(COMMIT_INTERVAL, |at| at.elapsed());
        COMMIT_INTERVAL.saturating_sub(since).max(Duration::from_millis(1))
    }

    /// Asked to stop, and no dialog is under way.
    fn is_stopped(&self) -> bool {
        let destinations = self.shared.destinations.borrow();
        self.shared.stopping.get()
            && destinations.values().all(|destination| destination.workers.get() == 0)
            && self.shared.telling.get() == 0
    }

    /// Writes down everything that is known, and closes the logs.
    async fn finish(mut self) -> Result<(), Poisoned> {
        let floor = self.shared.retry_floor();
        self.shared.recorder.borrow_mut().tick(&self.shared.ledger.borrow(), now_us(), Some(floor));
        self.shared.recorder.borrow_mut().close();
        self.shared.internal.borrow_mut().close();
        self.shared.retry.borrow_mut().close();
        let deadline = Instant::now() + STOP_DEADLINE;
        loop {
            self.writing.outcome_at = None;
            self.write();
            let idle = self.shared.recorder.borrow().is_idle()
                && self.shared.internal.borrow().is_idle()
                && self.shared.retry.borrow().is_idle();
            if idle || Instant::now() > deadline {
                return Ok(());
            }
            if let Ok(Some(written)) = tokio::time::timeout(TICK, self.written.recv()).await {
                self.write_done(written)?;
            }
        }
    }
}

/// Delivers what waits at a destination, until nothing does or others wait for its place.
async fn work(shared: Rc<Shared>, destination: Rc<Destination>) {
    let since = Instant::now();
    while shared.may_begin() && destination.keeps_worker() && !shared.places.give_way(&destination, since) {
        let job = match destination.next() {
            Next::Job(job) => *job,
            Next::Nothing => break,
            Next::Entry(slot) => match shared.fetch(slot).await {
                Some(job) => job,
                None => continue,
            },
        };
        match &shared.routing.route(destination.target.route).kind {
            RouteKind::Smtp(hops) => hop::deliver(&shared, &destination, hops, false, job).await,
            RouteKind::Lmtp(hops) => hop::deliver(&shared, &destination, hops, true, job).await,
            RouteKind::Maildir(route) => local::deliver(&shared, &destination, route, job).await,
            RouteKind::Hold => shared.hold(&job, &destination.name),
        }
    }
    shared.places.give_back(&destination);
    if destination.has_failed() {
        shared.put_off_queue(&destination);
    }
    shared.attention.notify_one();
}
