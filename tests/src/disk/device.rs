//! What our disk does with a write or a flush: does it, at once or slowly, fails it, or never answers.
//!
//! ```text
//! write ──▶ live image ──flush──▶ durable           Fault: none | failing | silent
//!              └─ forget_unflushed: back to the last flush
//! ```
//! A write that was answered is volatile until a flush after it was answered, as on a disk with a write cache. One lock holds all of it, so
//! the record is the order in which requests took effect, and a flush covers every write before it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::image::{BLOCK, Before, Image};

/// One entry of the record.
#[derive(Clone, Debug)]
pub enum Event {
    /// These octets were written at this offset.
    Write(u64, Arc<[u8]>),
    /// Everything before became durable.
    Flush,
}

/// Which request a fault begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The next write or flush that the fault is about, after so many good ones.
    After(u64),
    /// The write that brings a block beginning with this mark, after so many good ones of them.
    AtMark(&'static [u8], u64),
}

/// What a fault is about, once it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// One request, write or flush; the disk is well again afterwards.
    Once,
    /// Every write.
    Writes,
    /// Every flush.
    Flushes,
    /// Every write and every flush.
    All,
    /// Writes and flushes are never answered, until [`Device::heal`].
    Silent,
}

/// Hears how a request ended.
pub type Answer = Box<dyn FnOnce(io::Result<()>) + Send>;

#[derive(Default)]
struct State {
    live: Image,
    /// Blocks written since the last flush, as they were then.
    unflushed: HashMap<u64, Before>,
    record: Option<Vec<Event>>,
    fault: Option<(Begin, Fails)>,
    failing: Option<Fails>,
    /// Requests without an answer, in order.
    silent: Vec<(Request, Answer)>,
    refused: u64,
    /// How long each request takes.
    delay: Duration,
}

enum Request {
    Write(u64, Arc<[u8]>),
    Flush,
}

/// A disk without a driver: clones are the same disk.
#[derive(Clone, Default)]
pub struct Device {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device")
    }
}

impl Device {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads; never fails and never waits.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        self.state().live.read(offset, buffer);
    }

    /// Writes; `answer` hears of it now or later.
    pub fn write(&self, offset: u64, octets: &[u8], answer: Answer) {
        self.request(Request::Write(offset, octets.into()), answer);
    }

    /// Makes all answered writes durable; `answer` hears of it now or later.
    pub fn flush(&self, answer: Answer) {
        self.request(Request::Flush, answer);
    }

    fn request(&self, request: Request, answer: Answer) {
        let delay = self.state().delay;
        thread::sleep(delay);
        let mut state = self.state();
        if state.failing.is_none() && state.begins(&request) {
            state.failing = state.fault.take().map(|(_, fails)| fails);
        }
        let result = match (state.failing, &request) {
            (Some(Fails::Silent), _) => {
                state.silent.push((request, answer));
                return;
            }
            (Some(Fails::Once), _) => {
                state.failing = None;
                Err(failure())
            }
            (Some(Fails::All), _)
            | (Some(Fails::Writes), Request::Write(..))
            | (Some(Fails::Flushes), Request::Flush) => Err(failure()),
            _ => {
                state.perform(request);
                Ok(())
            }
        };
        state.refused += u64::from(result.is_err());
        drop(state);
        answer(result);
    }

    /// From then on the disk fails.
    pub fn fail(&self, begin: Begin, fails: Fails) {
        self.state().fault = Some((begin, fails));
    }

    /// From now on each write and each flush takes so long, one after the other.
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Whether the fault has begun.
    pub fn has_failed(&self) -> bool {
        let state = self.state();
        state.refused > 0 || !state.silent.is_empty()
    }

    /// Requests that were refused since the disk was last healed.
    pub fn refused(&self) -> u64 {
        self.state().refused
    }

    /// Requests that wait for an answer.
    pub fn unanswered(&self) -> usize {
        self.state().silent.len()
    }

    /// The disk is well again; requests without an answer are done now, in their order.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.fault, state.failing, state.refused) = (None, None, 0);
        let silent = std::mem::take(&mut state.silent);
        let mut answers = Vec::with_capacity(silent.len());
        for (request, answer) in silent {
            state.perform(request);
            answers.push(answer);
        }
        drop(state);
        answers.into_iter().for_each(|answer| answer(Ok(())));
    }

    /// The power was cut: everything since the last flush is gone.
    pub fn forget_unflushed(&self) {
        let state = &mut *self.state();
        for (_, before) in state.unflushed.drain() {
            state.live.restore(before);
        }
    }

    /// Keeps a record from now on; what the disk holds now.
    pub fn begin_record(&self) -> Image {
        let mut state = self.state();
        state.record = Some(Vec::new());
        state.live.clone()
    }

    /// Length of the record so far.
    pub fn position(&self) -> usize {
        self.state().record.as_ref().map_or(0, Vec::len)
    }

    /// The record; nothing is recorded any more.
    pub fn end_record(&self) -> Vec<Event> {
        self.state().record.take().unwrap_or_default()
    }
}

impl State {
    /// Whether the fault that was asked for begins with this request.
    fn begins(&mut self, request: &Request) -> bool {
        let Some((begin, fails)) = &mut self.fault else { return false };
        let left = match (begin, request) {
            (Begin::AtMark(mark, left), Request::Write(_, octets)) => {
                if !octets.chunks(BLOCK).any(|block| block.starts_with(mark)) {
                    return false;
                }
                left
            }
            (Begin::AtMark(..), Request::Flush) => return false,
            (Begin::After(left), request) => {
                let other = match request {
                    Request::Write(..) => Fails::Flushes,
                    Request::Flush => Fails::Writes,
                };
                if *fails == other {
                    return false;
                }
                left
            }
        };
        let begins = *left == 0;
        *left = left.saturating_sub(1);
        begins
    }

    fn perform(&mut self, request: Request) {
        let event = match request {
            Request::Write(offset, octets) => {
                let Self { live, unflushed, .. } = self;
                live.write_keeping(offset, &octets, |before| {
                    unflushed.entry(before.0).or_insert(before);
                });
                Event::Write(offset, octets)
            }
            Request::Flush => {
                self.unflushed.clear();
                Event::Flush
            }
        };
        if let Some(record) = &mut self.record {
            record.push(event);
        }
    }
}

fn failure() -> io::Error {
    rustix::io::Errno::IO.into()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The result of a request; `None` when there is no answer.
    fn ask(request: impl FnOnce(Answer)) -> Option<bool> {
        let (sender, receiver) = mpsc::channel();
        request(Box::new(move |result| {
            let _ = sender.send(result.is_ok());
        }));
        receiver.try_recv().ok()
    }

    fn write(device: &Device, octet: u8) -> Option<bool> {
        ask(|answer| device.write(0, &[octet; BLOCK], answer))
    }

    fn flush(device: &Device) -> Option<bool> {
        ask(|answer| device.flush(answer))
    }

    fn first(device: &Device) -> u8 {
        let mut octet = [0];
        device.read(0, &mut octet);
        octet[0]
    }

    #[test]
    fn what_was_not_flushed_can_be_forgotten() {
        let device = Device::default();
        assert_eq!((write(&device, 1), flush(&device)), (Some(true), Some(true)));
        assert_eq!((write(&device, 2), write(&device, 3)), (Some(true), Some(true)));
        assert_eq!(first(&device), 3);
        device.forget_unflushed();
        assert_eq!(first(&device), 1);
    }

    #[test]
    fn a_fault_begins_where_it_was_asked_for() {
        let device = Device::default();
        device.fail(Begin::After(1), Fails::Flushes);
        assert_eq!(
            (flush(&device), write(&device, 1), flush(&device)),
            (Some(true), Some(true), Some(false))
        );
        assert_eq!((write(&device, 2), flush(&device)), (Some(true), Some(false)));
        device.forget_unflushed();
        assert_eq!(first(&device), 0, "a flush that failed makes nothing durable");
        device.heal();
        assert_eq!(flush(&device), Some(true));

        device.fail(Begin::After(1), Fails::Once);
        assert_eq!(
            (write(&device, 4), flush(&device), flush(&device)),
            (Some(true), Some(false), Some(true))
        );
        device.fail(Begin::AtMark(&[7, 7], 1), Fails::Writes);
        assert_eq!((write(&device, 7), write(&device, 8)), (Some(true), Some(true)));
        assert_eq!(
            (write(&device, 7), write(&device, 8), flush(&device)),
            (Some(false), Some(false), Some(true))
        );
        assert_eq!((first(&device), device.refused()), (8, 3));
    }

    #[test]
    fn a_silent_disk_answers_when_it_is_healed() {
        let device = Device::default();
        device.begin_record();
        device.fail(Begin::After(0), Fails::Silent);
        let (sender, receiver) = mpsc::channel();
        for octet in 1..=3 {
            let sender = sender.clone();
            let answer =
                Box::new(move |result: io::Result<()>| sender.send((octet, result.is_ok())).unwrap());
            device.write(0, &[octet; BLOCK], answer);
        }
        assert_eq!((flush(&device), device.unanswered(), first(&device)), (None, 4, 0));
        assert!(receiver.try_recv().is_err());
        device.heal();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [(1, true), (2, true), (3, true)]);
        assert_eq!((first(&device), device.position()), (3, 4));
        assert!(matches!(device.end_record().as_slice(), [.., Event::Flush]));
    }
}
