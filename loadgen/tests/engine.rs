//! What a run is made of: profiles, targets, hostile sessions, ramps, the words of smtp-source.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "some of it is for the other tests")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use support::{Action, Moment, Run, Server, command, run};

fn part<'a>(run: &'a Run, parts: &str, name: &str) -> &'a Value {
    let parts = run.json[parts].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name || part["behaviour"] == name).unwrap()
}

#[test]
fn senders_of_a_profile_have_their_shares() {
    let server = Server::friendly();
    let file = tempfile::NamedTempFile::new().unwrap();
    let profile = "description = \"two\"\n\
        [[sender]]\nname = \"small\"\nweight = 3\nlength = 200\nto = \"small@b.example\"\n\
        [[sender]]\nname = \"large\"\nlength = 9000\nrecipients = 4\nmessages_per_connection = \"unlimited\"\nbdat_percent = 50\n";
    fs::write(file.path(), profile).unwrap();
    let run = run(&format!("{} -s 6 -m 80 --profile {}", server.address, file.path().display()));
    assert_eq!((run.code, run.count("acknowledged")), (0, 80), "{:?}", run.output);
    let (small, large) = (part(&run, "senders", "small"), part(&run, "senders", "large"));
    assert_eq!(
        (&small["counts"]["acknowledged"], &large["counts"]["acknowledged"]),
        (&60.into(), &20.into())
    );
    assert_eq!(small["latency_us"]["total"]["count"], 60);
    // Large ones keep their connections: as many as they have sessions, and these are at most a third.
    assert_eq!(small["counts"]["connections"], 60);
    assert!(large["counts"]["connections"].as_u64().unwrap() <= 3);
    let taken = server.taken();
    let sizes: Vec<usize> = taken.iter().map(|(_, body)| body.len()).collect();
    assert_eq!(sizes.iter().filter(|&&octets| octets > 9000).count(), 20, "{sizes:?}");
    assert_eq!(sizes.iter().filter(|&&octets| octets < 1000).count(), 60, "{sizes:?}");
}

#[test]
fn an_unknown_key_of_a_profile_is_told_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "[[sender]]\nweight = 1\nlenght = 5\n").unwrap();
    let run = run(&format!("-m 1 --profile {}", file.path().display()));
    let told = String::from_utf8(run.output.stderr).unwrap();
    assert!(run.code == 2 && told.contains("line 3") && told.contains("`length`"), "{told}");
}

#[test]
fn a_slow_sender_does_not_show_in_the_latencies() {
    let server = Server::friendly();
    let file = tempfile::NamedTempFile::new().unwrap();
    let profile =
        "[[sender]]\nname = \"quick\"\n[[sender]]\nname = \"slow\"\nlength = 300\noctets_per_second = 2000\n";
    fs::write(file.path(), profile).unwrap();
    let run = run(&format!("{} -s 4 -m 8 --profile {}", server.address, file.path().display()));
    assert_eq!((run.code, run.count("acknowledged")), (0, 8), "{:?}", run.output);
    assert_eq!(run.json["latency_us"]["total"]["count"], 4);
    // 700 octets and more at 200 in 100 ms: by its own pace, whatever the server does.
    let slow = part(&run, "senders", "slow");
    assert!(slow["latency_us"]["total"]["min"].as_f64().unwrap() >= 300_000.0, "{slow}");
    assert_eq!(server.taken().len(), 8);
}

#[test]
fn hostile_sessions_are_counted_apart() {
    let server = Server::friendly();
    let all = [
        "garbage",
        "bare-line-feeds",
        "disconnect-in-data",
        "idle",
        "slowloris",
        "unknown-recipients",
        "early-talker",
        "pipelining-unasked",
        "connect-and-reset",
    ];
    let hostile: String = all.iter().map(|name| format!(" --hostile {name}=2")).collect();
    let run = run(&format!("{} -s 2 -D 2s --rate 50{hostile}", server.address));
    assert_eq!((run.code, run.count("acknowledged")), (0, 100), "{:?}", run.output);
    assert_eq!(run.json["errors"], 0);
    assert_eq!(run.json["latency_us"]["total"]["count"], 100);
    for name in all {
        let counts = part(&run, "hostile", name);
        assert!(counts["connections"].as_u64().unwrap() >= 2, "{counts}");
    }
    assert!(part(&run, "hostile", "unknown-recipients")["positive_replies"].as_u64().unwrap() >= 50);
    assert!(part(&run, "hostile", "pipelining-unasked")["messages_accepted"].as_u64().unwrap() >= 2);
    let bare = part(&run, "hostile", "bare-line-feeds");
    assert!(bare["messages_accepted"].as_u64().unwrap() >= 2 && bare["messages_smuggled"] == 0, "{bare}");
    // That server takes bare LF for text and no half message.
    let taken = server.taken();
    assert!(!taken.iter().any(|(_, body)| String::from_utf8_lossy(body).contains("Subject: half")));
    assert_eq!(run.count("connections"), 100);
}

/// Any line with a dot alone ends the mail data here, whatever its line ends.
fn lenient(stream: TcpStream) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut is_data = false;
    input.get_mut().write_all(b"220 old.example\r\n")?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match line.trim_end() {
            "." if is_data => {
                is_data = false;
                "250 taken\r\n"
            }
            _ if is_data => continue,
            "DATA" => {
                is_data = true;
                "354 go\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        input.get_mut().write_all(reply.as_bytes())?;
    }
}

#[test]
fn smuggled_messages_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that breaks off is none of the server's business.
            std::thread::spawn(move || lenient(stream.unwrap()).unwrap_or_default());
        }
    });
    let run = run(&format!("{address} -D 1s --rate 20 --hostile bare-line-feeds=12"));
    assert_eq!((run.code, run.count("acknowledged")), (0, 20), "{:?}", run.output);
    let hostile = part(&run, "hostile", "bare-line-feeds");
    assert!(hostile["messages_smuggled"].as_u64().unwrap() >= 1, "{hostile}");
    let report = String::from_utf8(run.output.stderr).unwrap();
    assert!(report.contains("SMUGGLED"), "{report}");
}

#[test]
fn each_target_has_its_figures() {
    let servers = [Server::friendly(), Server::friendly()];
    let [one, two] = servers.each_ref().map(|server| server.address.to_string());
    let run = run(&format!("{one},{two} -s 4 -m 40 --cores 2"));
    assert_eq!((run.code, run.count("acknowledged")), (0, 40), "{:?}", run.output);
    for (server, address) in servers.iter().zip([&one, &two]) {
        let counts = &part(&run, "targets", address)["counts"];
        assert_eq!(counts["acknowledged"], server.taken().len());
        assert!(counts["acknowledged"].as_u64().unwrap() >= 10, "{counts}");
    }
}

#[test]
fn the_ramp_finds_the_end_of_the_range() {
    let server = Server::friendly();
    let words = "-s 4 -d --ramp 40-80 -D 300ms --warmup 100ms --slo p50=10s --ramp-confirmations 1";
    let run = run(&format!("{} {words}", server.address));
    assert_eq!(run.code, 0, "{:?}", run.output);
    let ramp = &run.json["ramp"];
    assert_eq!((ramp["rate"].as_f64(), &ramp["failed_at"]), (Some(80.0), &Value::Null), "{ramp}");
    let steps = ramp["steps"].as_array().unwrap();
    let rates: Vec<f64> = steps.iter().map(|step| step["rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [40.0, 80.0, 80.0]);
    assert!(steps[2]["confirms"] == true && steps.iter().all(|step| step["holds"] == true), "{ramp}");
    // The figures are those of the two windows at 80 a second: 24 messages each.
    assert_eq!((run.count("started"), run.json["elapsed_s"].as_f64()), (48, Some(0.6)));
    // One connection a session over all steps.
    assert!(server.connections() <= 4, "{}", server.connections());
}

#[test]
fn a_ramp_that_cannot_begin_fails() {
    let server = Server::start(|moment| match moment {
        Moment::Message(_) => Action::Say("452 4.3.1 full\r\n".to_owned()),
        _ => Action::Usual,
    });
    let run = run(&format!("{} -s 2 --ramp 50-100 -D 200ms --warmup 0s", server.address));
    assert_eq!((run.code, &run.json["ramp"]["rate"]), (1, &Value::Null), "{:?}", run.output);
    let report = String::from_utf8(run.output.stderr).unwrap();
    assert!(report.contains("does not hold at 50 a second"), "{report}");
}

#[test]
fn a_stall_fails_the_step() {
    // The second step stalls: what was planned meanwhile and not answered counts, though the answers that came were quick.
    let server = Server::start(|moment| {
        if *moment == Moment::Message(30) {
            std::thread::sleep(Duration::from_millis(700));
        }
        Action::Usual
    });
    let words =
        "-s 1 -d --ramp 50-100 -D 400ms --warmup 100ms --slo p90=200ms --ramp-precision 50 --grace 200ms";
    let run = run(&format!("{} {words}", server.address));
    let steps = run.json["ramp"]["steps"].as_array().unwrap();
    let stalled = steps.iter().find(|step| step["holds"] == false).unwrap_or_else(|| panic!("{steps:?}"));
    assert!(stalled["unanswered"].as_u64().unwrap() > 10, "{stalled}");
}

#[test]
fn a_slow_sender_does_not_fail_a_step() {
    let server = Server::friendly();
    let file = tempfile::NamedTempFile::new().unwrap();
    // The slow ones need half a minute for a message.
    let profile =
        "[[sender]]\nname = \"quick\"\nweight = 9\n[[sender]]\nname = \"slow\"\noctets_per_second = 150\n";
    fs::write(file.path(), profile).unwrap();
    let words = "-s 4 --ramp 40-40 -D 300ms --warmup 0s --slo p50=10s --ramp-confirmations 1 --grace 200ms";
    let run = run(&format!("{} {words} --profile {}", server.address, file.path().display()));
    assert_eq!((run.code, run.json["ramp"]["rate"].as_f64()), (0, Some(40.0)), "{:?}", run.output);
    assert_eq!(
        run.json["latency_us"]["total"]["count"],
        part(&run, "senders", "quick")["counts"]["acknowledged"]
    );
}

#[test]
fn grouped_commands_are_not_told_apart() {
    let server = Server::friendly();
    let grouped = run(&format!("{} -m 10 -d -r 3", server.address));
    let single = run(&format!("{} -m 10 -d -r 3 --pipelining off", server.address));
    let count = |run: &Run, phase: &str| run.json["latency_us"][phase]["count"].as_u64();
    for (phase, grouped_count, single_count) in [
        ("mail", None, Some(10)),
        ("rcpt", None, Some(30)),
        ("data", None, Some(10)),
        ("mail+rcpt", Some(10), Some(10)),
        ("body", Some(10), Some(10)),
    ] {
        assert_eq!((count(&grouped, phase), count(&single, phase)), (grouped_count, single_count), "{phase}");
    }
}

#[test]
fn words_of_smtp_source() {
    let recipients: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&recipients);
    let server = Server::start(move |moment| {
        if let Moment::Recipient(line) = moment {
            seen.lock().unwrap().push(line.clone());
        }
        Action::Usual
    });
    let run = run(&format!("inet:{} -s 3 -m 20 -r 2 -N -S sale -w 1ms -d -t u@b.example -4", server.address));
    assert_eq!(run.code, 0, "{:?}", run.output);
    let recipients = recipients.lock().unwrap();
    let different: BTreeSet<&String> = recipients.iter().collect();
    assert_eq!((recipients.len(), different.len()), (40, 40), "{recipients:?}");
    assert!(
        server
            .taken()
            .iter()
            .all(|(_, body)| String::from_utf8_lossy(body).contains("\r\nSubject: sale\r\n"))
    );
}

#[test]
fn a_file_is_sent_as_it_is() {
    let server = Server::friendly();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "Subject: x\n\n.dot\n..\nlast").unwrap();
    let words = format!("{} -m 5 -R 1ms -d -F {}", server.address, file.path().display());
    assert_eq!(run(&words).code, 0);
    assert_eq!(run(&format!("{words} --mode bdat")).code, 0);
    let taken = server.taken();
    assert_eq!(taken.len(), 10);
    assert!(taken.iter().all(|(_, body)| body == b"Subject: x\r\n\r\n.dot\r\n..\r\nlast\r\n"), "{taken:?}");
}

#[test]
fn connections_come_from_the_addresses_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peers = std::thread::spawn(move || {
        let mut peers = BTreeSet::new();
        for _ in 0..4 {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(b"421 4.3.2 not now\r\n").unwrap();
            peers.insert(peer.ip().to_string());
        }
        peers
    });
    let run = run(&format!("{address} -m 4 --source-address 127.0.0.2,127.0.0.3"));
    assert_eq!((run.code, run.cause("greeting", 421)), (1, 4), "{:?}", run.output);
    let peers = peers.join().unwrap();
    assert_eq!(peers.into_iter().collect::<Vec<_>>(), ["127.0.0.2", "127.0.0.3"]);
}

#[test]
fn a_server_that_comes_later_is_waited_for() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = command(&format!("{address} -m 1 -C 200 --connect-rate 1000"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Bound only now; a try or more was refused before, or none: both must end well.
    let server = Server::at(address);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), server.taken().len()), (Some(0), 1));
}

#[test]
fn the_generator_says_how_busy_it_was() {
    let server = Server::friendly();
    let run = run(&format!("{} -s 2 -D 500ms --rate 100 -d", server.address));
    assert_eq!(run.code, 0, "{:?}", run.output);
    let limit = &run.json["generator_limit"];
    let thread = &limit["threads"][0];
    assert!((0.0..=1.5).contains(&thread["busy"].as_f64().unwrap()), "{limit}");
    assert!(thread["late_max_us"].as_f64().unwrap() >= thread["late_p99_us"].as_f64().unwrap(), "{limit}");
    assert_eq!(limit["limited"].as_bool().unwrap(), !limit["reasons"].as_array().unwrap().is_empty());
    assert_eq!(run.json["pace"]["loop"], "open");
}

#[test]
fn too_many_sessions_for_the_open_files() {
    let mut limited = std::process::Command::new("prlimit");
    limited.args(["--nofile=100:100", env!("CARGO_BIN_EXE_inrush-load"), "run", "-m", "1", "-s", "200"]);
    let output = limited.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && told.contains("200 sessions need 264 open files"), "{told}");
}
