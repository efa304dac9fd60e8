//! A core that takes mail on kept connections asks the allocator for nothing: counted on the thread of the core, from the octets of the socket to
//! the durable record and the `250`.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicU64};
use std::time::Duration;

use inrush_config::Config;
use inrush_gateway::{CoreEvent, Gateway, Start};
use inrush_logging::{Destination, LoggingSettings};
use inrush_policy::{Shared, SharedRecipients};
use inrush_tests::client::{Client, accepted, stuffed};

/// Counts what each thread asks for.
struct Counting;

/// Of one thread: its number, and how often it has asked.
struct Asked {
    thread: AtomicI32,
    times: AtomicU64,
}

/// The first threads of the process, in the order in which they have asked for the first time.
static THREADS: [Asked; 64] = [const { Asked { thread: AtomicI32::new(0), times: AtomicU64::new(0) } }; 64];

fn note() {
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    for asked in &THREADS {
        let known = asked.thread.compare_exchange(0, me, Relaxed, Relaxed);
        if known.is_ok() || known == Err(me) {
            asked.times.fetch_add(1, Relaxed);
            return;
        }
    }
}

/// How often threads of the front door have asked: cores, and their committers where there are some.
fn times() -> u64 {
    let of_a_core = |asked: &&Asked| {
        let path = format!("/proc/self/task/{}/comm", asked.thread.load(Relaxed));
        let name = std::fs::read_to_string(path).unwrap_or_default();
        ["inrush-core", "inrush-commit"].iter().any(|prefix| name.starts_with(prefix))
    };
    assert_eq!(THREADS[THREADS.len() - 1].thread.load(Relaxed), 0, "more threads than are counted");
    THREADS.iter().filter(of_a_core).map(|asked| asked.times.load(Relaxed)).sum()
}

#[expect(unsafe_code, reason = "an allocator is unsafe to implement; this one hands on to the system's")]
// SAFETY: everything is done by the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the conditions are those of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the conditions are those of this function.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, octets: usize) -> *mut u8 {
        note();
        // SAFETY: the conditions are those of this function.
        unsafe { System.realloc(pointer, layout, octets) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How a client sends its messages.
#[derive(Clone, Copy, Debug)]
enum Way {
    OneByOne,
    Pipelined,
    Chunked,
    Refused,
}

const BODY_LINES: usize = 60;

/// Sends `messages` of them over each of the connections, in turn.
fn send(clients: &mut [Client], way: Way, messages: usize) {
    let mut body = b"Subject: a message\r\nMessage-ID: <a@client.test.example>\r\n\r\n".to_vec();
    (0..BODY_LINES).for_each(|_| body.extend_from_slice(&[b"x".repeat(70).as_slice(), b"\r\n"].concat()));
    let data = stuffed(&body);
    let envelope = "MAIL FROM:<s@client.test.example> BODY=8BITMIME\r\nRCPT TO:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n";
    for _ in 0..messages {
        for client in &mut *clients {
            match way {
                Way::OneByOne => {
                    client.say("MAIL FROM:<s@client.test.example>", 250);
                    client.say("RCPT TO:<a@example.com>", 250);
                    client.say("DATA", 354);
                    client.send(&data).unwrap();
                }
                Way::Pipelined => {
                    client.send(format!("{envelope}DATA\r\n").as_bytes()).unwrap();
                    for code in [250, 250, 250, 354] {
                        client.expect(code);
                    }
                    client.send(&data).unwrap();
                }
                Way::Chunked => {
                    let head = format!("{envelope}BDAT {} LAST\r\n", body.len());
                    client.send(&[head.as_bytes(), &body].concat()).unwrap();
                    for code in [250, 250, 250] {
                        client.expect(code);
                    }
                }
                Way::Refused => {
                    client.say("MAIL FROM:<s@client.test.example>", 250);
                    client.say("RCPT TO:<a@elsewhere.example>", 550);
                    client.say("RSET", 250);
                    continue;
                }
            }
            let reply = client.expect(250);
            accepted(&reply);
        }
    }
}

/// A gateway of one core in this process; nobody else in it asks for memory once it runs.
fn start(data_dir: &Path, engine: &str) -> (Gateway, SocketAddr) {
    let text = format!(
        "hostname = \"mx.test.example\"\ncores = 1\nengine = \"{engine}\"\n[limits]\nrefused_recipients_max = 1000000\njunk_commands_max = 1000000\ntransactions_max = 1000000\n\
         [[listener]]\nname = \"mx\"\naddress = [\"127.0.0.1:0\"]\nkind = \"mx\"\n[[domain]]\nname = \"example.com\"\n"
    );
    let config = Config::parse(Path::new("inrush.toml"), &text).unwrap();
    let Config { gateway, session, log, node, recipients, access, certificates, .. } = config;
    let start = Start {
        gateway,
        session,
        log,
        data_dir,
        node,
        recipients: Arc::new(SharedRecipients::new(recipients)),
        access: Arc::new(Shared::new(access)),
        logins: None,
        certificates,
        consumed: false,
        descriptors_kept: 0,
        give_memory_back: || {},
        version: "test",
        revision: "test",
        sockets: Vec::new(),
        sockets_shared: false,
        beside: None,
    };
    let gateway = Gateway::start(start, |event| {
        if let CoreEvent::Ended(ended) = event {
            ended.unwrap();
        }
    })
    .unwrap();
    let address = gateway.addresses()[0].1;
    (gateway, address)
}

/// Lines of messages and of sessions that have come.
static LINES: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Starts the log, and takes its lines from a socket: they are part of what a core does.
fn start_log(folder: &Path) {
    let journal_socket = folder.join("journal");
    let journal = UnixDatagram::bind(&journal_socket).unwrap();
    std::thread::spawn(move || {
        let mut datagram = [0; 8192];
        while let Ok(octets) = journal.recv(&mut datagram) {
            let kinds = ["MESSAGE=message queued", "MESSAGE=session ended"];
            let kind = kinds.iter().position(|kind| datagram[..octets].starts_with(kind.as_bytes()));
            kind.map(|kind| LINES[kind].fetch_add(1, Relaxed));
        }
    });
    let settings = LoggingSettings {
        to: Destination::Journald,
        journal_socket,
        // What a core says of pressure on a busy machine is not a part of every message.
        level: "off,inrush_gateway::message=info,inrush_gateway::session=info".parse().unwrap(),
        ..LoggingSettings::default()
    };
    // For as long as the process lives.
    std::mem::forget(inrush_logging::start(&settings, None).unwrap());
}

#[test]
fn a_core_that_takes_mail_asks_for_no_memory() {
    let log = tempfile::tempdir().unwrap();
    start_log(log.path());
    for engine in ["io_uring", "epoll"] {
        let folder = tempfile::tempdir().unwrap();
        let (gateway, address) = start(&folder.path().join("data"), engine);
        let mut clients: Vec<Client> = (0..8).map(|_| Client::greeted(address)).collect();
        // It is the core that is counted: connections do cost it something.
        assert!(times() > 0);
        for way in [Way::OneByOne, Way::Pipelined, Way::Chunked, Way::Refused] {
            // Buffers, lists and the table of senders grow to their size.
            send(&mut clients, way, 50);
            let before = times();
            send(&mut clients, way, 250);
            assert_eq!(times() - before, 0, "{engine}, {way:?}: in {} messages", 250 * clients.len());
        }
        let before = times();
        for _ in 0..1000 {
            Client::greeted(address).say("QUIT", 221);
        }
        // Its task and what belongs to it; none of them grows with what it says.
        let of_each = (times() - before) / 1000;
        assert!(of_each <= 6, "{engine}: {of_each} for a connection");
        drop(clients);
        gateway.stop();
        gateway.join();
    }
    inrush_logging::flush(Duration::from_mins(1));
    // Most of them, at least: on a busy machine the ring may have been full.
    assert!(LINES.iter().all(|lines| lines.load(Relaxed) > 100), "{LINES:?}");
}
