//! `inrush log` on live, stopped, copied and damaged data directories.

use std::fs;
use std::path::Path;
use std::process::Command;

use inrush_tests::client::{Client, accepted};
use inrush_tests::process::{self, Finished};
use inrush_tests::server::Server;
use inrush_tests::{binary, export};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Mail data that a mailbox file has to be careful with. The last one is in parts: a `From ` line lies across the end of one.
fn bodies() -> Vec<Vec<u8>> {
    let mut long = vec![b'x'; 252 * 1024 - 3];
    long[252 * 1024 - 5..].copy_from_slice(b"\r\n");
    long.extend_from_slice(b"From here\r\n>From there\r\n");
    long.extend(b"0123456789\r\n".repeat(60_000));
    vec![
        b"From first\r\n>From second\r\n>>From third\r\n From no\r\nFromage\r\n".to_vec(),
        b"Subject: x\r\n\r\nlast line without its end".to_vec(),
        b"Subject: x\r\n\r\nbare\nFrom here\rFrom there\r\n\0\xff\r\n".to_vec(),
        b"Subject: x\r\n\r\n\r\n\r\n".to_vec(),
        b"Fro".to_vec(),
        long,
    ]
}

fn inrush(data: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary::inrush());
    command.arg("log").args(&arguments[..1]).arg("--data-dir").arg(data).args(&arguments[1..]);
    process::finish(command)
}

fn deliver(client: &mut Client, from: &str, to: &str, body: &[u8]) -> String {
    client.say(&format!("MAIL FROM:<{from}> BODY=BINARYMIME"), 250);
    client.say(&format!("RCPT TO:<{to}>"), 250);
    client.send(format!("BDAT {} LAST\r\n", body.len()).as_bytes()).unwrap();
    client.send(body).unwrap();
    accepted(&client.expect(250))
}

/// A gateway that has taken [`bodies`]; the ids in order.
fn filled() -> (Server, Vec<String>) {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let senders =
        ["a@one.example", "", "Ann@Two.example", "\"a b\"@one.example", "a@two.example", "b@one.example"];
    let ids = bodies()
        .iter()
        .zip(senders)
        .map(|(body, from)| deliver(&mut client, from, "b@example.com", body))
        .collect();
    (server, ids)
}

fn lines(finished: &Finished) -> Vec<Value> {
    finished
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

const MAILBOX: &str = "
import json, mailbox, re, sys
out = []
for message in mailbox.mbox(sys.argv[1]).iterkeys(): pass
box = mailbox.mbox(sys.argv[1])
for key in box.iterkeys():
    octets = box.get_bytes(key)
    octets = re.sub(rb'(?m)^>(>*From )', rb'\\1', octets)
    out.append({'from': box[key].get_from(), 'octets': octets.hex()})
json.dump(out, sys.stdout)
";

#[test]
fn python_reads_the_mailbox() {
    let (mut server, ids) = filled();
    let file = server.scratch().join("all.mbox");
    let stored = export::all(&server.data());
    server.stop();
    let to = file.display().to_string();
    inrush(&server.data(), &["export", "--format", "mbox", "--to", &to]).succeeded();
    let mut command = process::command("python3", ["-I", "-c", MAILBOX]);
    command.arg(&file);
    let read: Value = serde_json::from_slice(&process::finish(command).succeeded().stdout).unwrap();
    let read = read.as_array().unwrap();
    assert_eq!(read.len(), ids.len());
    let senders = ["a@one.example", "MAILER-DAEMON", "Ann@Two.example", "\"a-b\"@one.example"];
    for (message, sender) in read.iter().zip(senders) {
        assert!(message["from"].as_str().unwrap().starts_with(&format!("{sender} ")), "{message}");
    }
    for (message, id) in read.iter().zip(&ids) {
        let mut expected = Vec::new();
        let mut octets = stored[id].iter().peekable();
        while let Some(&octet) = octets.next() {
            if octet != b'\r' || octets.peek() != Some(&&b'\n') {
                expected.push(octet);
            }
        }
        if !expected.ends_with(b"\n") {
            expected.push(b'\n');
        }
        let hex: String = expected.iter().map(|octet| format!("{octet:02x}")).collect();
        assert!(message["octets"] == hex, "{id}: {} octets", expected.len());
    }
}

const DECODED: &str = "
import base64, json, sys
for line in sys.stdin.buffer:
    message = json.loads(line)
    print(json.dumps({'id': message['id'], 'data': base64.b64decode(message['data'], validate=True).hex()}))
";

#[test]
fn every_octet_is_in_ndjson() {
    let (server, ids) = filled();
    let exported = inrush(&server.data(), &["export", "--format", "ndjson"]).succeeded();
    let messages = lines(&exported);
    assert_eq!(messages[2]["reverse_path"], "Ann@Two.example");
    assert_eq!(messages[2]["recipients"][0]["path"], "b@example.com");
    assert_eq!(
        (&messages[2]["transfer"], &messages[2]["body_type"]),
        (&Value::from("BDAT"), &Value::from("BINARYMIME"))
    );
    assert_eq!(
        (&messages[2]["findings"]["nul"], &messages[2]["findings"]["bare_lf"]),
        (&Value::from(true), &Value::from(true))
    );
    assert!(messages[2]["times"]["connected"].is_string() && messages[2]["tls"].is_null());
    let command = process::command("python3", ["-I", "-c", DECODED]);
    let decoded = lines(&process::finish_with_input(command, &exported.stdout).succeeded());
    for ((message, id), body) in decoded.iter().zip(&ids).zip(bodies()) {
        let hex: String = body.iter().map(|octet| format!("{octet:02x}")).collect();
        assert!(message["id"] == **id && message["data"] == hex, "{id}");
    }
    assert_eq!(decoded.len(), ids.len());
}

#[test]
fn filters() {
    let (server, ids) = filled();
    let listed = |arguments: &[&str]| -> Vec<usize> {
        let messages = lines(&inrush(&server.data(), &[&["list", "--json"], arguments].concat()).succeeded());
        messages.iter().map(|message| ids.iter().position(|id| message["id"] == **id).unwrap()).collect()
    };
    assert_eq!(listed(&["--sender", "@ONE.example"]), [0, 3, 5]);
    assert_eq!(listed(&["--sender", "Ann@two.Example"]), [2]);
    assert!(listed(&["--sender", "ann@two.example"]).is_empty());
    assert_eq!(listed(&["--sender", "<>"]), [1]);
    assert_eq!(listed(&["--id", &ids[4], "--id", &ids[0]]), [4, 0]);
    assert_eq!(listed(&["--id", &ids[4], "--sender", "@one.example"]).len(), 0);
    assert_eq!(listed(&["--since", "1h", "--rcpt-domain", "EXAMPLE.com"]).len(), 6);
    assert!(listed(&["--until", "1h"]).is_empty());
    let all = lines(&inrush(&server.data(), &["list", "--json"]).succeeded());
    let third = all[2]["accepted_at"].as_str().unwrap();
    assert_eq!(listed(&["--since", third]), [2, 3, 4, 5]);
    assert_eq!(listed(&["--until", third]), [0, 1]);
    let log =
        fs::read_dir(server.data()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let per_log: usize =
        log.filter(|name| name.starts_with("arrival-")).map(|name| listed(&["--log", &name]).len()).sum();
    assert_eq!(per_log, 6);
    let unknown = inrush(&server.data(), &["list", "--log", "arrival-fe"]);
    assert!(!unknown.status.success() && unknown.text().contains("arrival-fe"), "{}", unknown.text());
}

#[test]
fn nothing_is_overwritten() {
    let (server, ids) = filled();
    let data = server.data();
    let folder = server.scratch().join("mails");
    let to = folder.display().to_string();
    inrush(&data, &["export", "--to", &to]).succeeded();
    inrush(&data, &["export", "--to", &to]).succeeded();
    assert_eq!(export::read(&folder).len(), ids.len());
    let file = folder.join(format!("{}.eml", ids[1]));
    fs::write(&file, b"something else").unwrap();
    let refused = inrush(&data, &["export", "--to", &to]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.text().contains(&ids[1]), "{}", refused.text());
    assert_eq!(fs::read(&file).unwrap(), b"something else");
    // A file where a directory should be, and the other way round.
    let wrong = inrush(&data, &["export", "--to", &file.display().to_string()]);
    assert!(!wrong.status.success() && wrong.text().contains("cannot be made"), "{}", wrong.text());
    let wrong = inrush(&data, &["export", "--format", "mbox", "--to", &to]);
    assert!(!wrong.status.success() && wrong.text().contains("is a directory"), "{}", wrong.text());
    let wrong = inrush(&data, &["export", "--format", "ndjson", "--to", &file.display().to_string()]);
    assert!(!wrong.status.success() && wrong.text().contains("exists already"), "{}", wrong.text());
    assert_eq!(inrush(&data, &["export"]).status.code(), Some(2));
    assert_eq!(export::read(&folder).len(), ids.len(), "no file was left half");
}

/// `/dev/full` says what a full disk says.
#[test]
fn a_full_disk_is_named() {
    let (server, _) = filled();
    for format in ["mbox", "ndjson"] {
        let full = inrush(&server.data(), &["export", "--format", format, "--to", "/dev/full"]);
        assert_eq!(full.status.code(), Some(1));
        assert!(full.text().contains("No space left on device"), "{}", full.text());
    }
}

/// Whenever the signal comes: the file is there and whole, or not at all.
#[test]
fn an_interrupted_export_leaves_nothing() {
    let (server, _) = filled();
    let mut client = Client::greeted(server.mx());
    let large = b"0123456789\r\n".repeat(1_000_000);
    for _ in 0..4 {
        deliver(&mut client, "a@one.example", "b@example.com", &large);
    }
    let folder = server.scratch().join("interrupted");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("all.mbox");
    let mut command = Command::new(binary::inrush());
    command
        .args(["log", "export", "--format", "mbox", "--data-dir"])
        .arg(server.data())
        .arg("--to")
        .arg(&file);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    process::eventually("it has begun", || fs::read_dir(&folder).unwrap().count() > 0);
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let status = process::wait(&mut child, process::PATIENCE).unwrap();
    let names: Vec<_> = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    if status.success() {
        assert_eq!(names, ["all.mbox"]);
    } else {
        assert!(names.is_empty(), "{status}: {names:?}");
    }
}

/// The directory of the log with mail in it.
fn log_with_mail(data: &Path, id: &str) -> std::path::PathBuf {
    data.join(format!("arrival-{}", id[4..6].to_lowercase()))
}

#[test]
fn verify_names_what_it_finds() {
    let (mut server, ids) = filled();
    server.stop();
    let data = server.data();
    let log = log_with_mail(&data, &ids[0]);
    let verify = |code: i32| {
        let verified = inrush(&data, &["verify", "--json"]);
        assert_eq!(verified.status.code(), Some(code), "{}", verified.text());
        lines(&verified)
    };
    let named = |found: &[Value], finding: &str| {
        found.iter().filter(|line| line["finding"] == finding).cloned().collect::<Vec<_>>()
    };
    assert!(verify(0).iter().all(|line| line["finding"].is_null() || line["finding"] == "gap"));

    // Put aside, but never acknowledged; and nothing of ours.
    let damaged = log.join("damaged");
    fs::create_dir_all(&damaged).unwrap();
    fs::write(damaged.join("tail-0000000000000001-8192.bin"), [1; 4096]).unwrap();
    fs::write(damaged.join("notes.txt"), b"seen").unwrap();
    fs::write(log.join("notes.txt"), b"seen").unwrap();
    let found = verify(0);
    assert_eq!(named(&found, "cut_tail")[0]["octets"], 4096);
    assert_eq!(named(&found, "cut_tail")[0]["damage"], false);
    assert_eq!(named(&found, "other_file").len(), 1);
    // Mail that was acknowledged.
    fs::write(damaged.join("record-0000000000000001-4096.bin"), [1; 4096]).unwrap();
    fs::write(damaged.join("00000000000000aa.seg-1700000000000000"), [1; 100]).unwrap();
    let found = verify(1);
    assert_eq!(named(&found, "quarantined_record")[0]["file"], "damaged/record-0000000000000001-4096.bin");
    assert_eq!(named(&found, "quarantined_segment")[0]["octets"], 100);
    fs::remove_dir_all(&damaged).unwrap();
    verify(0);

    // One octet of a body.
    let segment = fs::read_dir(&log).unwrap().flatten().map(|entry| entry.path()).find(|path| {
        path.extension().is_some_and(|extension| extension == "seg")
            && fs::read(path).unwrap().windows(9).any(|window| window == b"\nbare\nFro")
    });
    let segment = segment.unwrap();
    let whole = fs::read(&segment).unwrap();
    let mut octets = whole.clone();
    let at = octets.windows(9).position(|window| window == b"\nbare\nFro").unwrap();
    octets[at] ^= 1;
    fs::write(&segment, &octets).unwrap();
    let found = verify(1);
    let record = &named(&found, "record")[0];
    assert_eq!(record["id"], *ids[2]);
    assert_eq!(record["file"], segment.file_name().unwrap().to_str().unwrap());
    let offset = usize::try_from(record["offset"].as_u64().unwrap()).unwrap();
    assert!((offset..offset + usize::try_from(record["octets"].as_u64().unwrap()).unwrap()).contains(&at));
    // The others come out, and the exit code tells that one is missing.
    let exported = inrush(&data, &["export", "--format", "ndjson", "--to", "-"]);
    assert_eq!(
        (exported.status.code(), exported.stdout.iter().filter(|octet| **octet == b'\n').count()),
        (Some(1), 5)
    );
    let cat = inrush(&data, &["cat", &ids[2]]);
    assert!(
        cat.status.code() == Some(1) && cat.stdout.is_empty() && cat.text().contains(&ids[2]),
        "{}",
        cat.text()
    );

    // Files of a wrong length, and without a header.
    fs::write(&segment, &whole[..whole.len() - 5000]).unwrap();
    assert_eq!(named(&verify(1), "length")[0]["octets"], 5000);
    octets[..4096].fill(0x55);
    fs::write(&segment, &octets).unwrap();
    assert_eq!(named(&verify(1), "segment").len(), 1);
    fs::write(&segment, &whole).unwrap();
    verify(0);

    // Nobody knows whose segments these are; the other logs are read all the same.
    let meta = fs::read(log.join("log.meta")).unwrap();
    fs::write(log.join("log.meta"), [0x55; 8192]).unwrap();
    assert_eq!(named(&verify(1), "log_meta").len(), 1);
    fs::remove_file(log.join("log.meta")).unwrap();
    assert_eq!(named(&verify(1), "log_meta").len(), 1);
    fs::write(log.join("log.meta"), meta).unwrap();
    verify(0);

    let empty = server.scratch().join("empty");
    fs::create_dir(&empty).unwrap();
    for place in [&empty, &server.scratch().join("nowhere")] {
        assert_eq!(inrush(place, &["verify"]).status.code(), Some(2));
    }
}

/// A part of a body is gone: nothing of that message is written, in any format.
#[test]
fn a_missing_part_leaves_the_message_out() {
    let (mut server, ids) = filled();
    server.stop();
    let data = server.data();
    for file in fs::read_dir(log_with_mail(&data, &ids[5])).unwrap().flatten().map(|entry| entry.path()) {
        let mut octets = fs::read(&file).unwrap();
        if let Some(at) = octets.windows(10).position(|window| window == b">From ther") {
            octets[at + 100_000] ^= 1;
            fs::write(&file, octets).unwrap();
        }
    }
    let mails = server.scratch().join("mails");
    let exported = inrush(&data, &["export", "--to", &mails.display().to_string()]);
    assert_eq!(exported.status.code(), Some(1));
    assert!(exported.text().contains(&ids[5]), "{}", exported.text());
    assert_eq!(export::read(&mails).keys().collect::<Vec<_>>(), ids[..5].iter().collect::<Vec<_>>());
    let mbox = inrush(&data, &["export", "--format", "mbox"]);
    assert_eq!(mbox.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&mbox.stdout).contains("From b@one.example"));
}

#[test]
fn stat_tells_of_segments_and_spares() {
    let (mut server, ids) = filled();
    for live in [true, false] {
        if !live {
            server.stop();
        }
        let stats = lines(&inrush(&server.data(), &["stat", "--json"]).succeeded());
        let sum = |name: &str| stats.iter().map(|stat| stat[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!(sum("messages"), 6);
        assert_eq!(sum("segments"), sum("segments_sealed") + sum("segments_unsealed"));
        assert!(stats[0]["free_bytes"].as_u64().unwrap() > 0 && stats[0]["format_version"] == 1);
        assert_eq!(stats[0]["uuid"].as_str().unwrap().len(), 36);
        let segments = lines(&inrush(&server.data(), &["stat", "--segments", "--json"]).succeeded());
        let states: Vec<_> =
            segments.iter().filter(|one| one["messages"] != 0).map(|one| &one["state"]).collect();
        assert!(states.iter().all(|state| **state == if live { "open" } else { "sealed" }), "{segments:?}");
        assert_eq!(
            segments.iter().map(|one| one["messages"].as_u64().unwrap()).sum::<u64>(),
            ids.len() as u64
        );
        let text = inrush(&server.data(), &["stat"]).succeeded().text();
        assert!(text.contains("total: 6 messages"), "{text}");
    }
}
