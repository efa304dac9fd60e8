//! `inrush log export --cursor`: increments, what they owe the log, and what the log owes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use inrush_tests::client::{Client, accepted};
use inrush_tests::http::Samples;
use inrush_tests::process::{self, Finished, PATIENCE, eventually};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, export};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

const NAME: &str = "archive";

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::inrush());
    command.arg("log").args(&arguments[..1]).arg("--data-dir").arg(data).args(&arguments[1..]);
    command
}

fn inrush(data: &Path, arguments: &[&str]) -> Finished {
    process::finish(command(data, arguments))
}

/// One increment as NDJSON into a fresh file; the ids in it.
fn increment(data: &Path, to: &Path, options: &[&str]) -> (Finished, Vec<String>) {
    let arguments = ["export", "--format", "ndjson", "--cursor", NAME, "--to", to.to_str().unwrap()];
    let finished = inrush(data, &[&arguments, options].concat());
    let text = fs::read_to_string(to).unwrap_or_default();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    (finished, text.lines().map(id).collect())
}

fn deliver(client: &mut Client, body: &[u8]) -> String {
    client.say("MAIL FROM:<a@one.example>", 250);
    client.say("RCPT TO:<b@example.com>", 250);
    client.send(format!("BDAT {} LAST\r\n", body.len()).as_bytes()).unwrap();
    client.send(body).unwrap();
    accepted(&client.expect(250))
}

fn text(octets: usize) -> Vec<u8> {
    b"0123456789\r\n".repeat(octets / 12)
}

fn stats(data: &Path) -> Vec<Value> {
    let stat = inrush(data, &["stat", "--json"]).succeeded().text();
    stat.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The cursor files of all logs.
fn cursors(data: &Path) -> Vec<PathBuf> {
    let logs = fs::read_dir(data).unwrap().flatten().map(|entry| entry.path());
    logs.map(|log| log.join(format!("cursor.{NAME}"))).filter(|file| file.exists()).collect()
}

#[test]
fn three_increments_hold_each_message_once() {
    let server = Server::start();
    let (data, scratch) = (server.data(), server.scratch());
    let mut exported: BTreeMap<String, u32> = BTreeMap::new();
    let (mut sent, mut files) = (BTreeSet::new(), 0);
    for round in 0..3 {
        let mut client = Client::greeted(server.mx());
        // Small ones, and one in parts.
        sent.extend((0..5).map(|_| deliver(&mut client, &text(1200))));
        sent.insert(deliver(&mut client, &text(600_000)));
        eventually("what was acknowledged is proven to be durable, and exported", || {
            files += 1;
            let (finished, ids) = increment(&data, &scratch.join(format!("{files}.ndjson")), &[]);
            finished.succeeded();
            ids.into_iter().for_each(|id| *exported.entry(id).or_default() += 1);
            exported.len() == sent.len()
        });
        assert!(exported.keys().eq(&sent) && exported.values().all(|times| *times == 1), "round {round}");
    }
    // Nothing new is nothing, in every form.
    let mbox = scratch.join("nothing.mbox");
    inrush(&data, &["export", "--format", "mbox", "--cursor", NAME, "--to", mbox.to_str().unwrap()])
        .succeeded();
    assert_eq!(fs::metadata(mbox).unwrap().len(), 0);
    // Another consumer begins at the first message.
    let mails = scratch.join("mails");
    inrush(&data, &["export", "--cursor", "other", "--to", mails.to_str().unwrap()]).succeeded();
    assert!(export::read(&mails).keys().eq(&sent));
    for stat in stats(&data) {
        let consumers = stat["consumers"].as_array().unwrap();
        assert_eq!((consumers.len(), &consumers[0]["name"]), (2, &Value::from(NAME)), "{stat}");
        assert_eq!((&consumers[0]["kind"], &consumers[0]["lag_octets"]), (&"best_effort".into(), &0.into()));
    }
    let shown = inrush(&data, &["stat"]).succeeded().text();
    assert!(shown.contains("consumer archive, best_effort, at LSN "), "{shown}");
}

/// Whenever it is killed: the next export brings what is missing.
#[test]
fn a_killed_export_is_made_up_for() {
    let mut server = Server::start();
    let mut client = Client::greeted(server.mx());
    let mut sent: BTreeSet<String> = (0..30).map(|_| deliver(&mut client, &text(1_000_000))).collect();
    let (data, mails) = (server.data(), server.scratch().join("mails"));
    let arguments = ["export", "--cursor", NAME, "--to", mails.to_str().unwrap()];
    for files in [0, 3, 20] {
        let mut child = command(&data, &arguments).stderr(Stdio::null()).spawn().unwrap();
        eventually("it has written so many files, or ended", || {
            let written = fs::read_dir(&mails).map_or(0, Iterator::count);
            written > files || child.try_wait().unwrap().is_some()
        });
        child.kill().unwrap();
        process::wait(&mut child, PATIENCE).unwrap();
        sent.insert(deliver(&mut client, &text(2400)));
    }
    drop(client);
    // A stopped log is sealed, so all of it is proven to be durable.
    server.stop();
    inrush(&data, &arguments).succeeded();
    // What was half written when it was killed lies beside.
    let names = fs::read_dir(&mails).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let whole: BTreeSet<String> =
        names.filter_map(|name| Some(name.strip_suffix(".eml")?.to_owned())).collect();
    assert_eq!(whole, sent);
    let (finished, again) = increment(&data, &server.scratch().join("again.ndjson"), &[]);
    finished.succeeded();
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn segments_stay_until_a_required_consumer_has_them() {
    let limits = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\"", "retention_bytes = \"1MiB\""];
    let server = Server::with(Settings::default().log(&limits));
    let (data, scratch) = (server.data(), server.scratch());
    // Before there is any mail: from here on nothing goes unexported.
    increment(&data, &scratch.join("0.ndjson"), &["--required"]).0.succeeded();
    let mut client = Client::greeted(server.mx());
    let sent: BTreeSet<String> = (0..60).map(|_| deliver(&mut client, &text(100_000))).collect();
    let lag = |samples: &Samples| samples.sum("inrush_log_consumer_lag_bytes", &["route=\"archive\""]);
    let retired = |samples: &Samples| samples.sum("inrush_log_segments_retired_total", &[]);
    // One look of the gateway counts the cursors, retires and tells both figures.
    eventually("the gateway has seen how far the consumer is behind", || {
        let samples = Samples::scrape(server.admin());
        assert!(retired(&samples) < 1.0, "a segment went before it was exported");
        lag(&samples) > 5e6
    });
    let (mut exported, mut files) = (BTreeSet::new(), 0);
    eventually("everything is exported", || {
        files += 1;
        let (finished, ids) = increment(&data, &scratch.join(format!("{files}.ndjson")), &["--required"]);
        finished.succeeded();
        exported.extend(ids);
        exported.len() == sent.len()
    });
    assert_eq!(exported, sent);
    eventually("what was exported is gone", || {
        let samples = Samples::scrape(server.admin());
        let consumed = samples.sum("inrush_log_segments_retired_total", &["reason=\"consumed\""]);
        consumed >= 4.0 && lag(&samples) < 1e6
    });
    let left = inrush(&data, &["list"]).succeeded().text().lines().count();
    assert!(left < sent.len(), "{left} messages are still listed");
}

#[test]
fn what_cannot_be_is_refused() {
    let server = Server::start();
    deliver(&mut Client::greeted(server.mx()), &text(1200));
    let (data, scratch) = (server.data(), server.scratch());
    let refused = |arguments: &[&str], status: i32, why: &str| {
        let finished =
            inrush(&data, &[&["export", "--cursor", NAME, "--format", "ndjson"], arguments].concat());
        assert!(
            finished.status.code() == Some(status) && finished.text().contains(why),
            "{arguments:?}: {}",
            finished.text()
        );
    };
    let file = scratch.join("all.ndjson").display().to_string();
    refused(&["--to", "-"], 2, "not to standard output");
    refused(&[], 2, "--to <PATH>");
    refused(&["--to", "/dev/null"], 1, "--cursor needs a file");
    for filter in [["--since", "1h"], ["--sender", "<>"], ["--rcpt-domain", "example.com"]] {
        refused(&[&["--to", &file][..], &filter].concat(), 2, "cannot be used with");
    }
    assert!(cursors(&data).is_empty(), "nothing of all this has made a cursor");
    let alone = inrush(&data, &["export", "--format", "ndjson", "--to", &file, "--required"]);
    assert!(alone.status.code() == Some(2) && alone.text().contains("--cursor <NAME>"), "{}", alone.text());

    increment(&data, Path::new(&file), &[]).0.succeeded();
    let other = scratch.join("other.ndjson").display().to_string();
    refused(&["--to", &other, "--required"], 1, "belongs to a best_effort consumer");
    let cursor = File::open(&cursors(&data)[0]).unwrap();
    flock(&cursor, FlockOperation::NonBlockingLockExclusive).unwrap();
    refused(&["--to", &other], 1, "in use by another process");
    drop(cursor);
    fs::write(&cursors(&data)[0], [0x55; 8192]).unwrap();
    refused(&["--to", &other], 1, "remove the file to let this consumer begin at the first message again");
    let damaged = stats(&data).into_iter().find(|stat| !stat["consumers"][0]["error"].is_null());
    assert!(damaged.is_some_and(|stat| stat["consumers"][0]["kind"].is_null()));
    let shown = inrush(&data, &["stat"]).succeeded().text();
    assert!(shown.contains("consumer archive, cursor is damaged and keeps every segment"), "{shown}");
    assert!(!Path::new(&other).exists(), "a refused export leaves no file");
}

#[test]
fn a_cursor_passes_damage_only_when_told() {
    let mut server = Server::start();
    let mut client = Client::greeted(server.mx());
    let ids: Vec<String> = (0..3)
        .map(|number| deliver(&mut client, format!("Subject: number {number}\r\n").as_bytes()))
        .collect();
    drop(client);
    server.stop();
    let (data, scratch) = (server.data(), server.scratch());
    let logs = fs::read_dir(&data).unwrap().flatten().filter(|log| log.path().is_dir());
    for file in logs.flat_map(|log| fs::read_dir(log.path()).unwrap().flatten()) {
        let mut octets = fs::read(file.path()).unwrap_or_default();
        if let Some(at) = octets.windows(8).position(|window| window == b"number 1") {
            octets[at] ^= 1;
            fs::write(file.path(), octets).unwrap();
        }
    }
    let exported = |to: &str, options: &[&str]| {
        let (finished, found) = increment(&data, &scratch.join(to), options);
        (finished.status.code(), finished.text().contains(&ids[1]), found)
    };
    assert_eq!(exported("1", &[]), (Some(1), true, vec![ids[0].clone()]));
    assert_eq!(exported("2", &[]), (Some(1), true, vec![]));
    assert_eq!(exported("3", &["--skip-damaged"]), (Some(1), true, vec![ids[2].clone()]));
    assert_eq!(exported("4", &[]), (Some(0), false, vec![]));
}

/// Nobody knows whose segments these are; the other log is read all the same.
#[test]
fn a_log_without_its_meta_is_left_out() {
    let mut settings = Settings::default();
    settings.top.push("cores = 2".to_owned());
    let mut server = Server::with(settings);
    let id = deliver(&mut Client::greeted(server.mx()), &text(1200));
    server.stop();
    let data = server.data();
    let lost = if &id[4..6] == "00" { "arrival-01" } else { "arrival-00" };
    let meta = data.join(lost).join("log.meta");
    let left_out = |arguments: &[&str], expected: &str| {
        let finished = inrush(&data, arguments);
        let (out, told) = (&finished.stdout, String::from_utf8_lossy(&finished.stderr));
        assert_eq!(finished.status.code(), Some(1), "{arguments:?}: {}", finished.text());
        assert!(
            String::from_utf8_lossy(out).contains(expected) && told.contains(lost),
            "{}",
            finished.text()
        );
    };
    for damage in [true, false] {
        if damage {
            fs::write(&meta, [0x55; 8192]).unwrap();
        } else {
            fs::remove_file(&meta).unwrap();
        }
        left_out(&["list"], &id);
        left_out(&["stat"], "total: 1 messages");
        left_out(&["export", "--format", "ndjson"], &id);
    }
    let none = inrush(&data, &["list", "--log", lost]);
    assert!(none.status.code() == Some(1) && none.text().contains("no log in it that can be read"));
}
