//! Nothing is allocated per message: not by the client session once it has met its largest group, not by a whole thread of the generator.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "the whole of it is for the other tests")]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use allocation_counter::measure;
use clap::Parser as _;
use inrush_load::options::{Cli, Command};
use inrush_load::worker::{self, Live, Shared, Stage, Task};
use inrush_proto::client::{Event, Pipelining, Protocol, Session, Step, Transfer, write_chunk, write_verb};

fn messages(session: &mut Session, out: &mut Vec<u8>, transfer: Transfer, groups: u32) {
    for _ in 0..groups {
        session.begin(1, transfer);
        out.clear();
        let mut input: &[u8] = match transfer {
            Transfer::Data => b"250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 queued as 00\r\n",
            Transfer::Chunks => b"250 ok\r\n250 ok\r\n250 2.0.0 queued as 00\r\n",
        };
        while session.in_flight() > 0 {
            while let Some(step) = session.take_step() {
                match step {
                    Step::Chunk(_) => {
                        write_chunk(out, 4096, true);
                        session.chunk_sent(true);
                    }
                    Step::Data => write_verb(out, "DATA"),
                    _ => out.extend_from_slice(b"octets\r\n"),
                }
            }
            let progress = session.advance(input);
            assert!(matches!(progress.event, Event::Answer(_)), "{progress:?}");
            input = &input[progress.consumed..];
        }
    }
}

#[test]
fn no_allocation_per_message() {
    let mut session = Session::new(Protocol::Smtp, Pipelining::Auto);
    let mut out = Vec::with_capacity(1024);
    session.advance(b"220 a\r\n");
    session.take_step().unwrap();
    session.advance(b"250-a\r\n250-CHUNKING\r\n250 PIPELINING\r\n");
    for transfer in [Transfer::Data, Transfer::Chunks] {
        messages(&mut session, &mut out, transfer, 4);
        let allocated = measure(|| messages(&mut session, &mut out, transfer, 1000));
        assert_eq!(allocated.count_total, 0, "{transfer:?}");
    }
}

/// Allocations of a thread that runs with these words.
fn allocations(words: &str) -> u64 {
    let words = ["inrush-load", "run"].into_iter().chain(words.split_ascii_whitespace());
    let Command::Run(options) = Cli::try_parse_from(words).unwrap().command else {
        panic!("the words say run")
    };
    let plan = Arc::new(options.plan(1, "Sat, 21 Nov 2026 21:44:57 +0000").unwrap());
    let start = Instant::now();
    let seats = Arc::new(plan.seats());
    let shared = Arc::new(Shared::default());
    shared.senders_left.store(seats[0].len(), Relaxed);
    let stage = Stage { number: 0, start, measure_from: start, end: None, rate: options.rate.unwrap_or(0.0) };
    let live = Arc::new(Live::default());
    let task = Task { plan, shared, live, acks: None, core: 0, seats, stage, stages: None };
    let mut acknowledged = 0;
    let counted = measure(|| {
        let harvest = worker::run(&task).unwrap();
        acknowledged = harvest.figures.records[0].counts.acknowledged;
    });
    assert_eq!(Some(acknowledged), options.messages);
    counted.count_total
}

#[test]
fn a_thread_allocates_nothing_per_message() {
    let server = support::Server::friendly();
    for words in
        ["-d", "-d --in-flight 4", "-d --mode bdat", "-d --pipelining off", "-d --rate 20000", "-d -r 3"]
    {
        let count = |messages: u32| allocations(&format!("{} -s 2 -m {messages} {words}", server.address));
        // Buffers reach their size within the first messages, histograms and queues as well.
        let (few, many) = (count(200), count(2200));
        // What the runtime's timers do now and then is not by message.
        assert!(many < few + 100, "{words}: {few} for 200 messages, {many} for 2200");
    }
}
