//! One world: a disk, a log on it, and rounds of use that end well or badly.

use inrush_log::sim::{Fault, Manner, Random, SimFile, SimStorage};
use inrush_log::{
    Appender, Cursor, Damage, DamageKind, DataDirectory, Durability, FreshReceiver, LogSettings, Lsn,
    OpenError, RecoveryReport, Write,
};

use crate::actions::{act, close, consume};
use crate::common;
use crate::judge::Judge;
use crate::ledger::{Ledger, Promise};

const NODE: u16 = 3;

/// Where the last record has ended, and what it took beside its body.
#[derive(Clone, Copy)]
pub(crate) struct Last {
    pub(crate) gate: Lsn,
    pub(crate) overhead: u64,
}

/// How the disk of a world breaks its promises, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Octets change by themselves.
    Rot,
    /// A sync or durable write is forgotten at the power cut.
    Forget,
    /// A write lands elsewhere.
    Misdirect,
}

/// A run is determined by its seed.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) storage: SimStorage,
    manner: Manner,
    pub(crate) settings: LogSettings,
    pub(crate) ledger: Ledger,
    pub(crate) last: Option<Last>,
    /// A write may outlive its process.
    pub(crate) leaves_write_under_way: bool,
    /// There is a required consumer.
    pub(crate) consumes: bool,
    /// A fault waits or has happened, so that calls may fail.
    pub(crate) armed: bool,
    /// A write or sync may have failed, so that what a process promised for its own life is not sure any more.
    disk_failed: bool,
    lie: Lie,
    judge: Judge,
    tells: bool,
}

/// A log in use.
pub(crate) struct Running {
    pub(crate) data: DataDirectory<SimStorage>,
    pub(crate) log: Appender<SimStorage>,
    pub(crate) fresh: Option<FreshReceiver>,
    pub(crate) cursor: Option<Cursor<SimStorage>>,
    pub(crate) now_us: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let lie = match random.below(8) {
            0 => Lie::Rot,
            1 => Lie::Forget,
            2 => Lie::Misdirect,
            _ => Lie::None,
        };
        let consumes = random.below(2) == 0;
        let manner = Manner {
            direct: random.below(3) > 0,
            sector_octets: if random.below(2) == 0 { 512 } else { 4096 },
            garbage: random.below(2) == 0,
            // Without a journal a forgotten sync could leave any gap, that nobody could notice; and of what is retired together any part may go.
            names_in_order: lie == Lie::Forget || consumes || random.below(2) == 0,
        };
        let durability = if random.below(4) == 0 { Durability::Relaxed } else { Durability::Strict };
        let mut world = Self::with(seed, manner, durability);
        world.lie = lie;
        world.consumes = consumes;
        world.settings.batch_buffers = if random.below(2) == 0 { 2 } else { 4 };
        world.leaves_write_under_way = random.below(4) == 0;
        world.random = random;
        world
    }

    /// An honest world of a certain kind.
    pub(crate) fn with(seed: u64, manner: Manner, durability: Durability) -> Self {
        let storage = SimStorage::new(seed);
        storage.set_manner(manner);
        Self {
            random: Random::new(seed),
            storage,
            manner,
            settings: LogSettings { durability, spares: 1, ..common::settings() },
            ledger: Ledger::default(),
            last: None,
            leaves_write_under_way: false,
            consumes: false,
            armed: false,
            disk_failed: false,
            lie: Lie::None,
            judge: Judge::default(),
            tells: false,
        }
    }

    /// Tells what happens on standard error, for a replay.
    pub(crate) fn tell(mut self) -> Self {
        self.tells = true;
        self.storage.tell_steps();
        eprintln!("{:?}, disk {:?}, {:?}", self.lie, self.manner, self.settings.durability);
        self
    }

    /// The whole run.
    pub(crate) fn run(mut self) {
        let rounds = 1 + self.random.below(3);
        for round in 1..=rounds {
            let lies = if round == rounds { self.lie } else { Lie::None };
            self.round(lies);
        }
        self.finish();
    }

    /// One life of the process.
    fn round(&mut self, lies: Lie) {
        let at_start = self.random.below(3) == 0;
        if at_start {
            self.arm(20, true);
        }
        if let Some(mut running) = self.open() {
            if !at_start {
                self.arm(60, false);
            }
            match lies {
                Lie::Forget => (0..3).for_each(|_| self.arm_lie(Fault::Forget)),
                Lie::Misdirect => self.arm_lie(Fault::Misdirect),
                Lie::None | Lie::Rot => {}
            }
            let actions = self.random.below(60);
            let worked = (0..actions).try_for_each(|_| act(self, &mut running));
            if worked.is_ok() && self.random.below(4) == 0 {
                // Everything that was closed may be consumed, so that no segment is left.
                let _ = close(self, &mut running).and_then(|()| consume(self, &mut running));
            }
            self.end(running);
        } else {
            self.end_process(None);
        }
        if lies == Lie::Rot {
            self.judge.rot(&self.storage, &mut self.random);
        }
    }

    /// The end without faults: everything promised is there, or its loss is known.
    pub(crate) fn finish(&mut self) {
        let running = self.open();
        assert!(running.is_some() || self.storage.has_lied(), "an honest disk without faults opens");
    }

    /// Opens the log and looks whether it holds what it promised; `None` when the disk failed on the way, or when the log is refused since the disk
    /// has lied.
    pub(crate) fn open(&mut self) -> Option<Running> {
        let lied = self.storage.has_lied();
        if lied {
            self.judge.note_harm(&self.storage);
        }
        let opened = DataDirectory::on_without_helper(self.storage.clone(), &self.settings, NODE);
        let opened = opened.and_then(|mut data| {
            let (log, report) = data.open_log(0, || {})?;
            Ok((data, log, report))
        });
        self.storage.clear_look_fault();
        let (data, log, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.expect_failure(&error);
                return None;
            }
        };
        if self.tells {
            eprintln!("opened: {report:?}");
        }
        self.check(&report);
        Some(Running { data, log, fresh: None, cursor: None, now_us: 0 })
    }

    fn check(&mut self, report: &RecoveryReport) {
        // The power may have gone after the last step that the opening needs.
        if self.storage.is_dead() {
            return;
        }
        if self.storage.has_lied() {
            self.judge.check(&self.storage, &mut self.ledger, report, self.lie);
        } else {
            // A segment that could not be looked at once is left alone, and can be read.
            let looked = |damage: &Damage| self.armed && damage.kind == DamageKind::Unreadable;
            assert!(report.damage.iter().all(looked), "{report:?}");
            let with_verification = self.random.below(4) == 0;
            self.ledger.check(&self.storage, with_verification);
        }
    }

    fn expect_failure(&self, error: &OpenError) {
        let io = matches!(error, OpenError::Io { .. } | OpenError::NoSpace { .. } | OpenError::Locked { .. });
        let meta = matches!(error, OpenError::Meta { .. } | OpenError::MetaMissing { .. });
        let refused = meta && self.storage.has_lied();
        assert!((io && self.armed) || refused, "{error}");
    }

    /// Notes a write that is about to be run.
    pub(crate) fn note_write(&mut self, write: &Write<SimFile>, durable: Lsn) {
        if self.lie != Lie::None {
            self.judge.note_write(write, durable);
        }
    }

    fn arm(&mut self, steps: u64, at_start: bool) {
        let step = self.random.below(steps);
        let fault = match self.random.below(8) {
            0..3 => Fault::Crash,
            3 => Fault::Error,
            4 => Fault::NoSpace,
            5 => Fault::Short,
            6 if at_start => return self.fail_look_at(step),
            _ => return,
        };
        self.fail_at(step, fault);
        if fault == Fault::Short {
            let more = step + 1 + self.random.below(3);
            self.fail_at(more, Fault::Short);
        }
    }

    pub(crate) fn fail_at(&mut self, step: u64, fault: Fault) {
        self.storage.fault_at(step, fault);
        self.armed = true;
        self.disk_failed |= matches!(fault, Fault::Error | Fault::NoSpace);
    }

    pub(crate) fn fail_look_at(&mut self, look: u64) {
        self.storage.fail_look_at(look);
        self.armed = true;
    }

    fn arm_lie(&mut self, lie: Fault) {
        let step = self.random.below(60);
        self.storage.fault_at(step, lie);
    }

    /// The process ends: in order, or by `kill -9`, or with the power.
    pub(crate) fn end(&mut self, running: Running) {
        if self.random.below(4) == 0 {
            // In order: segments that were not used become spares again.
            drop(running);
            self.end_process(None);
        } else {
            self.end_process(Some(running));
        }
    }

    fn end_process(&mut self, running: Option<Running>) {
        if self.random.below(2) == 0 {
            self.kill();
        } else {
            self.cut_power();
        }
        // Its handles are dead by now.
        drop(running);
    }

    /// The process ends, the machine goes on: what was written is there.
    pub(crate) fn kill(&mut self) {
        self.storage = self.storage.kill();
        // After an error of the disk only what was synced before it is promised.
        self.ledger.keep(if self.disk_failed { Promise::Power } else { Promise::Process });
        self.calm();
    }

    pub(crate) fn cut_power(&mut self) {
        self.storage = self.storage.restart();
        self.ledger.keep(Promise::Power);
        self.calm();
    }

    fn calm(&mut self) {
        self.storage.set_capacity(u64::MAX);
        self.armed = false;
        self.disk_failed = false;
    }
}
