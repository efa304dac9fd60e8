//! The client session allocates nothing per message once it has met its largest group.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use allocation_counter::measure;
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
