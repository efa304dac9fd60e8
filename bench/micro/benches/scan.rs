//! The scanner in every implementation that the CPU has, against searches that do a part of its work.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inrush_bench_micro::rivals::rivals;
use inrush_bench_micro::texts::{SIZES, Text};
use inrush_scan::Scanner;

fn whole_messages(criterion: &mut Criterion) {
    for text in Text::ALL {
        for (size, octets) in SIZES {
            let data = text.mail_data(octets);
            let mut group = criterion.benchmark_group(format!("scan/{}/{size}", text.name()));
            group.throughput(Throughput::Bytes(octets as u64));
            group
                .sample_size(10)
                .warm_up_time(Duration::from_millis(300))
                .measurement_time(Duration::from_secs(1));
            for mut rival in rivals(&data) {
                assert!((rival.run)(&data), "{} gives a wrong answer", rival.name);
                group.bench_function(rival.name.clone(), |bencher| {
                    bencher.iter(|| (rival.run)(black_box(&data)));
                });
            }
        }
    }
}

/// A message in the slices that a busy network gives.
fn slices(criterion: &mut Criterion) {
    let data = Text::Base64.mail_data(65_536);
    let mut group = criterion.benchmark_group("scan/slices");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for octets in [16, 100, 1_448, 4_096] {
        let scan = |data: &[u8]| {
            let mut scanner = Scanner::new();
            let ends = data.chunks(octets).filter(|slice| scanner.scan_data(slice).is_some()).count();
            (ends, scanner.findings().octets)
        };
        assert_eq!(scan(&data), (1, data.len() as u64 - 3));
        group.bench_function(BenchmarkId::from_parameter(octets), |bencher| {
            bencher.iter(|| scan(black_box(&data)));
        });
    }
}

criterion_group!(benches, whole_messages, slices);
criterion_main!(benches);
