//! `inrush-load run` as a process against a scripted server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use inrush_load::content::crc32c;
use support::{Action, Moment, Server, Taken, command, run};

fn say(reply: &str) -> Action {
    Action::Say(format!("{reply}\r\n"))
}

/// Every line of the file names a message that the server took, with its checksum and length, each once.
fn check_acks(acks: &str, taken: &[Taken]) {
    let taken: BTreeMap<&str, &[u8]> =
        taken.iter().map(|(id, body)| (id.as_str(), body.as_slice())).collect();
    let mut numbers = Vec::new();
    let mut ids = Vec::new();
    for line in acks.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, n, checksum, octets] = words[..] else { panic!("{line}") };
        let body = taken[id];
        assert_eq!(
            format!("{:08x} {}", crc32c(body), body.len()),
            format!("{checksum} {octets}"),
            "message {n}"
        );
        let text = String::from_utf8(body.to_vec()).unwrap();
        let n: u64 = n.parse().unwrap();
        assert!(text.contains(&format!("-{n:012}\r\n\r\n")), "{text}");
        numbers.push(n);
        ids.push(id);
    }
    numbers.sort_unstable();
    numbers.dedup();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((numbers.len(), ids.len()), (acks.lines().count(), acks.lines().count()));
    assert_eq!(ids.len(), taken.len());
}

#[test]
fn every_mode_delivers_every_message_unchanged() {
    for (words, messages_max) in [
        ("-m 60 -s 4", 1),
        ("-m 60 -s 4 --pipelining off", 1),
        ("-m 60 -s 4 -d --cores 2", u64::MAX),
        ("-m 60 -s 2 -d --in-flight 8", u64::MAX),
        ("-m 60 -s 4 --messages-per-connection 7 --mode bdat --in-flight 5", 7),
        ("-m 60 -s 4 -d --mode bdat --pipelining off --engine epoll", u64::MAX),
        ("-m 60 -s 4 -d --dot-lines 30 -l uniform:0-9000", u64::MAX),
        ("-m 30 -s 2 -d --dot-lines 50 -l 200KiB", u64::MAX),
        ("-m 12 -s 2 -d -l mix:3MiB=1,100=1 --in-flight 3", u64::MAX),
        ("-m 40 -s 2 -d -r 3 --declare-size --lmtp --mode bdat", u64::MAX),
        ("-m 40 -s 2 -d -r 3 --lmtp --in-flight 4", u64::MAX),
        ("-m 60 -s 4 -d --rate 2000 --arrivals poisson", u64::MAX),
    ] {
        let server = Server::friendly();
        let directory = tempfile::tempdir().unwrap();
        let acks = directory.path().join("acks");
        let run = run(&format!("{} {words} --acks {}", server.address, acks.display()));
        assert_eq!(run.code, 0, "{words}: {:?}", run.output);
        let taken = server.taken();
        let expected = run.count("acknowledged");
        assert_eq!(taken.len() as u64, expected, "{words}");
        assert!(words.starts_with(&format!("-m {expected} ")), "{words}");
        assert!(server.connections() <= expected.div_ceil(messages_max).max(4) + 4, "{words}");
        assert_eq!(
            run.count("octets"),
            taken.iter().map(|(_, body)| body.len() as u64).sum::<u64>(),
            "{words}"
        );
        assert_eq!(run.json["latency_us"]["total"]["count"].as_u64(), Some(expected), "{words}");
        check_acks(&fs::read_to_string(acks).unwrap(), &taken);
    }
}

#[test]
fn refusals_are_counted_by_place_and_code() {
    let refuse = |moment: &Moment| match moment {
        Moment::Recipient(line) if line.contains("TO:<u3@") || line.contains("TO:<u7@") => {
            say("550 5.1.1 no such user")
        }
        Moment::Message(2) => say("452 4.3.1 full"),
        _ => Action::Usual,
    };
    let words = "-m 10 -d -t u{number}@test.example";
    for pipelining in ["auto", "off"] {
        let server = Server::start(refuse);
        let run = run(&format!("{} {words} --pipelining {pipelining}", server.address));
        assert_eq!(run.code, 1, "{:?}", run.output);
        assert_eq!((run.count("acknowledged"), run.count("refused"), run.count("failed")), (7, 3, 0));
        assert_eq!((run.cause("rcpt", 550), run.cause("final", 452)), (2, 1));
        assert_eq!(run.json["errors"].as_u64(), Some(3));
    }
    let server = Server::start(refuse);
    assert_eq!(run(&format!("{} {words} --errors-max 3", server.address)).code, 0);
    let server = Server::start(refuse);
    let early = run(&format!("{} {words} --fail-fast", server.address));
    assert_eq!((early.code, early.count("started")), (1, 3), "{:?}", early.output);
}

#[test]
fn refused_recipients_of_a_delivered_message_are_errors() {
    let server = Server::start(|moment| match moment {
        Moment::Recipient(line) if line.contains("<1user@") => say("550 5.1.1 no"),
        _ => Action::Usual,
    });
    let run = run(&format!("{} -m 2 -r 3 -t user@test.example", server.address));
    assert_eq!((run.code, run.count("acknowledged"), run.count("recipients_refused")), (1, 2, 2));
    assert_eq!(run.cause("rcpt", 550), 2);
}

#[test]
fn a_group_is_no_larger_than_its_replies_can_wait() {
    // 40 MB of commands against 80 MB of replies: whoever writes all of it before it reads meets a server that does the same.
    let reply = format!("250 2.1.5 {}\r\n", "x".repeat(400));
    let server = Server::start(move |moment| match moment {
        Moment::Recipient(_) => Action::Say(reply.clone()),
        _ => Action::Usual,
    });
    let to = format!("{}@test.example", "u".repeat(180));
    for words in ["-m 1", "-m 2 -d --in-flight 2 --mode bdat"] {
        let run = run(&format!("{} {words} -r 200000 -t {to} --timeout 10s", server.address));
        assert_eq!((run.code, run.count("recipients_refused")), (0, 0), "{:?}", run.output);
    }
    assert_eq!(server.taken().len(), 3);
}

#[test]
fn every_recipient_that_lmtp_refuses_at_the_end_is_an_error() {
    // The first of three is taken.
    let server = Server::start(|moment| match moment {
        Moment::Message(_) => Action::Say("250 2.0.0 ok\r\n452 4.2.2 full\r\n550 5.2.1 off\r\n".to_owned()),
        _ => Action::Usual,
    });
    let some = run(&format!("{} -m 4 -d -L -r 3", server.address));
    assert_eq!((some.code, some.count("acknowledged"), some.count("recipients_refused")), (1, 4, 8));
    assert_eq!((some.cause("final", 452), some.cause("final", 550), &some.json["errors"]), (4, 4, &8.into()));
    let server = Server::start(|moment| match moment {
        Moment::Message(_) => Action::Say("452 4.2.2 full\r\n".repeat(3)),
        _ => Action::Usual,
    });
    let none = run(&format!("{} -m 4 -d -L -r 3", server.address));
    assert_eq!((none.count("refused"), none.count("recipients_refused")), (4, 0), "a message is one error");
}

#[test]
fn lost_connections_lose_what_was_under_way_and_no_more() {
    for (action, place, code) in [
        (Action::Close, "connection", 0),
        (say("421 4.3.2 going down"), "closing", 421),
        (say("hello"), "protocol", 0),
        (say("354 go on"), "protocol", 0),
    ] {
        let wanted = action.clone();
        let server = Server::start(move |moment| match moment {
            Moment::Message(3) => wanted.clone(),
            _ => Action::Usual,
        });
        let run = run(&format!("{} -m 8 -d", server.address));
        assert_eq!(run.code, 1, "{:?}", run.output);
        assert_eq!(run.count("acknowledged"), 7, "{action:?}: {:?}", run.output);
        assert_eq!(run.count("refused") + run.count("failed"), 1, "{action:?}");
        assert_eq!(run.cause(place, code), 1, "{action:?}: {:?}", run.output);
        assert_eq!(server.connections(), 2);
    }
}

#[test]
fn refused_greetings() {
    let server = Server::start(|moment| match moment {
        Moment::Connected(0 | 1) => say("554 5.7.1 go away"),
        _ => Action::Usual,
    });
    let run = run(&format!("{} -m 5", server.address));
    assert_eq!((run.code, run.count("acknowledged"), run.count("refused")), (1, 3, 2));
    assert_eq!(run.cause("greeting", 554), 2);
}

#[test]
fn a_silent_server_times_out() {
    let (_keep, block) = mpsc::channel::<()>();
    let block = Mutex::new(block);
    let server = Server::start(move |moment| {
        if *moment == Moment::Message(1) {
            // Until the test is over.
            let _ = block.lock().unwrap().recv();
        }
        Action::Usual
    });
    let run = run(&format!("{} -m 4 -d --timeout 200ms", server.address));
    assert_eq!((run.code, run.count("acknowledged"), run.count("failed")), (1, 3, 1));
    assert_eq!(run.cause("timeout", 0), 1);
}

#[test]
fn a_stall_counts_for_every_message_planned_in_it() {
    // 100 a second, and the server says nothing for 300 ms: 30 messages are planned in the stall. Seen from the single
    // session only one reply was slow.
    let server = Server::start(|moment| {
        if *moment == Moment::Message(0) {
            std::thread::sleep(Duration::from_millis(300));
        }
        Action::Usual
    });
    let run = run(&format!("{} -m 60 -d --rate 100", server.address));
    assert_eq!(run.code, 0, "{:?}", run.output);
    assert!(run.json["open_loop"]["backlog_max"].as_u64().unwrap() >= 20, "{}", run.json["open_loop"]);
    let total = &run.json["latency_us"]["total"];
    // At least 20 of 60 waited 100 ms or longer; the service time of all but one would be far less.
    assert!(total["p90"].as_f64().unwrap() >= 100_000.0, "{total}");
}

#[test]
fn what_is_not_sent_is_reported() {
    let server = Server::start(|moment| {
        if *moment == Moment::Message(0) {
            std::thread::sleep(Duration::from_millis(400));
        }
        Action::Usual
    });
    let run = run(&format!("{} -D 300ms -d --rate 100 --grace 20ms", server.address));
    let not_sent = run.json["open_loop"]["not_sent"].as_u64().unwrap();
    assert_eq!(run.count("started") + not_sent, 30, "{}", run.json);
    assert!(not_sent >= 20);
}

#[test]
fn warmup_is_sent_but_left_out() {
    let server = Server::friendly();
    let run = run(&format!("{} -s 2 -m 40 -d --warmup 100ms --rate 200", server.address));
    let warmup = run.json["warmup_counts"]["acknowledged"].as_u64().unwrap();
    assert_eq!((run.code, run.count("acknowledged"), warmup), (0, 40, 20), "{:?}", run.output);
    assert_eq!(run.json["latency_us"]["total"]["count"].as_u64(), Some(40));
    assert_eq!(server.taken().len(), 60);
}

#[test]
fn interrupted_in_order_with_a_report() {
    let (reached, at_server) = mpsc::channel();
    let (release, block) = mpsc::channel::<()>();
    let block = Mutex::new(block);
    let server = Server::start(move |moment| {
        if *moment == Moment::Message(2) {
            reached.send(()).unwrap();
            let _ = block.lock().unwrap().recv();
        }
        Action::Usual
    });
    let words = format!("{} -D 1h --closed -d --grace 100ms --json -", server.address);
    let child = command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    at_server.recv().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(release);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json["ended_by"], "interrupted");
    assert_eq!(
        (json["counts"]["acknowledged"].as_u64(), json["counts"]["unfinished"].as_u64()),
        (Some(2), Some(1))
    );
}

#[test]
fn acknowledgements_are_on_file_when_the_next_message_comes() {
    let directory = tempfile::tempdir().unwrap();
    let acks = directory.path().join("acks");
    let seen = acks.clone();
    let server = Server::start(move |moment| {
        if let Moment::Message(n) = *moment {
            let lines = fs::read_to_string(&seen).unwrap_or_default().lines().count() as u64;
            assert_eq!(lines, n);
        }
        Action::Usual
    });
    let run = run(&format!("{} -m 20 -d --acks {}", server.address, acks.display()));
    // A failed assertion in the server closes the connection.
    assert_eq!(run.code, 0, "{:?}", run.output);
}

#[test]
fn exit_codes_of_bad_targets_and_bad_words() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let refused = run(&format!("{address} -m 100 -s 4"));
    assert_eq!(refused.code, 3, "{:?}", refused.output);
    assert!(refused.json["ended_by"].as_str().unwrap().contains("cannot be reached"));
    for words in [
        "",
        "-m 1 192.0.2.1:25",
        "-m 1 --nonsense",
        "-m 1 --json /nowhere/at/all",
        "-m 1 --server-pid 4194305",
    ] {
        assert_eq!(command(words).output().unwrap().status.code(), Some(2), "{words}");
    }
}

#[test]
fn missing_chunking_is_told() {
    let server = Server::start(|moment| match moment {
        Moment::Hello => say("250 test.example"),
        _ => Action::Usual,
    });
    let run = run(&format!("{} -m 5 --mode bdat", server.address));
    assert_eq!((run.code, run.count("acknowledged")), (1, 0));
    assert!(run.json["ended_by"].as_str().unwrap().contains("CHUNKING"));
}

#[test]
fn files_and_cpu_figures() {
    let server = Server::friendly();
    let directory = tempfile::tempdir().unwrap();
    let hgrm = directory.path().join("total.hgrm");
    let pid = std::process::id();
    let run = run(&format!("{} -m 50 -d --hgrm {} --server-pid {pid}", server.address, hgrm.display()));
    assert_eq!(run.code, 0, "{:?}", run.output);
    let text = fs::read_to_string(hgrm).unwrap();
    assert!(text.contains("Total count    =           50"), "{text}");
    assert_eq!(run.json["server_cpu"]["messages"].as_u64(), Some(50));
    let banner = directory.path().join("banner.hgrm");
    let words = format!("{} -m 5 --closed --hgrm {} --hgrm-phase", server.address, banner.display());
    assert_eq!(command(&format!("{words} banner")).output().unwrap().status.code(), Some(0));
    assert!(fs::read_to_string(banner).unwrap().contains("Total count    =            5"), "a greeting each");
    assert_eq!(command(&format!("{words} nothing")).output().unwrap().status.code(), Some(2));
    assert_eq!(run.json["schema"].as_u64(), Some(1));
    assert!(run.json["generator_cpu"]["us_per_message"].as_f64().unwrap() > 0.0);
    let table = String::from_utf8(run.output.stderr).unwrap();
    assert!(table.contains("50 messages in") && table.contains("server CPU:"), "{table}");
}
