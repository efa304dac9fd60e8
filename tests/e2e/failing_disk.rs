//! A disk whose writes or flushes fail under load: no 250 for what failed, an end by itself, and everything acknowledged is there on
//! the healed disk.
//!
//! `INRUSH_SEED` repeats the moments of a run.

use std::sync::atomic::Ordering;

use inrush_tests::disk::{Begin, Disk, Fails};
use inrush_tests::ledger::Ledger;
use inrush_tests::process;
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

/// How a batch begins, and a seal (FORMAT.md).
const BATCH: &[u8] = b"iRec";
const SEAL: &[u8] = b"inrushSL";

fn settings(disk: &Disk, engine: &str) -> Settings {
    let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", "spares = 1"];
    Settings::default().engine(engine).data(&disk.path().join("data")).log(&log)
}

/// Load until the disk fails as told and the gateway has ended of it; then the power goes off and on.
fn round(disk: &mut Disk, server: &mut Server, ledger: &mut Ledger, (begin, fails): (Begin, Fails)) {
    let before = ledger.acknowledged();
    ledger.load(server, |server, round| {
        round.over.store(true, Ordering::SeqCst);
        disk.device().fail(begin, fails);
        process::eventually("the disk has failed", || disk.device().has_failed());
        let status = server.wait();
        assert!(!status.success(), "{status}\n{}", server.log());
    });
    let log = server.log();
    assert!(log.contains("is poisoned: "), "{begin:?} {fails:?}: the log does not say why:\n{log}");
    eprintln!("{begin:?} {fails:?}: {} acknowledged before the end", ledger.acknowledged() - before);
    disk.power_cycle();
    server.restart();
    ledger.check(server);
}

fn scenario(engine: &str) {
    let mut random = Random::from_environment();
    let faults = [
        (Begin::AtMark(BATCH, 0), Fails::Once),
        (Begin::AtMark(BATCH, 5 + random.below(40)), Fails::Once),
        (Begin::AtMark(BATCH, 5 + random.below(40)), Fails::Writes),
        (Begin::AtMark(SEAL, random.below(2)), Fails::Once),
        (Begin::AtMark(SEAL, random.below(2)), Fails::All),
        (Begin::After(0), Fails::Flushes),
        (Begin::After(5 + random.below(60)), Fails::Flushes),
        (Begin::After(random.below(100)), Fails::All),
    ];
    // Two directories, so that recovery also meets what earlier ones left, and neither disk gets full.
    let mut acknowledged = 0;
    for faults in faults.chunks(4) {
        let mut disk = Disk::with_ext4(160, &[]);
        let mut server = Server::with(settings(&disk, engine));
        let mut ledger = Ledger::default();
        for fault in faults {
            round(&mut disk, &mut server, &mut ledger, *fault);
        }
        acknowledged += ledger.acknowledged();
        drop(server);
    }
    eprintln!("{engine}: {acknowledged} messages acknowledged, none lost");
    assert!(acknowledged > 0, "too little was sent to show anything");
}

#[test]
fn io_uring() {
    scenario("io_uring");
}

#[test]
fn epoll() {
    scenario("epoll");
}
