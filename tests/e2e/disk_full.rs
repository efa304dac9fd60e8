//! A full disk: 452 4.3.1 with the reason in log and metric, accepted mail intact, going on by itself when space is back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use inrush_tests::client::{Client, Reply, accepted};
use inrush_tests::http::Samples;
use inrush_tests::mount::Mounted;
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, file_system, process};
use tempfile::TempDir;

/// What an operator can delete.
const BALLAST: &str = "ballast";

/// Sends messages until one is refused; each acceptance with its body.
fn fill(client: &mut Client, sent: &mut Vec<(String, Vec<u8>)>) -> Reply {
    let mut random = Random::new(sent.len() as u64);
    for _ in 0..2000 {
        let body = random.text(100_000);
        let reply = client.attempt(&body);
        if reply.code != 250 {
            return reply;
        }
        sent.push((accepted(&reply), body));
    }
    panic!("200 MB fit on the small disk");
}

fn check(data: &Path, sent: &[(String, Vec<u8>)]) {
    let stored = export::all(data);
    assert_eq!(stored.len(), sent.len());
    for (id, body) in sent {
        export::assert_body(&stored[id], body, id);
    }
}

/// What somebody else does to the disk while mail comes in, and how it is undone.
struct Shortage {
    take: fn(&Path),
    give_back: fn(&Path),
}

/// Nobody: what was there before is too much already.
const NOBODY: Shortage = Shortage { take: |_| (), give_back: remove_ballast };

/// The disk is filled to its last block.
const BLOCKS: Shortage = Shortage {
    take: |folder| {
        let mut file = fs::OpenOptions::new().append(true).open(folder.join(BALLAST)).unwrap();
        let full = loop {
            // Where blocks are given out late, only a sync tells that there are none.
            if let Err(error) = file.write_all(&[1; 65_536]).and_then(|()| file.sync_data()) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    },
    give_back: remove_ballast,
};

/// As many files are made as there may be.
const INODES: Shortage = Shortage {
    take: |folder| {
        let made = |number: u32| File::create(folder.join(format!("taken.{number}")));
        let full = (0..).find_map(|number| made(number).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    },
    give_back: |folder| {
        let taken = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("taken.");
        let files = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(taken);
        files.for_each(|file| fs::remove_file(file.path()).unwrap());
    },
};

fn remove_ballast(folder: &Path) {
    fs::remove_file(folder.join(BALLAST)).unwrap();
}

/// An ext4 in an ordinary file.
fn ext4(options: &[&str]) -> (TempDir, Mounted) {
    let folder = TempDir::with_prefix("inrush-image-").unwrap();
    let file = folder.path().join("disk.img");
    file_system::make_in_file(&file, 96, "mkfs.ext4", &[&["-q", "-F", "-m", "0"], options].concat());
    let mounted = Mounted::image("ext4", &file, "noatime");
    (folder, mounted)
}

/// `limits` = what the gateway must leave free.
fn scenario(disk: &Mounted, limits: &[&str], shortage: &Shortage) {
    fs::write(disk.path().join(BALLAST), vec![1; 24 << 20]).unwrap();
    let data = disk.path().join("data");
    let settings = Settings::default().data(&data);
    let mut server = Server::with(settings.log(&[&["segment_bytes = \"1MiB\""], limits].concat()));

    let mut sent = Vec::new();
    let mut client = Client::greeted(server.mx());
    let refusal = std::thread::scope(|scope| {
        let taking = scope.spawn(|| (shortage.take)(disk.path()));
        let refusal = fill(&mut client, &mut sent);
        taking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        refusal
    });
    assert_eq!(refusal.code, 452, "{}", refusal.text());
    assert!(refusal.text().contains("4.3.1"), "{}", refusal.text());
    assert!(!sent.is_empty());
    check(&data, &sent);

    // The reason is in a metric and in the log. Refused at MAIL or when the message is appended, by
    // whichever notices first.
    process::eventually("the metrics tell why", || {
        let samples = Samples::scrape(server.admin());
        let refused = samples.sum("inrush_log_refusals_total", &[])
            + samples.sum("inrush_refusals_total", &["reason=\"storage_full\""]);
        refused > 0.0
    });
    process::eventually("the log tells why", || server.log().lines().any(|line| line.contains("452 4.3.1")));
    client.say("NOOP", 250);

    // Space is back: no restart, the same connection even.
    (shortage.give_back)(disk.path());
    process::eventually("mail is accepted again", || {
        let body = b"Subject: after\r\n\r\nx\r\n".to_vec();
        let reply = client.attempt(&body);
        if reply.code == 250 {
            sent.push((accepted(&reply), body));
        }
        reply.code == 250
    });
    check(&data, &sent);
    server.restart();
    check(&data, &sent);
}

#[test]
fn the_mark_of_free_space_is_reached() {
    let disk = Mounted::tmpfs(96);
    scenario(&disk, &["free_bytes_min = \"16MiB\""], &NOBODY);
}

/// Someone else fills the disk, below the mark, between two looks.
#[test]
fn not_an_octet_is_left() {
    let disk = Mounted::tmpfs(96);
    scenario(&disk, &["free_bytes_min = \"1MiB\""], &BLOCKS);
}

/// As above, where a block that is promised and one that is there differ.
#[test]
fn not_a_block_is_left_on_ext4() {
    let (_folder, disk) = ext4(&["-N", "2048"]);
    scenario(&disk, &["free_bytes_min = \"1MiB\"", "free_inodes_min = 100"], &BLOCKS);
}

#[test]
fn not_an_inode_is_left() {
    let (_folder, disk) = ext4(&["-N", "2048"]);
    scenario(&disk, &["free_bytes_min = \"1MiB\"", "free_inodes_min = 100"], &INODES);
}
