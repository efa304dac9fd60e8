//! A reused session: whole messages as a busy sender pipelines them, without sockets and log.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use inrush_bench_micro::parts::play;
use inrush_bench_micro::texts::Text;
use inrush_proto::{Context, Session, Settings, Unobserved};

const ENVELOPE: &str = "MAIL FROM:<sender-1234@mail.one.example> SIZE=4096 BODY=8BITMIME\r\n\
                        RCPT TO:<recipient@two.example>\r\n";

fn messages(criterion: &mut Criterion) {
    let data = Text::Prose.mail_data(4096);
    let by_data = [ENVELOPE.as_bytes(), b"DATA\r\n", &data].concat();
    let by_bdat = [ENVELOPE.as_bytes(), b"BDAT 4096 LAST\r\n", &data].concat();
    let many = [ENVELOPE.as_bytes(), &b"RCPT TO:<another.recipient@two.example>\r\n".repeat(99), b"RSET\r\n"]
        .concat();
    let mut group = criterion.benchmark_group("proto");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(1));
    for (name, input, octets) in [
        ("envelope", [ENVELOPE.as_bytes(), b"RSET\r\n"].concat(), 0),
        ("100 recipients", many, 0),
        ("DATA 4 KiB", by_data, data.len() - 3),
        ("BDAT 4 KiB", by_bdat, data.len()),
    ] {
        let context = Context::new(Settings::default(), Box::new(Unobserved));
        let mut session = Session::new(Rc::clone(&context));
        let mut output = Vec::with_capacity(16 * 1024);
        play(&mut session, b"EHLO client.example\r\n", &mut output);
        // Transactions are counted; a session of the bench must not run out of them.
        assert_eq!(play(&mut session, &input, &mut output).0, octets);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                if session.transactions() >= 900 {
                    session = Session::new(Rc::clone(&context));
                    play(&mut session, b"EHLO client.example\r\n", &mut output);
                }
                play(&mut session, black_box(&input), &mut output)
            });
        });
    }
}

criterion_group!(benches, messages);
criterion_main!(benches);
