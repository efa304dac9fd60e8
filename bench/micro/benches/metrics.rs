//! What counting costs a message, and what a scrape costs: cells, exemplars, talkers, the three formats.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use inrush_log::{Lsn, MessageId};
use inrush_metrics::{Counter, Format, Histogram, Metrics, Names, Phase, ReplyName, Share, TalkersBy};

const SHARE: Share = Share { messages: 1, refusals: 0, bytes: 4096 };

fn metrics(cores: usize) -> std::sync::Arc<Metrics> {
    let replies = (0..150).map(|number| ReplyName { code: 400 + number, reason: Some("a_reason") }).collect();
    let listeners = (0..50).map(|number| format!("listener-{number}")).collect();
    Metrics::new(
        Names { version: "1.0.0", revision: "a1b2c3", listeners, verbs: vec!["mail", "rcpt"], replies },
        cores,
    )
}

fn cells(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cells");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let metrics = metrics(1);
    let writer = metrics.core(0).writer().expect("nobody else has it");
    group.bench_function("count", |bencher| bencher.iter(|| writer.count(black_box(Counter::LogBatches))));
    let mut turn = (0..2_000_000_u64).step_by(997).cycle();
    group.bench_function("record", |bencher| {
        bencher
            .iter(|| writer.record(Histogram::Phase(Phase::Total), black_box(turn.next().expect("endless"))));
    });
    let mut at_us = 1_700_000_000_000_000;
    let mut turn = (0..2_000_000_u64).step_by(997).cycle();
    group.bench_function("record with an exemplar", |bencher| {
        bencher.iter(|| {
            // A hundred thousand messages a second.
            at_us += 10;
            let id = MessageId { node: 1, log: 0, lsn: Lsn::new(at_us & 0xffff_ffff) };
            writer.record_message(Phase::Total, black_box(turn.next().expect("endless")), id, at_us);
        });
    });
    assert_eq!(metrics.snapshot().phase(Phase::Commit).len(), 0);
    group.finish();
}

fn talkers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("talkers");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for (name, peers) in [("a hundred peers", 100_u32), ("a flood of peers", 1 << 24)] {
        let metrics = metrics(1);
        let writer = metrics.core(0).writer().expect("nobody else has it");
        let mut number = 0_u32;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number = number.wrapping_add(0x9e37_79b1);
                writer.talks(IpAddr::from(Ipv4Addr::from(black_box(number % peers))), SHARE);
            });
        });
        assert!(!metrics.talkers(TalkersBy::Address, 10).talkers.is_empty() || peers > 100);
    }
    let domains: Vec<String> = (0..200).map(|number| format!("Mail-{number}.Example.ORG")).collect();
    let metrics = metrics(1);
    let writer = metrics.core(0).writer().expect("nobody else has it");
    let mut turn = domains.iter().cycle();
    group.bench_function("domains", |bencher| {
        bencher.iter(|| writer.sends(Some(black_box(turn.next().expect("endless"))), SHARE));
    });
    assert!(metrics.talkers(TalkersBy::SenderDomain, 200).talkers.len() > 100);
    group.finish();
}

fn scrape(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scrape");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for cores in [2, 64] {
        let metrics = metrics(cores);
        for core in metrics.cores() {
            let writer = core.writer().expect("nobody else has it");
            for value in (1..60_000_000_u64).step_by(99_991) {
                let id = MessageId { node: 1, log: 0, lsn: Lsn::new(value) };
                Phase::ALL.iter().for_each(|phase| writer.record_message(*phase, value, id, value));
            }
        }
        for (name, format) in
            [("OpenMetrics", Format::OpenMetrics), ("text", Format::Classic), ("protobuf", Format::Protobuf)]
        {
            assert!(metrics.render(format).len() > 10_000);
            group.bench_function(format!("{name}, {cores} cores"), |bencher| {
                bencher.iter(|| black_box(metrics.render(format)));
            });
        }
    }
    group.finish();
}

criterion_group!(all, cells, talkers, scrape);
criterion_main!(all);
