//! Replies on their way out, in order, some of them waiting until their message is durable.
//!
//! ```text
//!   bytes   220 250 250 354 │ 250 queued as A │ 250 250 354 │ 250 queued as B │ 221
//!   gates                   └ LSN of A                       └ LSN of B
//! ```
//! A gate holds back its own reply and everything behind it (RFC 2920 §3.1: replies in the order of the commands).
//! The buffer comes from the pool of the [`Context`] with the first reply and goes back with the last octet, so an
//! idle session holds none.

use std::collections::VecDeque;

use crate::{Context, Reply};

/// Replies from this offset on wait for `lsn`.
#[derive(Clone, Copy, Debug)]
struct Gate {
    lsn: u64,
    start: u32,
}

/// The replies of one session that have not left yet.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    gates: VecDeque<Gate>,
    /// Everything up to here is durable.
    durable: u64,
}

impl Output {
    fn buffer(&mut self, context: &Context) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = context.take_buffer();
        }
        &mut self.bytes
    }

    /// A reply of the table.
    pub(crate) fn push(&mut self, context: &Context, reply: &'static Reply) {
        let wire = reply.wire();
        context.observer.reply(reply, wire);
        let bytes = self.buffer(context);
        if reply.names_host() {
            let (front, text) = wire.split_at(reply.text_offset());
            bytes.extend_from_slice(front);
            bytes.extend_from_slice(context.hostname().as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(text);
        } else {
            bytes.extend_from_slice(wire);
        }
    }

    /// A reply that the context has rendered: HELO and EHLO.
    pub(crate) fn push_rendered(&mut self, context: &Context, reply: &'static Reply, wire: &[u8]) {
        context.observer.reply(reply, wire);
        self.buffer(context).extend_from_slice(wire);
    }

    /// A 334 with a challenge in base64.
    pub(crate) fn push_challenge(&mut self, context: &Context, challenge: &str) {
        context.observer.reply(Reply::CHALLENGE, Reply::CHALLENGE.wire());
        let bytes = self.buffer(context);
        // RFC 4954 §4: `334 ` with its space even where the challenge is empty; no text beside it.
        for part in ["334 ", challenge, "\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }

    /// The `250` for a message, which may not leave before `gate` is durable.
    pub(crate) fn push_accepted(&mut self, context: &Context, gate: u64, id: &str) {
        let reply = Reply::MESSAGE_ACCEPTED;
        context.observer.reply(reply, reply.wire());
        let durable = self.durable;
        let bytes = self.buffer(context);
        // The output is bounded by `output_octets_max` plus one reply, far below 4 GiB.
        let start = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let wire = reply.wire();
        bytes.extend_from_slice(&wire[..wire.len() - 2]);
        bytes.push(b' ');
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        debug_assert!(self.gates.back().is_none_or(|last| last.lsn <= gate), "a log only grows");
        // Behind the gate of the same message none is needed: it holds back everything.
        if gate > durable && self.gates.back().is_none_or(|last| last.lsn < gate) {
            self.gates.push_back(Gate { lsn: gate, start });
        }
    }

    /// Everything up to `lsn` is durable: opens the gates up to there.
    pub(crate) fn durable(&mut self, lsn: u64) {
        self.durable = self.durable.max(lsn);
        while self.gates.front().is_some_and(|gate| gate.lsn <= self.durable) {
            self.gates.pop_front();
        }
    }

    /// Octets that may leave now.
    pub(crate) fn ready(&self) -> usize {
        self.gates.front().map_or(self.bytes.len(), |gate| gate.start as usize)
    }

    /// Moves what may leave to the end of `out`; gives back how many octets that were.
    pub(crate) fn take_ready(&mut self, context: &Context, out: &mut Vec<u8>) -> usize {
        let ready = self.ready();
        if ready == 0 {
            return 0;
        }
        out.extend_from_slice(&self.bytes[..ready]);
        if ready == self.bytes.len() {
            context.give_buffer(std::mem::take(&mut self.bytes));
        } else {
            self.bytes.drain(..ready);
            for gate in &mut self.gates {
                gate.start -= u32::try_from(ready).unwrap_or(u32::MAX);
            }
        }
        ready
    }

    /// Takes back the first gated reply and all behind it.
    pub(crate) fn drop_gated(&mut self) {
        self.bytes.truncate(self.ready());
        self.gates.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn next_gate(&self) -> Option<u64> {
        self.gates.front().map(|gate| gate.lsn)
    }

    pub(crate) fn give_back(&mut self, context: &Context) {
        if self.bytes.capacity() > 0 {
            context.give_buffer(std::mem::take(&mut self.bytes));
        }
    }
}
