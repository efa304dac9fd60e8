//! Giving the place to a new process, and taking it from the one before.
//!
//! ```text
//! old: begin_upgrade ─▶ go_on_with_upgrade ─▶ leave ─▶ sessions end ─▶ exit
//! new:      start ─▶ ready        └─▶ take_connections                 └─▶ take_over: its logs, the queue
//! ```
//! Until `leave` whatever goes wrong ends the new process, and the old one goes on.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::handover::{Gift, Predecessor, Successor};
use super::serving::{Serving, say_recovered};
use super::{Event, Stop, notify};

/// How long cores may take to begin to take connections, until the process before stops to do so.
const CORES_AWAITED: Duration = Duration::from_secs(1);

/// How often it is looked again for connections, a second apart, when a process that took some has ended.
const LOOKS_AFTER_THE_END: u32 = 2;

impl Serving {
    /// Starts the process that is to take the place of this one.
    pub(super) fn begin_upgrade(&mut self) {
        if self.successor.is_some() || self.predecessor.is_some() {
            tracing::warn!("an upgrade is under way: another one can begin when that is done");
            return;
        }
        if self.stop_at.is_some() {
            tracing::warn!("no upgrade: the gateway is stopping");
            return;
        }
        tracing::info!(program = %self.program.display(), "upgrade: starting the new process");
        if let Err(error) = self.start_successor() {
            self.give_upgrade_up(&error);
        }
    }

    fn start_successor(&mut self) -> anyhow::Result<()> {
        let beside = self.gateway.make_room().context("giving up logs")?;
        let admin = self.admin.as_ref().context("no admin server")?.listener();
        let sockets = self.gateway.sockets();
        let gift = Gift { beside, admin, sockets, shared: self.sockets_shared };
        let successor = Successor::start(&self.program, &gift)?;
        let mut listening = successor.listen()?;
        self.successor = Some(successor);
        let events = self.events.clone();
        thread::Builder::new().name("inrush-upgrade".to_owned()).spawn(move || {
            let ready = listening.ready();
            let failed = ready.is_err();
            // Nobody listens any more when the end has been reached.
            let _ = events.send(Event::Ready(ready));
            if failed {
                return;
            }
            let _ = events.send(Event::Taking(listening.taking()));
            if listening.asks_to_stop() {
                let _ = events.send(Event::Stop(Stop::of("the new process")));
            }
        })?;
        Ok(())
    }

    /// Lets the new process take connections, if it can.
    pub(super) fn go_on_with_upgrade(&mut self, ready: anyhow::Result<()>) {
        let told = ready.and_then(|()| {
            let successor = self.successor.as_mut().context("no new process")?;
            Ok(successor.tell_to_take()?)
        });
        if let Err(error) = told {
            self.give_upgrade_up(&error);
        }
    }

    /// Leaves new connections to the new process.
    pub(super) fn leave(&mut self, taking: anyhow::Result<()>) {
        if let Err(error) = taking {
            return self.give_upgrade_up(&error);
        }
        let Some(successor) = &self.successor else { return };
        let pid = successor.pid();
        notify::main_process_is(pid);
        tracing::info!(pid, "upgrade: the new process takes connections, this one finishes its sessions");
        self.admin = None;
        self.gateway.leave();
        self.leaving_until = Some(Instant::now() + self.upgrade_deadline);
    }

    /// Tells the new process when no core takes connections any more.
    pub(super) fn one_core_left(&mut self) {
        self.cores_left += 1;
        if self.cores_left == self.gateway.cores()
            && let Some(successor) = &mut self.successor
        {
            successor.tell_left();
        }
    }

    fn give_upgrade_up(&mut self, error: &anyhow::Error) {
        tracing::error!("upgrade: {error:#}; this process goes on");
        self.end_successor();
        self.look_again();
        if let Err(error) = self.gateway.take_over() {
            tracing::error!("logs that were given up could not be taken back: {error}; a restart does it");
        }
    }

    /// Ends a new process that does not take connections yet.
    pub(super) fn end_successor(&mut self) {
        if self.leaving_until.is_none()
            && let Some(successor) = self.successor.take()
        {
            successor.end();
        }
    }

    /// Takes the place of the process before, as far as connections go.
    ///
    /// # Errors
    /// It does not let go, or something of this process cannot be started: the process before goes on then.
    pub(super) fn replace(&mut self, mut predecessor: Predecessor) -> anyhow::Result<()> {
        predecessor.ready()?;
        // Later its end would close the sockets of the process before as well.
        ensure!(self.gateway.beats().all(|beat| beat.is_some()), "a core has ended");
        self.start_admin()?;
        self.gateway.take_connections();
        self.wait_for_cores();
        predecessor.taking();
        tracing::info!("upgrade: connections are taken; the process before finishes its sessions");
        self.predecessor = Some(predecessor.handle()?);
        let events = self.events.clone();
        thread::Builder::new().name("inrush-before".to_owned()).spawn(move || {
            // Nobody listens any more when the end has been reached.
            predecessor.wait_until_gone(|| drop(events.send(Event::PredecessorLeft)));
            let _ = events.send(Event::PredecessorGone);
        })?;
        Ok(())
    }

    /// Waits until every core takes connections, so that there is no moment in which nobody does. Not for long: they are not lost, and wait in the kernel.
    fn wait_for_cores(&self) {
        let deadline = Instant::now() + CORES_AWAITED;
        let accepting = self.gateway.accepting();
        while !accepting.iter().all(|core| core.load(Ordering::Acquire)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Looks for connections that nobody was woken for, now and a little later: the kernel may clear away after a process when that has ended.
    pub(super) fn look_again(&mut self) {
        self.gateway.look_again();
        self.looks_left = LOOKS_AFTER_THE_END;
    }

    /// Takes over the logs of the process that was there before, and begins to deliver.
    pub(super) fn take_over(&mut self) -> anyhow::Result<()> {
        self.predecessor = None;
        // It may have ended without a word.
        self.look_again();
        let known = self.gateway.recovered().len();
        self.gateway.take_over()?;
        say_recovered(&self.gateway, known);
        self.start_relay()?;
        tracing::info!("upgrade: done, the process before has ended");
        Ok(())
    }
}
