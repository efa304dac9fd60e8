//! File systems other than the one of the machine: mail is accepted, the gateway is killed, and everything acknowledged is exported.
//! Directly to the disk, and through the page cache.

use std::fs;
use std::time::Duration;

use inrush_tests::file_system;
use inrush_tests::ledger::Ledger;
use inrush_tests::mount::Mounted;
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use tempfile::TempDir;

const ROUNDS: usize = 3;

/// Whether the process has a segment open for direct and durable writes, as `/proc` tells.
fn writes_directly(server: &Server) -> bool {
    let process = format!("/proc/{}", server.pid());
    let mut ways = Vec::new();
    for entry in fs::read_dir(format!("{process}/fd")).unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if !target.starts_with(server.data()) || !target.to_string_lossy().ends_with(".seg") {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(info) = fs::read_to_string(format!("{process}/fdinfo/{name}")) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        ways.push(flags & rustix::fs::OFlags::DIRECT.bits() != 0);
    }
    assert!(!ways.is_empty(), "no segment is open");
    ways.into_iter().any(|direct| direct)
}

fn scenario(disk: &Mounted, engine: &str, direct: bool) {
    let mut random = Random::from_environment();
    let way = format!("direct_io = {direct}");
    let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", &way];
    let mut server =
        Server::with(Settings::default().engine(engine).data(&disk.path().join("data")).log(&log));
    let mut ledger = Ledger::default();
    for _ in 0..ROUNDS {
        server.wait_until_accepting();
        assert_eq!(writes_directly(&server), direct);
        ledger.load_and_kill(&mut server, Duration::from_millis(50 + random.below(200)));
        server.restart();
        ledger.check(&server);
    }
    assert!(ledger.acknowledged() > 0, "too little was sent to show anything");
}

#[test]
fn page_cache_with_io_uring() {
    scenario(&Mounted::tmpfs(300), "io_uring", false);
}

#[test]
fn page_cache_with_epoll() {
    scenario(&Mounted::tmpfs(300), "epoll", false);
}

#[test]
fn tmpfs() {
    scenario(&Mounted::tmpfs(300), "io_uring", true);
}

#[test]
fn ramfs_refuses_direct_writes() {
    let disk = Mounted::ramfs();
    let mut ledger = Ledger::default();
    let mut server = Server::with(Settings::default().data(&disk.path().join("data")));
    server.wait_until_accepting();
    assert!(!writes_directly(&server));
    assert!(server.log().contains("the log is written through the page cache"), "{}", server.log());
    ledger.load_and_kill(&mut server, Duration::from_millis(100));
    server.restart();
    ledger.check(&server);
    assert!(ledger.acknowledged() > 0, "too little was sent to show anything");
}

#[test]
fn xfs() {
    let folder = TempDir::with_prefix("inrush-image-").unwrap();
    let file = folder.path().join("disk.img");
    file_system::make_in_file(&file, 400, "mkfs.xfs", &["-q"]);
    scenario(&Mounted::image("xfs", &file, "noatime"), "io_uring", true);
}
