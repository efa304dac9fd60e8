//! How a run ends: what is planned in the last moment, servers that never come to an end of a reply, where the windows of the meters end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "some of it is for the other tests")]
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use support::{Action, Moment, Server, run};

#[test]
fn a_short_queue_at_the_end_is_sent_and_its_wait_counts() {
    // 100 a second for 300 ms; from the 26th message on the server stalls until behind the end.
    let server = Server::start(|moment| {
        if *moment == Moment::Message(25) {
            thread::sleep(Duration::from_millis(200));
        }
        Action::Usual
    });
    let run = run(&format!("{} -D 300ms -d --rate 100", server.address));
    assert_eq!((run.code, run.count("acknowledged")), (0, 30), "{:?}", run.output);
    assert_eq!(run.json["open_loop"]["not_sent"], 0, "{}", run.json["open_loop"]);
    assert!(run.json["open_loop"]["backlog_max"].as_u64().unwrap() >= 3, "{}", run.json["open_loop"]);
    // What was planned in the stall waited for its end.
    assert!(run.json["latency_us"]["total"]["p99"].as_f64().unwrap() >= 200_000.0);
}

#[test]
fn what_slow_sessions_leave_over_is_told_apart() {
    let server = Server::friendly();
    let file = tempfile::NamedTempFile::new().unwrap();
    let profile =
        "[[sender]]\nname = \"quick\"\n[[sender]]\nname = \"slow\"\nlength = 300\noctets_per_second = 2000\n";
    fs::write(file.path(), profile).unwrap();
    let words = format!("-s 4 -D 500ms --rate 80 --grace 300ms --profile {}", file.path().display());
    let run = run(&format!("{} {words}", server.address));
    let open = &run.json["open_loop"];
    assert_eq!((run.code, &open["not_sent"]), (0, &0.into()), "{open}: {:?}", run.output);
    assert!(open["not_sent_own_pace"].as_u64().unwrap() > 0, "{open}");
    let report = String::from_utf8(run.output.stderr).unwrap();
    assert!(report.contains("never sent by slow or thinking senders"), "{report}");
}

/// Answers each line at once, but says the final reply octet by octet, each within the timeout.
fn dribble(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    let mut is_data = false;
    input.get_mut().write_all(b"220 drip.example\r\n")?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match line.as_str() {
            ".\r\n" => {
                for _ in 0..400 {
                    input.get_mut().write_all(b"250-x\r\n")?;
                    thread::sleep(Duration::from_millis(20));
                }
                return Ok(());
            }
            _ if is_data => continue,
            "DATA\r\n" => {
                is_data = true;
                "354 go\r\n"
            }
            _ => "250 ok\r\n",
        };
        input.get_mut().write_all(reply.as_bytes())?;
    }
}

#[test]
fn a_part_of_a_reply_does_not_put_off_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that gives up is what is wanted.
            thread::spawn(move || dribble(stream.unwrap()).unwrap_or_default());
        }
    });
    let run = run(&format!("{address} -m 2 -s 2 --timeout 300ms"));
    assert_eq!((run.code, run.count("failed"), run.cause("timeout", 0)), (1, 2, 2), "{:?}", run.output);
}

#[test]
fn a_server_that_is_slow_without_end_does_not_hold_up_the_end() {
    // Every reply in time, 200 of them: the message alone would take 20 s.
    let server = Server::start(|moment| {
        if let Moment::Recipient(_) = moment {
            thread::sleep(Duration::from_millis(100));
        }
        Action::Usual
    });
    let words = "-D 200ms --closed -d -r 200 --pipelining off --timeout 1s --grace 100ms";
    let run = run(&format!("{} {words}", server.address));
    assert_eq!((run.code, run.count("failed"), run.cause("timeout", 0)), (1, 1, 1), "{:?}", run.output);
    let report = String::from_utf8(run.output.stderr).unwrap();
    assert!(report.contains("the run is over for longer than --timeout and --grace"), "{report}");
}

#[test]
fn cpu_time_is_taken_over_the_window_only() {
    // The fourth message is answered long after the end of the window.
    let server = Server::start(|moment| {
        if *moment == Moment::Message(3) {
            thread::sleep(Duration::from_millis(1500));
        }
        Action::Usual
    });
    let pid = std::process::id();
    let run = run(&format!("{} -D 500ms --closed -d --server-pid {pid}", server.address));
    assert_eq!((run.code, run.count("acknowledged")), (0, 4), "{:?}", run.output);
    // One may be answered before the counters are first read.
    for who in ["server_cpu", "generator_cpu"] {
        let messages = run.json[who]["messages"].as_u64().unwrap();
        assert!((1..=3).contains(&messages), "{}", run.json[who]);
    }
}

#[test]
fn cpu_time_of_a_ramp_is_that_of_the_windows_at_the_rate_found() {
    let server = Server::friendly();
    let pid = std::process::id();
    let words = "-s 4 -d --ramp 40-80 -D 300ms --warmup 300ms --slo p50=10s --ramp-confirmations 1";
    let run = run(&format!("{} {words} --server-pid {pid}", server.address));
    assert_eq!((run.code, run.json["ramp"]["rate"].as_f64()), (0, Some(80.0)), "{:?}", run.output);
    // Two windows of 24 messages; with warm-ups and the step at 40 a second there were 120.
    let messages = run.json["server_cpu"]["messages"].as_u64().unwrap();
    assert!((30..100).contains(&messages), "{messages}");
}
