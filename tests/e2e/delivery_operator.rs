//! What an operator does to the queue, and what must not come of it: who is meant, who is told, what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, http, process};
use serde_json::Value;

use crate::delivery::{
    Between, SENDER, domain, outcome, route, send, settings, simple, smarthost, smarthost_by, text,
};
use crate::delivery_queue::{entries, ids, inrush, nobody, queue, stdout};

/// Attempts that come by themselves only when the test is over.
const SLOW: &str = "[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\nkeep_delivered = \"1d\"\n";

/// The header that a change needs.
const OURS: &str = "X-Inrush: 1\r\n";

/// Recipients that wait, sorted.
fn waiting(server: &Server) -> Vec<String> {
    let entries = entries(server, &[]);
    let recipients = entries.iter().flat_map(|entry| entry["recipients"].as_array().unwrap());
    let mut waiting: Vec<_> = recipients.map(|path| path.as_str().unwrap().to_owned()).collect();
    waiting.sort();
    waiting
}

#[test]
fn a_domain_means_the_recipients_in_it_alone() {
    let address = nobody();
    let server = smarthost(address, SLOW);
    // The smarthost takes every domain: all of them wait together.
    let id = simple(&server, "x", &["a@one.example", "b@two.example", "c@three.example", "d@four.example"]);
    process::eventually("they wait", || entries(&server, &[]).len() == 1);
    queue(&server, &["delete", "--domain", "one.example", "--yes"]);
    assert_eq!(waiting(&server), ["b@two.example", "c@three.example", "d@four.example"]);
    queue(&server, &["hold", "--domain", "two.example"]);
    let held = entries(&server, &[]).into_iter().filter(|entry| entry["state"] == "hold");
    let held: Vec<_> = held.map(|entry| entry["recipients"].clone()).collect();
    assert_eq!(held, [serde_json::json!(["b@two.example"])]);
    queue(&server, &["bounce", "--domain", "three.example", "--yes"]);
    outcome(&server, &id, "c@three.example", "bounced");
    let peer = Peer::start_at(address, Script::smtp());
    queue(&server, &["flush", "--all"]);
    outcome(&server, &id, "d@four.example", "sent");
    queue(&server, &["release", "--domain", "two.example"]);
    outcome(&server, &id, "b@two.example", "sent");
    let messages = peer.messages();
    let accepted: BTreeSet<_> = messages.iter().flat_map(|message| message.accepted()).collect();
    // The report to the sender took the same way.
    assert_eq!(accepted, ["b@two.example", "d@four.example", SENDER].into());
}

#[test]
fn what_is_returned_goes_to_its_sender() {
    let later = Script::smtp().on(Stage::Mail, Answer::reply("450 4.7.1 later"));
    let between = Between::with(later, "", SLOW);
    let server = &between.server;
    let id = simple(server, "x", &["a@one.example", "b@one.example"]);
    outcome(server, &id, "a@one.example", "deferred");
    process::eventually("it waits", || entries(server, &[]).len() == 1);
    assert_eq!(queue(server, &["bounce", &id, "--yes"]).trim(), "bounce: 1 of 1 entries");
    outcome(server, &id, "a@one.example", "bounced");
    let report = between.report();
    assert_eq!(report.recipients(), 2);
    assert_eq!(report.of_recipient("b@one.example", "status"), "5.0.0");
    assert!(report.words().contains("returned by the operator"), "{}", report.words());
    process::eventually("nothing waits", || entries(server, &[]).is_empty());
}

#[test]
fn changes_that_would_not_be_what_they_seem_are_refused() {
    let server = smarthost(nobody(), SLOW);
    simple(&server, "x", &["a@one.example"]);
    process::eventually("it waits", || entries(&server, &[]).len() == 1);
    let delete = "/api/v1/queue/delete?domain=one.example";
    let refused = http::post(server.admin(), delete, "");
    assert_eq!(refused.status, 403, "{}", refused.body);
    for arguments in [&["delete", "--yes"][..], &["delete", "--all", "--yes", "--data-dir", "."]] {
        let finished = process::finish(inrush(&[&["queue"], arguments].concat()));
        assert_eq!(finished.status.code(), Some(2), "{}", finished.text());
    }
    // A bound that is not kept would delete more than was asked for.
    for path in ["/api/v1/queue/delete?all=true&limit=1", "/api/v1/replay?route=next&domain=x&limit=1"] {
        let refused = http::post(server.admin(), path, OURS);
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(refused.body.contains("limit"), "{}", refused.body);
    }
    assert_eq!(waiting(&server), ["a@one.example"]);
    let done = http::post(server.admin(), delete, OURS);
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(waiting(&server), [""; 0]);
}

#[test]
fn without_a_route_there_is_no_queue() {
    let server = Server::start();
    let answer = http::get(server.admin(), "/api/v1/queue");
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(answer.body.contains("no route is set"), "{}", answer.body);
}

/// The reply to MAIL, as soon as the test lets it.
fn held_back() -> Answer {
    Answer::hold().then(Answer::reply("250 2.1.0 ok"))
}

/// A gateway with a slow host: one connection, and a peer that lets the first message wait. Three more wait behind it in memory.
fn behind_a_slow_host(peer: &Peer) -> (Server, Vec<String>) {
    let server = smarthost_by(peer.address(), "connections_max = 1\n", SLOW);
    let first = simple(&server, "a", &["a@a.example"]);
    peer.wait_for_held(1);
    let others = ["b", "c", "d"].map(|name| simple(&server, name, &[&format!("{name}@{name}.example")]));
    process::eventually("all of them are in the queue", || entries(&server, &[]).len() == 4);
    (server, [vec![first], others.to_vec()].concat())
}

#[test]
fn mail_in_memory_for_a_slow_host_can_be_steered() {
    // Without PIPELINING nothing of the next message is sent while the reply to one is awaited.
    let peer = Peer::start(Script::smtp().extensions(&["8BITMIME"]).on(Stage::Mail, held_back()));
    let (server, all) = behind_a_slow_host(&peer);
    let listed = entries(&server, &["--route", "next"]);
    let known: BTreeSet<_> = ids(&listed).into_iter().collect();
    assert_eq!(
        known,
        all[1..].iter().cloned().collect(),
        "only the ways of those are known that are in no dialog"
    );
    assert!(listed.iter().all(|entry| entry["state"] == "active" && entry["route"] == "next"), "{listed:?}");

    assert_eq!(queue(&server, &["hold", &all[3]]).trim(), "hold: 1 of 1 entries");
    assert_eq!(
        queue(&server, &["delete", "--domain", "c.example", "--yes"]).trim(),
        "delete: 1 of 1 entries"
    );
    let state = |id: &String| entries(&server, &[id]).first().map(|entry| entry["state"].clone());
    let states: Vec<_> = all.iter().map(state).collect();
    let [active, hold] = ["active", "hold"].map(|state| Some(Value::from(state)));
    assert_eq!(states, [active.clone(), active, None, hold], "the others stay as they are");
    // What is in a dialog is found, and left alone.
    assert_eq!(queue(&server, &["delete", "--all", "--yes"]).trim(), "delete: 2 of 3 entries");
    peer.release_all();
    outcome(&server, &all[0], "a@a.example", "sent");
    process::eventually("nothing waits", || entries(&server, &[]).is_empty());
    assert_eq!(peer.messages().len(), 1);
}

#[test]
fn mail_in_memory_is_returned_on_request() {
    let peer = Peer::start(Script::smtp().extensions(&["8BITMIME"]).on(Stage::Mail, held_back()));
    let (server, all) = behind_a_slow_host(&peer);
    assert_eq!(queue(&server, &["bounce", "--route", "next", "--yes"]).trim(), "bounce: 3 of 3 entries");
    for (id, name) in all[1..].iter().zip(["b", "c", "d"]) {
        outcome(&server, id, &format!("{name}@{name}.example"), "bounced");
    }
}

/// `inrush log replay` by the route `next`: what it says, and whether it has done it.
fn replay(server: &Server, arguments: &[&str]) -> (bool, String) {
    let mut command = inrush(&["log", "replay", "--route", "next"]);
    command.args(arguments).arg("--admin").arg(server.admin().to_string());
    let finished = process::finish(command);
    (finished.status.success(), finished.text())
}

#[test]
fn a_replay_does_not_undo_what_somebody_has_decided() {
    let server = smarthost(nobody(), SLOW);
    let [deleted, held, _] =
        ["a", "b", "c"].map(|name| simple(&server, name, &[&format!("{name}@one.example")]));
    process::eventually("all of them wait", || entries(&server, &[]).len() == 3);
    queue(&server, &["delete", &deleted, "--yes"]);
    queue(&server, &["hold", &held]);

    // What the question says is what would be done; without a terminal it is not asked.
    let (done, told) = replay(&server, &["--since", "1d"]);
    assert!(
        !done && told.contains("deliver 1 messages once more, to 1 recipients, by route next?"),
        "{told}"
    );
    let (_, told) = replay(&server, &["--since", "1d", "--yes"]);
    assert!(told.contains("1 recipients are owed again"), "{told}");
    assert_eq!(waiting(&server), ["b@one.example", "c@one.example"]);
    assert_eq!(entries(&server, &[&held])[0]["state"], "hold");
    let (_, told) = replay(&server, &["--since", "1d", "--held", "--yes"]);
    assert!(told.contains("2 recipients are owed again"), "{told}");
    assert_ne!(entries(&server, &[&held])[0]["state"], "hold");
    // Who names it means it.
    let (_, told) = replay(&server, &["--id", &deleted, "--yes"]);
    assert!(told.contains("1 recipients are owed again"), "{told}");
    assert_eq!(waiting(&server), ["a@one.example", "b@one.example", "c@one.example"]);
    let (done, told) = replay(&server, &["--route", "nowhere", "--id", &deleted, "--yes"]);
    assert!(!done, "{told}");
}

#[test]
fn a_list_says_when_it_is_not_everything() {
    let server = smarthost(nobody(), SLOW);
    for name in ["a", "b"] {
        simple(&server, name, &[&format!("{name}@{name}.example")]);
    }
    process::eventually("all of them wait", || entries(&server, &[]).len() == 2);
    let listed = queue(&server, &["list", "--limit", "1"]);
    assert!(listed.contains("in 1 requests.") && listed.contains("There are more"), "{listed}");
    assert!(!queue(&server, &["list", "--limit", "2"]).contains("There are more"));
    let listed = queue(&server, &["list", "--domain", "elsewhere.example"]);
    assert_eq!(listed.trim(), "Nothing in the mail queue fits");
    let document = |query: &str| -> Value {
        let answer = http::get(server.admin(), &format!("/api/v1/queue?{query}"));
        assert_eq!((answer.status, answer.body.lines().count()), (200, 1), "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    };
    assert_eq!(document("limit=1")["more"], true);
    assert_eq!((&document("limit=2")["more"], &document("")["more"]), (&false.into(), &false.into()));
    // Counts, with and without a look into the messages.
    assert_eq!(document("count=true"), serde_json::json!({ "count": 2 }));
    assert_eq!(document("count=true&domain=a.example"), serde_json::json!({ "count": 1 }));
    assert_eq!(http::get(server.admin(), "/api/v1/queue?limit=100000000").status, 400);
}

#[test]
fn many_ids_come_from_standard_input() {
    let server = smarthost(nobody(), SLOW);
    let ids = ["a", "b"].map(|name| simple(&server, name, &[&format!("{name}@{name}.example")]));
    process::eventually("all of them wait", || entries(&server, &[]).len() == 2);
    // Between two that are there, a thousand that are not: more than one request can hold.
    let mut all = vec![ids[0].clone()];
    all.extend((0..1_000).map(|number| format!("0000000000FF{number:08X}")));
    all.push(ids[1].clone());
    let told = |arguments: &[&str], input: &str| {
        let mut command = inrush(&["queue"]);
        command.args(arguments).arg("--admin").arg(server.admin().to_string());
        process::finish_with_input(command, input.as_bytes())
    };
    let listed = told(&["list", "-", "--json"], &all.join("\n")).succeeded();
    assert_eq!(listed.stdout.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()).count(), 2);
    // Ids that did not come are not all ids.
    let none = told(&["delete", "-", "--route", "next", "--yes"], "").succeeded();
    assert!(none.text().contains("delete: 0 of 0 entries"), "{}", none.text());
    let nonsense = told(&["delete", "-", "--yes"], &format!("{} x", ids[0]));
    assert!(
        !nonsense.status.success() && nonsense.text().contains("not a message id"),
        "{}",
        nonsense.text()
    );
    let done = told(&["delete", "-", "--yes"], &all.join("\n")).succeeded();
    assert!(done.text().contains("delete: 2 of 2 entries"), "{}", done.text());
}

#[test]
fn replies_of_others_cannot_steer_a_terminal() {
    let reply = "451-4.7.1 \u{1b}[2Jone\n451 4.7.1 two\u{202e}";
    let peer = Peer::start(Script::smtp().on(Stage::Recipient, Answer::reply(reply)));
    let server = smarthost(peer.address(), SLOW);
    let id = simple(&server, "x", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "deferred");
    for arguments in [&["list"][..], &["show", &id]] {
        let shown = queue(&server, arguments);
        assert!(shown.contains("one") && shown.contains("two"), "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{202e}']) && !shown.contains("\\u{a}"), "{shown}");
    }
    let shown = queue(&server, &["show", &id]);
    // The steps of the attempt.
    assert!(shown.contains("taken up 20") && shown.contains("connected 20"), "{shown}");
}

#[test]
fn a_client_needs_no_more_than_the_address() {
    let server = smarthost(nobody(), SLOW);
    let id = simple(&server, "x", &["b@example.com"]);
    process::eventually("it waits", || entries(&server, &[]).len() == 1);
    // Whoever steers the queue may not be allowed to read keys and lists, or changes them at the moment.
    let config = server.scratch().join("client.toml");
    let text = format!(
        "hostname = 1\n[tls]\ncertificate = \"/nowhere\"\nkey = \"/nowhere\"\n[[domain]]\nname = \"example.com\"\nrecipients = \"file:/nowhere\"\n[admin]\naddress = \"{}\"\n",
        server.admin()
    );
    fs::write(&config, text).unwrap();
    let mut command = inrush(&["queue", "list", "--config"]);
    command.arg(&config);
    assert!(stdout(command).contains(&id));
    // Its own settings have to be right.
    fs::write(&config, "[admin]\nadress = \"127.0.0.1:1\"\n").unwrap();
    let mut command = inrush(&["queue", "list", "--config"]);
    command.arg(&config);
    let finished = process::finish(command);
    assert!(!finished.status.success() && finished.text().contains("admin.adress"), "{}", finished.text());
}

#[test]
fn a_data_directory_is_read_whatever_the_environment_says() {
    let mut server = smarthost(nobody(), SLOW);
    let id = simple(&server, "x", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "deferred");
    server.stop();
    let of = |directory: &Path| {
        let mut command = inrush(&["queue", "list", "--data-dir"]);
        command.arg(directory).env("INRUSH_CONFIG", "/nowhere.toml");
        process::finish(command)
    };
    let listed = of(&server.data()).succeeded().text();
    assert!(listed.contains(&id) && listed.contains("Connection refused"), "{listed}");
    let mut command = inrush(&["config", "dump", "--defaults"]);
    command.env("INRUSH_CONFIG", "/nowhere.toml");
    assert!(stdout(command).contains("[queue]"));
    // A directory that holds something else has no empty queue.
    let other = of(server.data().parent().unwrap());
    assert!(!other.status.success() && other.text().contains("no log in it"), "{}", other.text());
}

#[test]
fn what_cannot_be_read_is_listed_and_deleted() {
    let mut server = smarthost(nobody(), SLOW);
    let id = simple(&server, "a-word-to-be-found", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "deferred");
    server.stop();
    damage(&server.data(), b"a-word-to-be-found");
    server.restart();
    let listed = &entries(&server, &[])[0];
    assert_eq!((&listed["id"], &listed["state"]), (&id.clone().into(), &"deferred".into()));
    assert_eq!(listed["reason"], "the message cannot be read in its log");
    let year = listed["accepted_at"].as_str().unwrap().get(..4).unwrap().to_owned();
    assert!(year.as_str() > "2000", "{listed}");
    assert_eq!(entries(&server, &["--domain", "example.com"]).len(), 0, "nobody knows its recipients");
    assert_eq!(queue(&server, &["delete", &id, "--yes"]).trim(), "delete: 1 of 1 entries");
    assert_eq!(entries(&server, &[]).len(), 0);
}

/// Changes an octet of this text in an arrival log.
fn damage(data: &Path, text: &[u8]) {
    let logs = fs::read_dir(data).unwrap().flatten().map(|entry| entry.path());
    let logs = logs.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("arrival-"));
    let files = logs.flat_map(|log| fs::read_dir(log).unwrap().flatten().map(|entry| entry.path()));
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "seg")) {
        let mut octets = fs::read(&file).unwrap();
        if let Some(at) = octets.windows(text.len()).position(|window| window == text) {
            octets[at] ^= 1;
            return fs::write(&file, octets).unwrap();
        }
    }
    panic!("no log holds the text");
}

/// What a command of `inrush log` prints.
fn log(server: &Server, arguments: &[&str]) -> String {
    let mut command = inrush(&["log"]);
    command.args(arguments).arg("--data-dir").arg(server.data());
    stdout(command)
}

/// Numbers of the segments of the arrival log.
fn segments(server: &Server) -> BTreeSet<u64> {
    let entries = fs::read_dir(server.data().join("arrival-00")).unwrap().flatten();
    entries.filter_map(|entry| inrush_log::segment_number(entry.file_name().to_str()?)).collect()
}

#[test]
fn mail_that_has_left_its_arrival_log_is_found() {
    let late =
        Script::smtp().on(When::at(Stage::Recipient).address("late*"), Answer::reply("450 4.7.1 later"));
    let peer = Peer::start(late);
    let tables = "[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\nevacuate_after = \"1s\"\n".to_owned();
    let settings = settings(&[route("next", "smtp", &[peer.address()], ""), domain("*", "next"), tables]);
    let settings = settings.log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""]);
    let server = Server::with(Settings { top: vec!["cores = 1".into()], ..settings });
    let recipients = ["<late@example.com>", "<b@example.com>"];
    let id = send(&server, "<waits@client.test.example>", &recipients, &text("late"));
    outcome(&server, &id, "late@example.com", "deferred");
    outcome(&server, &id, "b@example.com", "sent");
    let first = *segments(&server).first().unwrap();
    // Its segment is done with but for this message, which moves; then the segment goes.
    let mut random = Random::new(1);
    for _ in 0..30 {
        let body = [text("passing"), random.text(100_000)].concat();
        send(&server, &format!("<{SENDER}>"), &["<b@example.com>"], &body);
    }
    process::eventually("its segment goes", || !segments(&server).contains(&first));
    process::eventually("only it waits", || ids(&entries(&server, &[])) == [id.clone()]);

    assert!(log(&server, &["cat", &id]).contains("Subject: late"));
    for filter in
        [&["--id", &id][..], &["--sender", "waits@client.test.example"], &["--log", "retry-00", "--id", &id]]
    {
        let listed = log(&server, &[&["list"], filter].concat());
        assert_eq!(listed.matches(&id).count(), 1, "{filter:?}: {listed}");
    }
    let exported = export::all(&server.data());
    assert!(String::from_utf8_lossy(&exported[&id]).contains("Subject: late"));

    // Once more, by each way to name it.
    peer.change(Script::smtp());
    for filter in [["--sender", "waits@client.test.example"], ["--id", &id]] {
        let (_, told) = replay(&server, &filter);
        assert!(told.contains("deliver 1 messages once more, to 2 recipients"), "{told}");
    }
    let (_, told) = replay(&server, &["--sender", "waits@client.test.example", "--yes"]);
    assert!(told.contains("1 messages found, 2 recipients are owed again"), "{told}");
    outcome(&server, &id, "late@example.com", "sent");
}
