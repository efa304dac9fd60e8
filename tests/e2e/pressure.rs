//! What runs short, one resource after the other: over the soft mark the gateway looks after itself, over the hard one it says why it takes
//! nothing, then it stops to listen; and all of it ends by itself. What was accepted is there.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use inrush_tests::client::{Client, accepted, stuffed};
use inrush_tests::disk::{Answering, Begin, Disk, Fails};
use inrush_tests::http::Samples;
use inrush_tests::mount::Mounted;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::Authority;
use inrush_tests::{export, http, process};

/// One core, so that nothing depends on where a connection goes.
fn settings(limits: &[&str], pressure: &[&str]) -> Settings {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let mut settings = Settings { limits: lines(limits), pressure: lines(pressure), ..Settings::default() };
    settings.top.push("cores = 1".into());
    settings
}

fn level(server: &Server, resource: &str) -> f64 {
    Samples::scrape(server.admin()).sum("inrush_pressure", &[&format!("reason=\"{resource}\"")])
}

#[track_caller]
fn wait_for_level(server: &Server, resource: &str, wanted: f64) {
    process::eventually(&format!("{resource} is at level {wanted}"), || level(server, resource) == wanted);
}

fn refused(server: &Server, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    Samples::scrape(server.admin()).sum("inrush_connections_refused_total", &[&label])
}

/// What `/readyz` says, and whether it is a yes.
fn ready(server: &Server) -> (u16, String) {
    let answer = http::get(server.admin(), "/readyz");
    (answer.status, answer.body)
}

/// The first reply to a connection from `source`, and the client.
fn greeting(server: &Server, source: &str) -> (String, Client) {
    let mut client = Client::open_from(source.parse().unwrap(), server.mx()).unwrap();
    (client.reply().unwrap().text(), client)
}

fn is_taken(greeting: &(String, Client)) -> bool {
    greeting.0.starts_with("220")
}

fn is_listening(server: &Server) -> bool {
    TcpStream::connect(server.mx()).is_ok()
}

/// A body, all of which stays in memory until its end has come.
fn body(number: usize) -> Vec<u8> {
    format!("Subject: {number}\r\n\r\n{}", "0123456789abcdef0123456789abcdef\r\n".repeat(7_000)).into_bytes()
}

/// A session with the message `number` but for its last line; `None` where the core takes no mail, or no connection.
fn holding(server: &Server, number: usize) -> Option<Client> {
    let mut client = Client::open(server.mx()).ok()?;
    if client.reply().ok()?.code != 220 {
        return None;
    }
    for (command, good) in [
        ("EHLO client.test.example", 250),
        ("MAIL FROM:<a@client.test.example>", 250),
        ("RCPT TO:<b@example.com>", 250),
        ("DATA", 354),
    ] {
        client.send(format!("{command}\r\n").as_bytes()).ok()?;
        if client.reply().ok()?.code != good {
            return None;
        }
    }
    client.send(&body(number)).ok()?;
    Some(client)
}

/// The first sessions that the memory for mail has room for.
fn fill(server: &Server) -> Vec<Client> {
    let mut held = Vec::new();
    process::eventually("no more mail is taken", || match holding(server, held.len()) {
        Some(client) => {
            held.push(client);
            false
        }
        None => true,
    });
    held
}

/// Ends the messages of [`fill`]. Each session is answered: with 250, and its message is there, or with 4xx, where there was no room for all of
/// it, and it is not.
fn finish(server: &Server, held: Vec<Client>) {
    let mut taken = Vec::new();
    for (number, mut client) in held.into_iter().enumerate() {
        // Who was refused in the middle has been told already.
        let _ = client.send(b".\r\n");
        let reply = client.reply().unwrap();
        match reply.code {
            250 => taken.push((accepted(&reply), number)),
            code => assert!((400..500).contains(&code), "{}", reply.text()),
        }
    }
    assert!(!taken.is_empty());
    let stored = export::all(&server.data());
    for (id, number) in &taken {
        export::assert_body(&stored[id], &body(*number), id);
    }
    assert_eq!(stored.len(), taken.len(), "mail that was refused is there");
}

#[test]
fn an_address_has_a_share_while_sessions_are_short() {
    let mut settings =
        settings(&["connections_max = 20"], &["soft_percent = 50", "connections_per_address_max = 4"]);
    settings.tables.push("[access]\nallow = [\"127.0.0.9\"]".into());
    let server = Server::with(settings);
    let mut open: Vec<_> = (0..6).map(|_| greeting(&server, "127.0.0.2")).collect();
    assert!(open.iter().all(is_taken));
    open.extend((0..4).map(|last| greeting(&server, &format!("127.0.1.{last}"))));
    assert!(open.iter().all(is_taken));
    wait_for_level(&server, "connections_max", 1.0);
    let (refusal, _) = greeting(&server, "127.0.0.2");
    assert!(refusal.starts_with("421 4.7.0"), "{refusal}");
    assert!(refusal.contains("while resources are short"), "{refusal}");
    assert_eq!(refused(&server, "pressure_connections_per_address_max"), 1.0);
    // Others have their share, and some have no limit.
    assert!(is_taken(&greeting(&server, "127.0.0.3")));
    open.extend((0..5).map(|_| greeting(&server, "127.0.0.9")));
    assert!(open.iter().all(is_taken));
    assert_eq!(ready(&server).0, 200);

    process::eventually("no place is left", || {
        let next = greeting(&server, &format!("127.0.2.{}", open.len()));
        if is_taken(&next) {
            open.push(next);
        }
        open.len() == 20
    });
    process::eventually("the gateway refuses connections and says so", || {
        let (refusal, _) = greeting(&server, "127.0.0.4");
        assert!(refusal.contains("too many connections"), "{refusal}");
        let (status, why) = ready(&server);
        status == 503 && why.contains("1 of 1 cores have reached connections_max")
    });
    drop(open);
    wait_for_level(&server, "connections_max", 0.0);
    let again: Vec<_> = (0..6).map(|_| greeting(&server, "127.0.0.2")).collect();
    assert!(again.iter().all(is_taken));
    assert_eq!(ready(&server).0, 200);
}

#[test]
fn the_silent_leave_while_sessions_are_short() {
    let limits = ["connections_max = 10"];
    let server = Server::with(settings(&limits, &["soft_percent = 50", "idle_timeout = \"1s\""]));
    let mut few: Vec<_> = (0..3).map(|_| greeting(&server, "127.0.0.1").1).collect();
    few[0].say("NOOP", 250);
    let mut open: Vec<_> = few.into_iter().chain((0..3).map(|_| greeting(&server, "127.0.0.1").1)).collect();
    for client in &mut open {
        assert!(client.expect(421).text().contains("4.4.2"));
    }
    wait_for_level(&server, "connections_max", 0.0);
    // Whoever comes now has the usual time.
    let mut client = Client::greeted(server.mx());
    client.deliver(&["b@example.com"], b"x\r\n");
}

/// Who begins handshakes and says nothing does not keep TLS from others.
#[test]
fn handshakes_are_short() {
    let authority = Authority::new();
    let certificate = authority.issue("mx.test.example");
    let pressure = ["soft_percent = 50", "idle_timeout = \"1s\"", "connections_per_address_max = 0"];
    let mut settings = settings(&["handshakes_max = 4"], &pressure).listener("tls = \"starttls\"");
    settings.tables.push(format!("[tls]\n{}", certificate.lines()));
    let server = Server::with(settings);
    let start_tls = || {
        let mut client = Client::greeted(server.mx());
        client.send(b"STARTTLS\r\n").unwrap();
        (client.reply().unwrap().code, client)
    };
    let mut silent = Vec::new();
    process::eventually("no handshake may begin", || {
        let (code, client) = start_tls();
        if code == 220 {
            silent.push(client);
        }
        code == 454
    });
    for client in &mut silent {
        assert!(client.rest().is_empty());
    }
    let timeouts = Samples::scrape(server.admin())
        .sum("inrush_tls_handshake_failures_total", &["reason=\"handshake_timeout\""]);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let expected = silent.len() as f64;
    assert_eq!(timeouts, expected);
    Client::greeted(server.mx()).start_tls("mx.test.example");
    wait_for_level(&server, "handshakes_max", 0.0);
}

#[test]
fn memory_for_mail_is_short() {
    let pressure = ["stop_accepting_after = \"1s\""];
    let server = Server::with(settings(&["pending_bytes_max = \"1MiB\""], &pressure));
    let mut before = Client::greeted(server.mx());
    let held = fill(&server);
    wait_for_level(&server, "pending_bytes_max", 2.0);
    before.send(b"MAIL FROM:<a@client.test.example>\r\n").unwrap();
    let refusal = before.reply().unwrap().text();
    assert!(refusal.starts_with("452 4.3.1 Too much mail under way"), "{refusal}");
    process::eventually("the core does not listen", || !is_listening(&server));
    let (status, why) = ready(&server);
    assert_eq!(status, 503);
    assert!(why.contains("1 of 1 cores take no connections"), "{why}");
    assert!(why.contains("1 of 1 cores have reached pending_bytes_max"), "{why}");
    // Sessions go on.
    before.say("NOOP", 250);
    finish(&server, held);
    process::eventually("the core listens again", || is_listening(&server));
    wait_for_level(&server, "pending_bytes_max", 0.0);
    process::eventually("the gateway is ready", || ready(&server).0 == 200);
    before.say("RSET", 250);
    before.deliver(&["b@example.com"], b"x\r\n");
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n");
}

#[test]
fn memory_for_mail_is_short_epoll() {
    let pressure = ["stop_accepting_after = \"1s\""];
    let server = Server::with(settings(&["pending_bytes_max = \"1MiB\""], &pressure).engine("epoll"));
    let held = fill(&server);
    process::eventually("the core does not listen", || !is_listening(&server));
    finish(&server, held);
    process::eventually("the core listens again", || is_listening(&server));
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n");
}

/// Sessions that hold mail in memory until the first core does not listen; the other one has room.
fn fill_one_core(server: &Server) -> Vec<Client> {
    let held_bytes = || Samples::scrape(server.admin()).sum("inrush_pending_bytes", &[]);
    let mut held = Vec::new();
    while level(server, "pending_bytes_max") < 2.0 {
        let before = held_bytes();
        held.push(holding(server, held.len()).expect("no core refuses mail"));
        // One after the other, so that no two cores reach their mark in one look.
        process::eventually("the core has looked", || held_bytes() > before);
    }
    process::eventually("one core does not listen", || {
        ready(server).1.contains("1 of 2 cores take no connections")
    });
    held
}

/// A core that does not listen leaves new connections to the other one; and a gateway can stop while its doors are closed.
#[test]
fn other_cores_take_the_connections() {
    let mut settings = settings(&["pending_bytes_max = \"1MiB\""], &["stop_accepting_after = \"1s\""]);
    settings.top = vec!["cores = 2".into()];
    let mut server = Server::with(settings);
    let held = fill_one_core(&server);
    for _ in 0..20 {
        Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n");
    }
    drop(held);
    process::eventually("both listen", || ready(&server).0 == 200);
    let _held = fill_one_core(&server);
    server.stop();
}

/// `leave`: the sessions hang up in the middle of their messages, and nobody comes after them; else they end them.
fn the_process_is_short_of_memory(leave: bool) {
    let resident =
        |server: &Server| Samples::scrape(server.admin()).sum("inrush_process_resident_memory_bytes", &[]);
    let empty = {
        let server = Server::with(settings(&[], &[]));
        Client::greeted(server.mx()).deliver(&["b@example.com"], &body(0));
        resident(&server)
    };
    let most = (empty / f64::from(1 << 20)).ceil() + 30.0;
    let limit = format!("memory_max = \"{most}MiB\"");
    let authority = Authority::new();
    let certificate = authority.issue("mx.test.example");
    let mut settings =
        settings(&[], &[&limit, "connections_per_address_max = 0"]).listener("tls = \"starttls\"");
    settings.tables.push(format!("[tls]\n{}", certificate.lines()));
    let server = Server::with(settings);
    let mut before = Client::greeted(server.mx());
    // A burst, much of it before the next look.
    let mut held: Vec<_> = (0..400).filter_map(|number| holding(&server, number)).collect();
    process::eventually("memory is short", || {
        held.extend(holding(&server, held.len()));
        level(&server, "memory_max") == 2.0
    });
    before.send(b"MAIL FROM:<a@client.test.example>\r\n").unwrap();
    let refusal = before.reply().unwrap().text();
    assert!(refusal.starts_with("452 4.3.1 Short of memory"), "{refusal}");
    before.say("STARTTLS", 454);
    let (refusal, _) = greeting(&server, "127.0.0.1");
    assert!(refusal.starts_with("421 4.3.2") && refusal.contains("short of memory"), "{refusal}");
    assert!(refused(&server, "memory_max") >= 1.0);
    assert!(ready(&server).1.contains("1 of 1 cores have reached memory_max"), "{}", ready(&server).1);
    if leave {
        drop((held, before));
    } else {
        finish(&server, held);
    }
    process::eventually("the gateway is ready", || ready(&server).0 == 200);
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n");
}

#[test]
fn the_process_is_short_of_memory_until_mail_is_done() {
    the_process_is_short_of_memory(false);
}

#[test]
fn the_process_is_short_of_memory_until_peers_have_left() {
    the_process_is_short_of_memory(true);
}

/// The soft limit of open files of a running process.
fn set_open_files(server: &Server, limit: u64) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args([format!("--pid={}", server.pid()), format!("--nofile={limit}:")]);
    process::finish(prlimit).succeeded();
}

#[test]
fn file_descriptors_are_short() {
    let server = Server::with(settings(&[], &["soft_percent = 90"]));
    let mut open: Vec<_> = (0..100).map(|_| greeting(&server, "127.0.0.1")).collect();
    assert!(open.iter().all(is_taken));
    let used = Samples::scrape(server.admin()).sum("inrush_process_open_file_descriptors", &[]);
    // Others use them up, which comes to the same: 64 are kept for the log.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    set_open_files(&server, used as u64 + 60);
    wait_for_level(&server, "descriptors", 1.0);
    let (refusal, _) = greeting(&server, "127.0.0.1");
    assert!(refusal.starts_with("421 4.3.2"), "{refusal}");
    assert!(refusal.contains("short of file descriptors"), "{refusal}");
    assert_eq!(refused(&server, "descriptors"), 1.0);
    process::eventually("the gateway says so", || {
        let _ = greeting(&server, "127.0.0.1");
        level(&server, "descriptors") == 2.0
    });
    assert!(ready(&server).1.contains("1 of 1 cores have reached descriptors"), "{}", ready(&server).1);
    // Who is in can send mail.
    open[0].1.say("EHLO client.test.example", 250);
    open[0].1.deliver(&["b@example.com"], &body(0));
    open.truncate(50);
    wait_for_level(&server, "descriptors", 0.0);
    assert!(is_taken(&greeting(&server, "127.0.0.1")));
    assert_eq!(ready(&server).0, 200);
}

#[test]
fn the_disk_is_full() {
    let disk = Mounted::tmpfs(64);
    let ballast = disk.path().join("ballast");
    let settings = settings(&[], &["stop_accepting_after = \"1s\""]).data(&disk.path().join("data")).log(&[
        "segment_bytes = \"1MiB\"",
        "free_bytes_min = \"8MiB\"",
        "spares = 1",
    ]);
    let server = Server::with(settings);
    let id = Client::greeted(server.mx()).deliver(&["b@example.com"], &body(0));
    let fill_up = |keep: u64| {
        let free = free(disk.path()) - keep;
        #[expect(clippy::cast_possible_truncation, reason = "a small disk")]
        fs::write(&ballast, vec![1; free as usize]).unwrap();
    };
    fill_up(12 << 20);
    wait_for_level(&server, "log_space", 1.0);
    assert_eq!(ready(&server).0, 200);
    fs::remove_file(&ballast).unwrap();
    wait_for_level(&server, "log_space", 0.0);
    let mut sender = Client::greeted(server.mx());
    fill_up(1 << 20);
    process::eventually("mail is refused", || sender.attempt(&body(1)).text().starts_with("452 4.3.1"));
    process::eventually("the core does not listen", || !is_listening(&server));
    assert_eq!(level(&server, "log_space"), 2.0);
    let (status, why) = ready(&server);
    assert_eq!(status, 503);
    assert!(why.contains("1 of 1 logs have no space for new mail"), "{why}");
    fs::remove_file(&ballast).unwrap();
    process::eventually("the core listens again", || is_listening(&server));
    wait_for_level(&server, "log_space", 0.0);
    let last = Client::greeted(server.mx()).deliver(&["b@example.com"], &body(2));
    let stored = export::all(&server.data());
    export::assert_body(&stored[&id], &body(0), &id);
    export::assert_body(&stored[&last], &body(2), &last);
}

/// A disk that takes its time: new mail has to wait no longer than it may.
#[test]
fn the_disk_is_slow() {
    let disk = Disk::with_ext4(64, &[]);
    let settings = settings(&[], &["slow_after = \"200ms\"", "backlog_max = \"300ms\""])
        .data(&disk.path().join("data"))
        .log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", "spares = 1"]);
    let server = Server::with(settings);
    let mut ids = vec![Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n")];
    // Two requests for each commit.
    disk.device().delay(Duration::from_millis(250));
    let mut sender = Client::greeted(server.mx());
    let refusal = (0..100).find_map(|_| {
        let reply = sender.attempt(b"x\r\n");
        if reply.code != 250 {
            return Some(reply.text());
        }
        ids.push(accepted(&reply));
        None
    });
    let refusal = refusal.expect("100 messages came through a slow disk");
    assert!(refusal.starts_with("452 4.3.1 The disk is too slow"), "{refusal}");
    // The log writes a mark each second.
    wait_for_level(&server, "hung_after", 1.0);
    disk.device().delay(Duration::ZERO);
    for resource in ["backlog_max", "hung_after"] {
        wait_for_level(&server, resource, 0.0);
    }
    process::eventually("the gateway is ready", || ready(&server).0 == 200);
    ids.push(Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n"));
    let stored = export::all(&server.data());
    ids.iter().for_each(|id| export::assert_body(&stored[id], b"x\r\n", id));
}

#[test]
fn the_disk_is_silent() {
    let disk = Disk::with_ext4(64, &[]);
    let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", "spares = 1", "hung_after = \"1s\""];
    let pressure = ["stop_accepting_after = \"1s\""];
    let server = Server::with(settings(&[], &pressure).data(&disk.path().join("data")).log(&log));
    let _answering = Answering(&disk);
    let id = Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n");
    let mut before = Client::greeted(server.mx());
    disk.device().fail(Begin::After(0), Fails::Silent);
    // The log's own mark each second is enough to find out.
    wait_for_level(&server, "hung_after", 2.0);
    process::eventually("the core does not listen", || !is_listening(&server));
    before.send(b"MAIL FROM:<a@client.test.example>\r\n").unwrap();
    let refusal = before.reply().unwrap().text();
    assert!(refusal.starts_with("451 4.3.0 The disk does not answer"), "{refusal}");
    disk.device().heal();
    process::eventually("the core listens again", || is_listening(&server));
    process::eventually("the gateway is ready", || ready(&server).0 == 200);
    before.say("RSET", 250);
    let last = before.deliver(&["b@example.com"], b"x\r\n");
    let stored = export::all(&server.data());
    for id in [id, last] {
        export::assert_body(&stored[&id], b"x\r\n", &id);
    }
}

/// Under relaxed durability the disk's time is that of the syncs.
/// All batches of the log are full and the disk takes its time: what peers send waits in the kernel and not in a buffer for each of them, or the memory
/// for mail data would be spent by sessions that have a hundredth of it to say.
#[test]
fn the_log_is_full_and_many_send() {
    let disk = Disk::with_ext4(96, &[]);
    let log = [
        "segment_bytes = \"8MiB\"",
        "free_bytes_min = \"1MiB\"",
        "spares = 1",
        "batch_buffers = 2",
        "hung_after = \"60s\"",
    ];
    let settings = settings(&["pending_bytes_max = \"8MiB\""], &["backlog_max = \"60s\""]);
    let server = Server::with(settings.data(&disk.path().join("data")).log(&log));
    let _answering = Answering(&disk);
    server.wait_until_accepting();
    let body =
        [b"Subject: many\r\n\r\n".as_slice(), &[b"x".repeat(62), b"\r\n".to_vec()].concat().repeat(192)]
            .concat();
    let mut clients: Vec<Client> = (0..400).map(|_| Client::greeted(server.mx())).collect();
    for client in &mut clients {
        client.envelope(&["b@example.com"]);
        client.say("DATA", 354);
    }
    disk.device().fail(Begin::After(0), Fails::Silent);
    for client in &mut clients {
        client.send(&stuffed(&body)).unwrap();
    }
    process::eventually("the log is full", || {
        Samples::scrape(server.admin()).sum("inrush_log_durable_lag_bytes", &[]) > f64::from(1 << 20) * 0.9
    });
    disk.device().heal();
    let ids: Vec<String> = clients.iter_mut().map(|client| accepted(&client.expect(250))).collect();
    let stored = export::all(&disk.path().join("data"));
    for id in &ids {
        export::assert_body(&stored[id], &body, id);
    }
}

#[test]
fn syncs_are_slow() {
    let disk = Disk::with_ext4(64, &[]);
    let settings = settings(&[], &["slow_after = \"200ms\""]).data(&disk.path().join("data")).log(&[
        "segment_bytes = \"1MiB\"",
        "free_bytes_min = \"1MiB\"",
        "spares = 1",
        "durability = \"relaxed\"",
    ]);
    let server = Server::with(settings);
    disk.device().delay(Duration::from_millis(250));
    let mut sender = Client::greeted(server.mx());
    process::eventually("the core has seen it", || {
        sender.deliver(&["b@example.com"], b"x\r\n");
        level(&server, "hung_after") == 1.0
    });
    disk.device().delay(Duration::ZERO);
    wait_for_level(&server, "hung_after", 0.0);
}

fn free(folder: &Path) -> u64 {
    let stat = rustix::fs::statvfs(folder).unwrap();
    stat.f_bavail * stat.f_frsize
}
