//! The thread that takes events out of the rings, while somebody looks.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use rtrb::Consumer;
use serde_json::{Value, json};

use crate::event;
use crate::hub::{Hub, Tracer};

/// How often the rings are looked at.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Reader {
    hub: &'static Hub,
    rings: Vec<(usize, Consumer<u8>)>,
    record: Vec<u8>,
    lost: u64,
}

impl Reader {
    /// Throws away what the last one who looked has left in `rings`.
    pub(crate) fn new(hub: &'static Hub, mut rings: Vec<(usize, Consumer<u8>)>) -> Self {
        let mut record = Vec::new();
        while rings.iter_mut().any(|(_, ring)| take(ring, &mut record)) {}
        Self { hub, rings, record, lost: hub.lost.load(Relaxed) }
    }

    /// Reads for as long as somebody looks.
    pub(crate) fn run(mut self) {
        while self.hub.rings(&mut self.rings) {
            let tracers = self.hub.tracers();
            self.read(&tracers);
            self.tell_losses(&tracers);
            for tracer in &tracers {
                if Instant::now() >= tracer.until {
                    self.hub.end(tracer, "time");
                } else if tracer.events.is_closed() {
                    self.hub.remove(tracer);
                }
            }
            thread::sleep(LOOK);
        }
    }

    fn read(&mut self, tracers: &[Arc<Tracer>]) {
        for (core, ring) in &mut self.rings {
            while take(ring, &mut self.record) {
                let Some((mask, object)) = event::read(&self.record, *core) else { continue };
                for tracer in tracers.iter().filter(|tracer| mask & tracer.bit != 0) {
                    give(self.hub, tracer, &object);
                }
            }
        }
        self.rings.retain(|(_, ring)| !(ring.is_abandoned() && ring.is_empty()));
    }

    /// Tells of events that found no room, once there is some again.
    fn tell_losses(&mut self, tracers: &[Arc<Tracer>]) {
        let lost = self.hub.lost.load(Relaxed);
        let in_rings = lost - std::mem::replace(&mut self.lost, lost);
        for tracer in tracers {
            let lost = tracer.lost.fetch_add(in_rings, Relaxed) + in_rings;
            if lost > 0 && tracer.events.try_send(json!({ "event": "lost", "events": lost })).is_ok() {
                tracer.lost.fetch_sub(lost, Relaxed);
            }
        }
    }
}

fn give(hub: &Hub, tracer: &Arc<Tracer>, object: &Value) {
    let octets = object.to_string().len() as u64;
    if tracer.octets_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(octets)).is_err() {
        hub.end(tracer, "octets");
    } else if tracer.events.try_send(object.clone()).is_err() {
        tracer.lost.fetch_add(1, Relaxed);
    }
    if object["event"] == "end" && tracer.session_over() {
        hub.end(tracer, "sessions");
    }
}

/// Takes the next record out of a ring.
fn take(ring: &mut Consumer<u8>, record: &mut Vec<u8>) -> bool {
    let Ok(head) = ring.read_chunk(4) else { return false };
    let mut octets = [0; 4];
    let (first, second) = head.as_slices();
    octets[..first.len()].copy_from_slice(first);
    octets[first.len()..].copy_from_slice(second);
    let octets = usize::try_from(u32::from_le_bytes(octets)).unwrap_or(0);
    // A record enters the ring as a whole.
    let Ok(whole) = ring.read_chunk(octets) else { return false };
    let (first, second) = whole.as_slices();
    record.clear();
    record.extend_from_slice(&first[4.min(first.len())..]);
    record.extend_from_slice(&second[4_usize.saturating_sub(first.len())..]);
    whole.commit_all();
    true
}
