//! `inrush-load sink` as a process, against the generator, Postfix's smtp-source and bare sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "the scripted server is for the other tests")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::run;

struct Sink {
    process: Child,
    errors: BufReader<ChildStderr>,
    address: String,
    json: tempfile::NamedTempFile,
}

impl Sink {
    fn start(words: &[&str]) -> Self {
        let json = tempfile::NamedTempFile::new().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_inrush-load"))
            .args(["sink", "127.0.0.1:0", "--json"])
            .arg(json.path())
            .args(words)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(line.contains("listening on 127.0.0.1:"), "{line}");
        Self { process, errors, address, json }
    }

    /// Ends it as a user would; its counters.
    fn end(mut self) -> Value {
        let pid = rustix::process::Pid::from_child(&self.process);
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        self.wait()
    }

    /// Waits until it ends by itself; its counters.
    fn wait(&mut self) -> Value {
        let mut text = String::new();
        self.errors.read_to_string(&mut text).unwrap();
        assert!(self.process.wait().unwrap().success(), "{text}");
        assert!(text.contains("sessions="), "{text}");
        serde_json::from_slice(&fs::read(self.json.path()).unwrap()).unwrap()
    }

    /// Says `lines` in one go and reads until the sink closes.
    fn talk(&self, lines: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(lines.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // After a failed assertion; else it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Codes of the last lines of all replies.
fn codes(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| &line[..3]).collect()
}

#[test]
fn every_mode_of_the_generator_is_served() {
    for words in [&["--cores", "2"][..], &["--engine", "epoll"], &["-e", "-8", "-N"]] {
        let sink = Sink::start(words);
        let mut messages = 0;
        for load in [
            "-m 100 -s 4",
            "-m 100 -s 4 -d --in-flight 4 -r 3",
            "-m 100 -s 4 -d --pipelining off --dot-lines 40",
            "-m 20 -s 2 -d -l mix:2MiB=1,0=1",
            "-m 100 -s 4 -d --mode bdat --in-flight 3",
        ] {
            if words.contains(&"-e") && (load.contains("bdat") || load.contains("in-flight")) {
                continue;
            }
            let run = run(&format!("{} {load}", sink.address));
            assert_eq!(run.code, 0, "{words:?} {load}: {:?}", run.output);
            messages += run.count("acknowledged");
        }
        let json = sink.end();
        assert_eq!(json["messages"], messages, "{json}");
        assert_eq!((json["format"].as_u64(), json["open"].as_u64()), (Some(1), Some(0)));
        // EHLO is one, where it is not known.
        assert_eq!(json["refused_5xx"].as_u64() == Some(0), !words.contains(&"-e"), "{json}");
        assert_eq!(json["commands"]["."], messages);
    }
}

#[test]
fn lmtp_with_a_reply_for_each_recipient() {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(&script, "[[rule]]\non = \".\"\nrecipient = \"1@*\"\nreply = \"452 4.2.2 full\"\n").unwrap();
    let sink = Sink::start(&["-L", "--script", script.path().to_str().unwrap()]);
    let run = run(&format!("{} -m 50 -d -L -r 3 --to {{recipient}}@load.example", sink.address));
    assert_eq!((run.count("acknowledged"), run.cause("final", 452)), (50, 50), "{:?}", run.output);
    assert_eq!((run.code, run.count("recipients_refused"), &run.json["errors"]), (1, 50, &50.into()));
    let json = sink.end();
    assert_eq!((json["messages"].as_u64(), json["recipients"].as_u64()), (Some(50), Some(100)), "{json}");
}

#[test]
fn kept_mail_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    for (option, place, store) in [
        ("-d", at("dump/%H/m."), format!("smtp-sink:{}", at("dump"))),
        ("-D", at("all.%Y"), format!("smtp-sink:{}", at("all."))),
        ("--store", format!("maildir:{}", at("maildir")), format!("maildir:{}", at("maildir"))),
        ("--store", format!("mbox:{}", at("mbox")), format!("mbox:{}", at("mbox"))),
    ] {
        let sink = Sink::start(&[option, &place, "--cores", "2", "-W", "data:1ms"]);
        for load in ["-m 60 -s 4 -d --dot-lines 30 -l uniform:0-9000", "-m 30 -d --mode bdat -r 2"] {
            let words = format!("{} {load} --verify {store} --verify-copies message", sink.address);
            let verified = run(&words);
            assert_eq!(verified.code, 0, "{words}: {}", verified.json["verification"]);
        }
        assert_eq!(sink.end()["messages"], 90);
    }
}

#[test]
fn mail_that_is_kept_stays_when_the_sink_starts_again() {
    let directory = tempfile::tempdir().unwrap();
    let template = directory.path().join("m.").display().to_string();
    let mut names = BTreeSet::new();
    for starts in 1..=3 {
        let sink = Sink::start(&["-d", &template, "--cores", "2"]);
        let run = run(&format!("{} -m 20 -s 4 -d", sink.address));
        assert_eq!(run.count("acknowledged"), 20, "{:?}", run.output);
        sink.end();
        names.extend(fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()));
        assert_eq!(names.len(), starts * 20);
    }
}

#[test]
fn what_is_too_large_to_keep_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("maildir:{}", directory.path().display());
    let sink = Sink::start(&["--store", &store, "--keywords", "CHUNKING"]);
    for mode in ["data", "bdat"] {
        let run = run(&format!("{} -m 1 -l 101MiB --mode {mode}", sink.address));
        assert_eq!((run.count("refused"), run.cause("final", 552)), (1, 1), "{:?}", run.output);
    }
    assert_eq!(sink.end()["messages"], 0);
    assert_eq!(fs::read_dir(directory.path().join("new")).unwrap().count(), 0);
}

#[test]
fn recipients_without_end_are_refused() {
    for words in [&[][..], &["-L"]] {
        let sink = Sink::start(words);
        let lmtp = words.first().unwrap_or(&"");
        let run = run(&format!("{} -m 1 -r 100003 {lmtp}", sink.address));
        assert_eq!((run.count("acknowledged"), run.count("recipients_refused")), (1, 3), "{:?}", run.output);
        assert_eq!((run.cause("rcpt", 452), sink.end()["recipients"].as_u64()), (3, Some(100_000)));
    }
}

#[test]
fn two_listeners_share_the_connections_that_are_allowed() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_inrush-load"))
        .args(["sink", "127.0.0.1:0,127.0.0.1:0", "-m", "1", "--sessions", "2"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(process.stderr.take().unwrap());
    let mut connect = || {
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        line.trim_end().rsplit(' ').next().unwrap().to_owned()
    };
    let addresses = [connect(), connect()];
    let [mut first, mut second] = addresses.map(|address| TcpStream::connect(address).unwrap());
    let mut octet = [0];
    first.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // Either may have come first. The other is greeted when that one is gone.
    let (gone, mut waiting) = (0..200)
        .find_map(|_| {
            if first.read(&mut octet).is_ok() {
                return Some(false);
            }
            second.read(&mut octet).is_ok().then_some(true)
        })
        .map(|is_second| if is_second { (second, first) } else { (first, second) })
        .unwrap();
    assert!(waiting.read(&mut octet).is_err(), "both are served");
    drop(gone);
    waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!((waiting.read(&mut octet).unwrap(), octet), (1, *b"2"));
    drop(waiting);
    assert!(process.wait().unwrap().success());
}

#[test]
fn rules_for_bdat_act_on_the_last_chunk_too() {
    let chunks = "BDAT 2\r\nabBDAT 2 LAST\r\ncd";
    for (words, head, expected) in [
        (&["-f", "bdat"][..], "EHLO x", "500 500"),
        (&["-q", "bdat"], "EHLO x", ""),
        (&["-W", "bdat:1ms"], "EHLO x", "250 250"),
        (&["-f", "."], "EHLO x", "250 500"),
        (&["-L", "-f", "bdat"], "LHLO x", "500 500 500"),
    ] {
        let sink = Sink::start(words);
        let text = sink.talk(&format!(
            "{head}\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n{chunks}QUIT\r\n"
        ));
        let codes = codes(&text)[5..].join(" ");
        let quit = if expected.is_empty() { "" } else { " 221" };
        assert_eq!(codes, format!("{expected}{quit}"), "{words:?}: {text}");
        let taken = u64::from(expected == "250 250");
        assert_eq!(sink.end()["messages"], taken, "{words:?}");
    }
}

#[test]
fn commands_are_refused_as_asked() {
    for (words, lines, expected) in [
        (
            &["-f", "rcpt"][..],
            "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nQUIT\r\n",
            "220 250 250 500 554 221",
        ),
        (
            &["-r", "mail", "-b", "451 4.7.1 try later"],
            "HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n",
            "220 250 451 503 221",
        ),
        (&["-q", "mail"], "EHLO x\r\nMAIL FROM:<a@b>\r\nQUIT\r\n", "220 250"),
        (&["-Q", "rcpt"], "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n", "220 250 250 421"),
        (&["-f", "connect", "-B", "554 5.7.1 not you"], "", "554"),
        (
            &["-f", "."],
            "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
            "220 250 250 250 354 500 221",
        ),
        (&["-A", "1ms"], "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", "220 250 250 250 354 550"),
        (&["-e"], "EHLO x\r\nHELO x\r\nQUIT\r\n", "220 502 250 221"),
        (
            &["--keywords", "SIZE 10"],
            "EHLO x\r\nMAIL FROM:<a@b> SIZE=11\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nmore than ten\r\n.\r\nBDAT 1\r\nQUIT\r\n",
            "220 250 552 250 250 354 552 502 221",
        ),
        (
            &[],
            "EHLO x\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nBDAT 3\r\nabcRSET\r\nNOOP\r\nVRFY x\r\nLHLO x\r\nQUIT\r\n",
            "220 250 250 503 503 250 250 252 502 221",
        ),
        (
            &["-W", "noop:2ms", "-w", "uniform:1ms-2ms", "-H", "1ms"],
            "EHLO x\r\nNOOP\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nQUIT\r\n",
            "220 250 250 250 250 354 250 221",
        ),
    ] {
        let sink = Sink::start(words);
        let text = sink.talk(lines);
        assert_eq!(codes(&text), expected.split(' ').collect::<Vec<_>>(), "{words:?}: {text}");
        sink.end();
    }
}

#[test]
fn shares_of_a_script_follow_the_seed() {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        &script,
        "[[rule]]\non = \"rcpt\"\nrecipient = \"*@bad.example\"\nreply = \"550 5.1.1 unknown\"\n\
         [[rule]]\non = \"mail\"\npercent = 20\ndelay = \"uniform:0ms-2ms\"\nreply = \"451 4.3.0 later\"\n\
         [[rule]]\non = \".\"\npercent = 10\ndisconnect = true\n",
    )
    .unwrap();
    let figures = |seed: &str| {
        let sink = Sink::start(&["--script", script.path().to_str().unwrap(), "--seed", seed]);
        let mixed = run(&format!("{} -m 300 -d", sink.address));
        let bad = run(&format!("{} -m 10 -d --to a@bad.example", sink.address));
        assert_eq!(bad.count("acknowledged"), 0);
        let json = sink.end();
        assert!(bad.cause("rcpt", 550) >= 1 && json["disconnected"].as_u64().unwrap() > 5, "{json}");
        (mixed.cause("mail", 451), mixed.count("failed"))
    };
    let (later, lost) = figures("5");
    assert!((30..90).contains(&later) && (8..50).contains(&lost), "{later} {lost}");
    assert_eq!(figures("5"), (later, lost));
}

#[test]
fn a_stall_and_a_silent_client() {
    let sink = Sink::start(&["--stall", "rcpt", "-t", "300ms"]);
    let stalled = run(&format!("{} -m 1 --timeout 100ms", sink.address));
    assert_eq!((stalled.count("failed"), stalled.cause("timeout", 0)), (1, 1));
    assert_eq!(codes(&sink.talk("EHLO x\r\n")), ["220", "250"], "closed after its timeout");
    let json = sink.end();
    assert_eq!((json["stalled"].as_u64(), json["timed_out"].as_u64()), (Some(1), Some(1)), "{json}");
}

#[test]
fn bounds_end_it() {
    let mut sink = Sink::start(&["-M", "20", "-c"]);
    let loaded = run(&format!("{} -m 20 -s 2", sink.address));
    assert_eq!(loaded.count("acknowledged"), 20);
    assert_eq!(sink.wait()["messages"], 20);

    let mut sink = Sink::start(&["-n", "5", "-m", "1"]);
    let loaded = run(&format!("{} -m 5 -s 3", sink.address));
    assert_eq!((loaded.code, loaded.count("acknowledged")), (0, 5), "one after the other");
    assert_eq!(sink.wait()["sessions"], 5);

    let mut sink = Sink::start(&["--duration", "50ms"]);
    assert_eq!(sink.wait()["sessions"], 0);
}

#[test]
fn smtp_source_is_served() {
    for words in [&["-L"][..], &[]] {
        let sink = Sink::start(words);
        let mut source = Command::new("/usr/sbin/smtp-source");
        source.args(words).args(["-s", "5", "-m", "100", "-l", "3000", "-t", "a@load.example"]);
        let output =
            source.arg(format!("inet:{}", sink.address)).output().expect("smtp-source of Debian's postfix");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(sink.end()["messages"], 100);
    }
}

#[test]
fn wrong_usage() {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(&script, "[[rule]]\non = \"rcpt\"\nrepyl = \"x\"\n").unwrap();
    let script = script.path().to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for words in [
        vec!["127.0.0.1:0", "--script", script],
        vec!["127.0.0.1:0", "-f", "turn"],
        vec!["127.0.0.1:0", "--json", "/nowhere/at/all"],
        vec!["127.0.0.1:0", "--store", "maildir:/proc/none"],
        vec![taken.as_str()],
        vec!["127.0.0.1:0", "--keywords", "STARTTLS"],
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_inrush-load")).arg("sink").args(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
    }
}
