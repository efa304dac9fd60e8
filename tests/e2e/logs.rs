//! The lines that a running gateway writes: one for each message and session, in forms that parse whatever peers send, to readers that may stall.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use inrush_tests::binary;
use inrush_tests::client::{Client, stuffed};
use inrush_tests::http::{self, Samples};
use inrush_tests::peer::{Answer, Peer, Script, Stage};
use inrush_tests::process::{self, Finished};
use inrush_tests::server::{Server, write_config};
use inrush_tests::settings::Settings;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::delivery::{domain, outcome, route, settings};

const BODY: &[u8] = b"Subject: x\r\n\r\na body that is nobody's business\r\n";

/// A gateway of one core with these lines of `[logging]`.
fn logging(lines: &str) -> Server {
    let mut settings = Settings::default().recipients(&["b@example.com", "c@example.com"]);
    settings.top.push("cores = 1".into());
    Server::with(settings.tables(&format!("[logging]\n{lines}\n")))
}

/// The lines of JSON so far, each of them whole.
fn lines(server: &Server) -> Vec<Value> {
    let log = server.log();
    let complete = log.rfind('\n').map_or("", |end| &log[..end]);
    complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// Waits for the line of JSON with these words and this value of a field.
#[track_caller]
fn line(server: &Server, msg: &str, field: &str, value: &str) -> Value {
    let mut found = None;
    process::eventually(&format!("{msg} {field}={value}"), || {
        found = lines(server).into_iter().find(|line| line["msg"] == msg && line[field] == value);
        found.is_some()
    });
    found.unwrap()
}

fn inrush(arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary::inrush());
    command.args(arguments);
    process::finish(command)
}

fn log_level(server: &Server, arguments: &[&str]) -> Finished {
    let admin = server.admin().to_string();
    inrush(&[&["log-level", "--admin", &admin], arguments].concat())
}

#[test]
fn one_line_for_each_message_and_session() {
    let server = logging("format = \"json\"\nrecipients_shown = 1\n");
    let mut client = Client::greeted(server.mx());
    let id = client.deliver(&["b@example.com", "c@example.com"], BODY);
    client.say("MAIL FROM:<>", 250);
    client.say("RCPT TO:<nobody@example.com>", 550);
    client.say("RCPT TO:<nobody@example.com>", 550);
    client.say("QUIT", 221);

    let message = line(&server, "message queued", "id", &id);
    for (field, expected) in [
        ("level", "info"),
        ("module", "inrush_gateway::message"),
        ("listener", "mx"),
        ("helo", "client.test.example"),
        ("protocol", "ESMTP"),
        ("from", "<sender@client.test.example>"),
        ("transfer", "data"),
        ("status", "queued"),
    ] {
        assert_eq!(message[field], expected, "{field}: {message}");
    }
    assert_eq!(message["to"], serde_json::json!(["<b@example.com>"]), "{message}");
    assert_eq!((&message["nrcpt"], &message["size"]), (&2.into(), &BODY.len().into()), "{message}");
    assert!(message["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{message}");
    let delays = message["delays"].as_str().unwrap().split('/').map(|part| part.parse::<f64>().unwrap());
    let (sum, delay) = (delays.sum::<f64>(), message["delay"].as_f64().unwrap());
    assert!((sum - delay).abs() < 1e-5, "{message}");

    let session = line(&server, "session ended", "session", message["session"].as_str().unwrap());
    assert_eq!((&session["end"], &session["messages"]), (&"quit".into(), &1.into()), "{session}");
    // EHLO, MAIL, two RCPT, DATA, MAIL, two RCPT, QUIT.
    assert_eq!(session["commands"], 9, "{session}");
    assert_eq!(session["refused"], serde_json::json!({ "user_unknown": 2 }), "{session}");
    assert_eq!(session["client"], message["client"]);
    assert!(!server.log().contains("nobody's business"), "mail data in the log");
    assert_eq!(lines(&server).iter().filter(|line| line["msg"] == "message queued").count(), 1);
}

/// Also those that end by themselves, or get no session.
#[test]
fn sessions_that_end_badly() {
    let mut settings = Settings::default().tables("[logging]\nformat = \"json\"\n");
    settings.top.push("cores = 1".into());
    settings.limits = vec!["idle_timeout = \"1s\"".into()];
    let server = Server::with(settings.tables("[access]\ndeny = [\"127.0.0.9\"]\nallow = []\n"));
    let mut silent = Client::greeted(server.mx());
    silent.expect(421);
    let session = line(&server, "session ended", "timeout", "idle_timeout");
    assert_eq!((&session["end"], &session["helo"]), (&"timeout".into(), &"client.test.example".into()));
    let mut denied = Client::open_from("127.0.0.9".parse().unwrap(), server.mx()).unwrap();
    denied.expect(554);
    let refused = line(&server, "connection refused", "reason", "access_deny");
    assert!(refused["client"].as_str().unwrap().starts_with("127.0.0.9:"), "{refused}");
}

#[test]
fn lines_that_are_not_wanted() {
    let server = logging("format = \"json\"\nmessages = false\n");
    let mut client = Client::greeted(server.mx());
    client.deliver(&["b@example.com"], BODY);
    client.say("QUIT", 221);
    line(&server, "session ended", "end", "quit");
    assert!(!server.log().contains("message queued"), "{}", server.log());

    log_level(&server, &["info,inrush_gateway::session=off"]).succeeded();
    let mut client = Client::greeted(server.mx());
    client.say("QUIT", 221);
    log_level(&server, &["info"]).succeeded();
    let mut client = Client::greeted(server.mx());
    client.say("QUIT", 221);
    process::eventually("the third session", || server.log().matches("session ended").count() >= 2);
    let numbers = lines(&server).into_iter().filter(|line| line["msg"] == "session ended");
    let numbers: Vec<String> = numbers.map(|line| line["session"].as_str().unwrap().to_owned()).collect();
    assert_eq!(numbers, ["0-1", "0-3"]);
}

/// Reads a line of logfmt; anything but `key=value key="value"…` is an error.
fn logfmt(line: &str) -> Result<Vec<(String, String)>, String> {
    let (mut rest, mut pairs) = (line, Vec::new());
    loop {
        let (key, behind) = rest.split_once('=').ok_or_else(|| format!("no pair: {rest}"))?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(format!("no key: {key:?}"));
        }
        let behind = if behind.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(behind).into_iter::<String>();
            let value = values.next().ok_or("no value")?.map_err(|error| error.to_string())?;
            pairs.push((key.to_owned(), value));
            &behind[values.byte_offset()..]
        } else {
            let end = behind.find(' ').unwrap_or(behind.len());
            let value = &behind[..end];
            if value.is_empty() || value.contains(['"', '=', '\\']) {
                return Err(format!("needs quotes: {value:?}"));
            }
            pairs.push((key.to_owned(), value.to_owned()));
            &behind[end..]
        };
        match behind.strip_prefix(' ') {
            Some(behind) => rest = behind,
            None if behind.is_empty() => return Ok(pairs),
            None => return Err(format!("no space: {behind:?}")),
        }
    }
}

/// What a terminal or a reader of lines obeys: none of it leaves as it came, and every line is of its form.
#[test]
fn what_peers_send_breaks_no_line() {
    for form in ["json", "logfmt", "text"] {
        let hostile = "550-5.1.1 \u{1b}[2J\u{9b}31m time=x level=error \"\\\n550 5.1.1 {\"msg\":\"forged\"}\u{7f}\u{85}\u{202e}";
        let peer = Peer::start(Script::smtp().on(Stage::Recipient, Answer::reply(hostile)));
        let tables = [
            route("next", "smtp", &[peer.address()], ""),
            domain("*", "next"),
            format!("[logging]\nformat = \"{form}\"\n"),
        ];
        let server = Server::with(settings(&tables));
        let mut client = Client::greeted(server.mx());
        // Refused, with all that it holds.
        client
            .send(b"EHLO a\x1b[31m b\xff\xfe\r\nEHLO \"x\"=y\r\nRCPT TO:<\x9b@x>\r\nAUTH PLAIN c2VjcmV0\r\n")
            .unwrap();
        (0..4).for_each(|_| _ = client.reply().unwrap());
        client.say("EHLO client.test.example", 250);
        client.say("MAIL FROM:<\"a\\\"=b c\"@client.test.example> SMTPUTF8", 250);
        client.say("RCPT TO:<gr\u{fc}\u{df}e@example.com>", 250);
        client.say("DATA", 354);
        client.send(&stuffed(BODY)).unwrap();
        let id = client.expect(250).id().unwrap();
        client.say("QUIT", 221);
        process::eventually("the outcome", || server.log().contains("bounced"));
        server.wait_for_log("session ended");
        let log = fs::read(server.scratch().join("log.1")).unwrap();
        let log = String::from_utf8(log).expect("UTF-8");
        let bad =
            |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}');
        assert!(!log.contains(bad), "{form}: {log:?}");
        assert!(!log.contains("c2VjcmV0") && !log.contains("secret"), "a password in the log: {log}");
        let complete = &log[..log.rfind('\n').unwrap()];
        for line in complete.lines() {
            match form {
                "json" => _ = serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")),
                "logfmt" => _ = logfmt(line).unwrap_or_else(|e| panic!("{e}: {line}")),
                _ => assert!(line.starts_with("20"), "{line}"),
            }
        }
        if form == "logfmt" {
            let queued = complete.lines().find(|line| line.contains("message queued") && line.contains(&id));
            let pairs = logfmt(queued.unwrap()).unwrap();
            let from = pairs.iter().find(|(key, _)| key == "from").unwrap();
            assert_eq!(from.1, "<\"a\\\"=b c\"@client.test.example>");
            outcome(&server, &id, "gr\u{fc}\u{df}e@example.com", "bounced");
        }
    }
}

/// A stopped process; goes on when this is dropped.
struct Stalled(Pid);

impl Stalled {
    fn new(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Lines go through a pipe to `cat`, which is stopped: the pipe fills up, then the ring. Mail flows, and so does everything else.
#[test]
fn a_reader_that_stalls_costs_lines_and_no_mail() {
    let script = "mkfifo pipe; cat <pipe >&2 & echo $! >reader; exec \"$0\" \"$@\" 2>pipe";
    let launcher = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let mut settings = Settings { launcher, ..Settings::default() };
    settings.top.push("cores = 1".into());
    settings.limits.push("transactions_max = 1000000".into());
    let mut server = Server::with(settings.tables("[logging]\nrecipients_shown = 100\n"));
    let reader = fs::read_to_string(server.scratch().join("reader")).unwrap();
    let reader = Pid::from_raw(reader.trim().parse().unwrap()).unwrap();
    let stalled = Stalled::new(reader);

    // Many recipients make long lines.
    let names: Vec<String> =
        (0..100).map(|number| format!("{}{number}@example.com", "x".repeat(50))).collect();
    let envelope = names.iter().map(|name| format!("RCPT TO:<{name}>\r\n")).collect::<String>();
    let message = format!("MAIL FROM:<s@client.test.example>\r\n{envelope}BDAT 2 LAST\r\n\r\n");
    let mut client = Client::greeted(server.mx());
    let mut messages = 0;
    let dropped = || Samples::scrape(server.admin()).sum("inrush_lines_dropped_total", &[]);
    while dropped() == 0.0 {
        assert!(messages < 20_000, "no line is lost");
        for _ in 0..50 {
            client.send(message.as_bytes()).unwrap();
            (0..102).for_each(|_| _ = client.expect(250));
            messages += 1;
        }
    }
    assert_eq!(http::get(server.admin(), "/healthz").status, 200);
    Client::greeted(server.mx()).say("QUIT", 221);
    log_level(&server, &["info"]).succeeded();

    drop(stalled);
    server.wait_for_log("lines were lost");
    let told = server.log();
    let told = told.lines().find(|line| line.contains("lines were lost")).unwrap();
    let lost = logfmt(told).unwrap().into_iter().find(|(key, _)| key == "lost").unwrap();
    assert!(lost.1.parse::<u64>().unwrap() > 0, "{told}");
    client.deliver(&["after@example.com"], BODY);
    server.wait_for_log("to=<after@example.com>");

    // Nor does the end wait for a reader.
    let stalled = Stalled::new(reader);
    for _ in 0..200 {
        client.send(message.as_bytes()).unwrap();
        (0..102).for_each(|_| _ = client.expect(250));
    }
    server.stop();
    drop(stalled);
}

#[test]
fn what_was_said_last_is_written_at_the_end() {
    let mut server = logging("format = \"json\"\n");
    let mut client = Client::greeted(server.mx());
    let id = client.deliver(&["b@example.com"], BODY);
    server.stop();
    let lines = lines(&server);
    assert_eq!(lines.last().unwrap()["msg"], "stopped");
    assert!(lines.iter().any(|line| line["id"] == *id), "{lines:?}");
    assert!(
        lines.iter().any(|line| line["msg"] == "session ended" && line["end"] == "stopping"),
        "{lines:?}"
    );
}

#[test]
fn levels_change_while_it_runs() {
    let server = logging("format = \"json\"\nlevel = \"info,inrush_admin=warn\"\n");
    assert_eq!(log_level(&server, &[]).succeeded().text().trim(), "info,inrush_admin=warn");
    let path = "/api/v1/log-level";
    let change = |query: &str| http::post(server.admin(), &format!("{path}?{query}"), "X-Inrush: 1\r\n");

    // A form of a strange page cannot send the header field.
    assert_eq!(http::post(server.admin(), &format!("{path}?level=debug"), "").status, 403);
    for (query, what) in [
        ("level=loud", "is not a level: off, error"),
        ("level=info,inrush_nobody=debug", "is not a module: inrush,"),
        ("level=info&for=soon", "is not a time"),
        ("", "is missing"),
    ] {
        let answer = change(query);
        assert!(answer.status == 400 && answer.body.contains(what), "{query}: {}", answer.body);
    }
    let refused = log_level(&server, &["info,inrush_nobody=debug"]);
    assert!(!refused.status.success() && refused.text().contains("is not a module"), "{}", refused.text());

    // For a time, and back by itself.
    let answer = change("level=debug&for=1s");
    assert!(
        answer.status == 200 && answer.body.contains("\"then\":\"info,inrush_admin=warn\""),
        "{}",
        answer.body
    );
    server.wait_for_log("the levels from before are in force again");
    let now: Value = serde_json::from_str(&http::get(server.admin(), path).body).unwrap();
    assert_eq!(now, serde_json::json!({ "level": "info,inrush_admin=warn" }));

    // SIGHUP takes a level and a form that have changed, and nothing else.
    let config = fs::read_to_string(server.config()).unwrap();
    let changed = config.replace("level = \"info,inrush_admin=warn\"", "level = \"off\"\nto = \"journald\"");
    fs::write(server.config(), changed).unwrap();
    server.hang_up();
    server.wait_for_log("[logging] to = ");
    process::eventually("nothing is said", || {
        http::get(server.admin(), path).body.contains("\"level\":\"off\"")
    });
    let before = server.log().len();
    let mut client = Client::greeted(server.mx());
    client.deliver(&["b@example.com"], BODY);
    client.say("QUIT", 221);
    let text = config
        .replace("format = \"json\"", "format = \"logfmt\"")
        .replace("inrush_admin=warn", "inrush_admin=error");
    fs::write(server.config(), text).unwrap();
    server.hang_up();
    server.wait_for_log("msg=\"reloaded: ");
    assert!(!server.log()[before..].contains("queued"), "{}", server.log());
}

#[test]
fn levels_of_the_environment() {
    let launcher = vec!["env".to_owned(), "INRUSH_LOG=warn,inrush=info".to_owned()];
    let server = Server::with(Settings { launcher, ..Settings::default() });
    assert_eq!(log_level(&server, &[]).succeeded().text().trim(), "warn,inrush=info");
    let mut wrong = Command::new(binary::inrush());
    let scratch = server.scratch().join("wrong");
    fs::create_dir(&scratch).unwrap();
    let config = write_config(&scratch, &Settings::default(), &scratch.join("data"));
    wrong.arg("serve").arg("--config").arg(config).env("INRUSH_LOG", "info,inrush_nobody=debug");
    let ended = process::finish(wrong);
    assert!(!ended.status.success(), "{}", ended.text());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("INRUSH_LOG") && said.contains("\"inrush_nobody\" is not a module"), "{said}");
}

#[test]
fn repeats_are_counted() {
    let settings = Settings::default().tables(
        "[logging]\nformat = \"json\"\nrepeats_max = 3\nrepeats_window = \"1s\"\n[access]\ndeny = [\"127.0.0.9\"]\n",
    );
    let server = Server::with(settings);
    for _ in 0..50 {
        Client::open_from("127.0.0.9".parse().unwrap(), server.mx()).unwrap().expect(554);
    }
    process::eventually("all are told of", || {
        let lines = lines(&server);
        let refused = lines.iter().filter(|line| line["reason"] == "access_deny");
        let counted = refused.map(|line| line["repeated"].as_u64().unwrap_or(1)).sum::<u64>();
        assert!(counted <= 50, "{lines:?}");
        counted == 50
    });
    let told = lines(&server).into_iter().find(|line| line["repeated"].is_u64()).unwrap();
    let msg = told["msg"].as_str().unwrap();
    assert!(msg.starts_with("connection refused, repeated ") && msg.contains(" times in "), "{msg}");
    let repeated = Samples::scrape(server.admin()).sum("inrush_lines_repeated_total", &[]);
    assert!((1.0..50.0).contains(&repeated), "{repeated}");
}

/// A datagram of the journal's protocol.
fn journal_fields(datagram: &[u8]) -> Vec<(String, String)> {
    let (mut rest, mut fields) = (datagram, Vec::new());
    while !rest.is_empty() {
        let end = rest.iter().position(|octet| matches!(octet, b'=' | b'\n')).unwrap();
        let key = String::from_utf8(rest[..end].to_vec()).unwrap();
        let (value, behind) = if rest[end] == b'=' {
            let value = &rest[end + 1..];
            value.split_at(value.iter().position(|octet| *octet == b'\n').unwrap())
        } else {
            let (length, value) = rest[end + 1..].split_first_chunk::<8>().unwrap();
            value.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap())
        };
        fields.push((key, String::from_utf8(value.to_vec()).unwrap()));
        rest = &behind[1..];
    }
    fields
}

#[test]
fn the_journal_gets_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(process::PATIENCE)).unwrap();
    let settings = Settings::default()
        .tables(&format!("[logging]\nto = \"journald\"\njournal_socket = \"{}\"\n", path.display()));
    let config = write_config(folder.path(), &settings, &folder.path().join("data"));
    let mut command = Command::new(binary::inrush());
    command.arg("serve").arg("--config").arg(&config).env_remove("INRUSH_LOG");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut datagram = vec![0; 1 << 16];
    let mut wait_for = |key: &str, value: &str| loop {
        let octets = journal.recv(&mut datagram).expect("a datagram");
        let fields = journal_fields(&datagram[..octets]);
        if fields.iter().any(|(known, said)| known == key && said == value) {
            break fields;
        }
    };
    let field = |fields: &[(String, String)], key: &str| {
        fields.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let listening = wait_for("INRUSH_LISTENER", "mx");
    let mut client = Client::greeted(field(&listening, "INRUSH_ADDRESS").parse().unwrap());
    let id = client.deliver(&["b@example.com"], BODY);
    let queued = wait_for("INRUSH_ID", &id);
    assert_eq!(field(&queued, "PRIORITY"), "6");
    assert_eq!(field(&queued, "SYSLOG_IDENTIFIER"), "inrush");
    assert_eq!(field(&queued, "INRUSH_TO"), "<b@example.com>");
    assert!(field(&queued, "MESSAGE").starts_with(&format!("message queued id={id} listener=mx ")));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    wait_for("MESSAGE", "stopped");
    let ended = process::wait(&mut child, process::PATIENCE).unwrap();
    assert!(ended.success(), "{ended}");

    // One that is not there is no place for lines.
    fs::remove_file(&path).unwrap();
    let mut command = Command::new(binary::inrush());
    command.arg("serve").arg("--config").arg(&config).env_remove("INRUSH_LOG");
    let ended = process::finish(command);
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("no journal at "), "{}", ended.text());
}
