//! What the tests of delivery share: gateways that hand their mail on, and a look at what came of it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use inrush_tests::client::{Client, accepted, stuffed};
use inrush_tests::peer::{Peer, Script};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use serde_json::Value;

/// Whom most mail is from.
pub(crate) const SENDER: &str = "sender@client.test.example";

/// Attempts follow one another as fast as a test can wish.
pub(crate) const QUICK: &str = "[queue]\nretry_first = \"100ms\"\nretry_max = \"1s\"\n";

/// A `[[route]]` to these hosts, with these further lines.
pub(crate) fn route(name: &str, kind: &str, hosts: &[SocketAddr], lines: &str) -> String {
    let hosts = hosts.iter().map(|host| format!("\"{host}\"")).collect::<Vec<_>>().join(", ");
    let hosts = if hosts.is_empty() { hosts } else { format!("hosts = [{hosts}]\n") };
    format!("[[route]]\nname = \"{name}\"\nkind = \"{kind}\"\n{hosts}{lines}\n")
}

/// A `[[domain]]` with anybody in it whose mail takes this route.
pub(crate) fn domain(name: &str, route: &str) -> String {
    format!("[[domain]]\nname = \"{name}\"\nrecipients = \"any\"\nroute = \"{route}\"\n")
}

/// Exactly these tables besides the usual ones; quick attempts unless there is a `[queue]`.
pub(crate) fn settings(tables: &[String]) -> Settings {
    let mut settings = Settings::default();
    settings.domains.clear();
    if !tables.iter().any(|table| table.contains("[queue]")) {
        settings = settings.tables(QUICK);
    }
    tables.iter().fold(settings, |settings, table| settings.tables(table))
}

/// A gateway that hands everything on to `host` by SMTP, with these further tables.
#[track_caller]
pub(crate) fn smarthost(host: SocketAddr, tables: &str) -> Server {
    smarthost_by(host, "", tables)
}

/// The same with these further lines of the route.
#[track_caller]
pub(crate) fn smarthost_by(host: SocketAddr, lines: &str, tables: &str) -> Server {
    Server::with(settings(&[route("next", "smtp", &[host], lines), domain("*", "next"), tables.to_owned()]))
}

/// One message over a connection of its own; its id. `mail` and the recipients are paths with their parameters: `<a@b.example> RET=HDRS`.
#[track_caller]
pub(crate) fn send(server: &Server, mail: &str, recipients: &[&str], body: &[u8]) -> String {
    let mut client = Client::greeted(server.mx());
    let id = hand_over(&mut client, mail, recipients, body);
    client.say("QUIT", 221);
    id
}

/// One message; its id.
#[track_caller]
pub(crate) fn hand_over(client: &mut Client, mail: &str, recipients: &[&str], body: &[u8]) -> String {
    client.say(&format!("MAIL FROM:{mail}"), 250);
    for recipient in recipients {
        client.say(&format!("RCPT TO:{recipient}"), 250);
    }
    client.say("DATA", 354);
    client.send(&stuffed(body)).unwrap();
    accepted(&client.expect(250))
}

/// One message in one chunk (RFC 3030), which may hold any octets; its id.
#[track_caller]
pub(crate) fn send_chunk(server: &Server, mail: &str, recipients: &[&str], body: &[u8]) -> String {
    let mut client = Client::greeted(server.mx());
    client.say(&format!("MAIL FROM:{mail}"), 250);
    for recipient in recipients {
        client.say(&format!("RCPT TO:{recipient}"), 250);
    }
    client.send(&[format!("BDAT {} LAST\r\n", body.len()).as_bytes(), body].concat()).unwrap();
    accepted(&client.expect(250))
}

/// A simple message of this subject from [`SENDER`]; its id.
#[track_caller]
pub(crate) fn simple(server: &Server, subject: &str, recipients: &[&str]) -> String {
    let recipients = recipients.iter().map(|recipient| format!("<{recipient}>")).collect::<Vec<_>>();
    let recipients = recipients.iter().map(String::as_str).collect::<Vec<_>>();
    send(server, &format!("<{SENDER}>"), &recipients, &text(subject))
}

/// A simple message.
pub(crate) fn text(subject: &str) -> Vec<u8> {
    format!("From: <{SENDER}>\r\nSubject: {subject}\r\n\r\nhello\r\n").into_bytes()
}

/// The subject of a message.
pub(crate) fn subject(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    let line = text.lines().find_map(|line| line.strip_prefix("Subject: "));
    line.unwrap_or_default().to_owned()
}

/// Waits for the line that says so of a recipient; the line.
#[track_caller]
pub(crate) fn outcome(server: &Server, id: &str, recipient: &str, status: &str) -> String {
    let mut line = None;
    process::eventually(&format!("{id} for {recipient} is {status}"), || {
        line = outcomes(server, id, recipient).into_iter().find(|line| is(line, status));
        line.is_some()
    });
    line.unwrap()
}

/// Whether an outcome has this status.
pub(crate) fn is(line: &str, status: &str) -> bool {
    line.contains(&format!("status={status} "))
}

/// The lines about this recipient so far.
pub(crate) fn outcomes(server: &Server, id: &str, recipient: &str) -> Vec<String> {
    let path = format!("<{recipient}>");
    // As logfmt has it: with the escapes of JSON where it needs quotes.
    let quotes = path.contains([' ', '"', '=', '\\']);
    let path = if quotes { serde_json::to_string(&path).unwrap() } else { path };
    let about = format!(" id={id} to={path} ");
    let log = server.log();
    log.lines().filter(|line| line.contains(&about)).map(str::to_owned).collect()
}

/// A report (RFC 3464) as Python's library reads it: its fields and its parts.
#[derive(Debug)]
pub(crate) struct Report(Value);

/// Prints a report as JSON.
const READER: &str = r#"
import email, email.policy, json, sys
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)
fields = lambda message: {name.lower(): str(value) for name, value in message.items()}
def part(p):
    kind = p.get_content_type()
    if kind in ("message/delivery-status", "message/global-delivery-status"):
        payload = p.get_payload()
        if isinstance(payload, str):
            payload = [email.message_from_string(b) for b in payload.replace("\r\n", "\n").split("\n\n") if b.strip()]
        return {"type": kind, "blocks": [fields(block) for block in payload if block.keys()]}
    if kind == "message/rfc822":
        return {"type": kind, "text": p.get_payload()[0].as_bytes().decode("utf-8", "replace")}
    return {"type": kind, "text": p.get_payload(decode=True).decode("utf-8", "replace")}
print(json.dumps({
    "fields": fields(m), "type": m.get_content_type(), "report_type": m.get_param("report-type"),
    "parts": [part(p) for p in m.iter_parts()] if m.is_multipart() else [],
    "defects": [str(defect) for p in m.walk() for defect in p.defects],
}))
"#;

impl Report {
    /// Reads a report; what is none in its form fails the test.
    #[track_caller]
    pub(crate) fn read(octets: &[u8]) -> Self {
        let command = process::command("python3", ["-I", "-c", READER]);
        let read = process::finish_with_input(command, octets).succeeded();
        let report: Value = serde_json::from_slice(&read.stdout).unwrap();
        let mut all = String::new();
        let _ = write!(all, "{report:#}\n{}", String::from_utf8_lossy(octets));
        // RFC 6522 §3, RFC 3464 §2.
        assert_eq!(report["type"], "multipart/report", "{all}");
        assert_eq!(report["report_type"], "delivery-status", "{all}");
        assert_eq!(report["defects"].as_array().map(Vec::len), Some(0), "{all}");
        assert_eq!(report["parts"].as_array().map(Vec::len), Some(3), "{all}");
        assert_eq!(report["parts"][0]["type"], "text/plain", "{all}");
        Self(report)
    }

    /// A field of the report as a message, by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0["fields"][name].as_str().unwrap_or_default()
    }

    /// A field about the message (RFC 3464 §2.2).
    pub(crate) fn of_message(&self, name: &str) -> &str {
        self.0["parts"][1]["blocks"][0][name].as_str().unwrap_or_default()
    }

    /// How many recipients are reported on.
    pub(crate) fn recipients(&self) -> usize {
        self.0["parts"][1]["blocks"].as_array().map_or(0, Vec::len).saturating_sub(1)
    }

    /// The recipients that are reported on.
    pub(crate) fn addresses(&self) -> Vec<&str> {
        let blocks = self.0["parts"][1]["blocks"].as_array().map_or(&[][..], Vec::as_slice);
        let finals = blocks.iter().filter_map(|block| block["final-recipient"].as_str());
        finals.filter_map(|address| Some(address.split_once(';')?.1.trim())).collect()
    }

    /// A field about a recipient (RFC 3464 §2.3).
    #[track_caller]
    pub(crate) fn of_recipient(&self, recipient: &str, name: &str) -> &str {
        let blocks = self.0["parts"][1]["blocks"].as_array().unwrap();
        let block = blocks.iter().find(|block| {
            let address = block["final-recipient"].as_str().unwrap_or_default();
            address.split_once(';').is_some_and(|(_, address)| address.trim() == recipient)
        });
        let block = block.unwrap_or_else(|| panic!("no word about {recipient}: {:#}", self.0));
        block[name].as_str().unwrap_or_default()
    }

    /// Type and text of what goes back.
    pub(crate) fn returned(&self) -> (&str, &str) {
        let part = &self.0["parts"][2];
        (part["type"].as_str().unwrap_or_default(), part["text"].as_str().unwrap_or_default())
    }

    /// What people read.
    pub(crate) fn words(&self) -> &str {
        self.0["parts"][0]["text"].as_str().unwrap_or_default()
    }
}

/// A gateway with a next hop for all mail but that to `client.test.example`, which has one of its own: there reports come.
#[derive(Debug)]
pub(crate) struct Between {
    pub(crate) server: Server,
    pub(crate) peer: Peer,
    pub(crate) reports: Peer,
}

impl Between {
    /// The next hop follows this script.
    #[track_caller]
    pub(crate) fn start(script: Script) -> Self {
        Self::with(script, "", "")
    }

    /// The same with further lines of the route to it, and further tables.
    #[track_caller]
    pub(crate) fn with(script: Script, lines: &str, tables: &str) -> Self {
        let kind = if script.is_lmtp() { "lmtp" } else { "smtp" };
        let peer = Peer::start(script);
        let reports = Peer::start(Script::smtp());
        let server = Server::with(settings(&[
            route("next", kind, &[peer.address()], lines),
            route("back", "smtp", &[reports.address()], ""),
            domain("*", "next"),
            domain("client.test.example", "back"),
            tables.to_owned(),
        ]));
        Self { server, peer, reports }
    }

    /// The first report.
    #[track_caller]
    pub(crate) fn report(&self) -> Report {
        Report::read(&self.reports.wait_for(1)[0].octets)
    }
}
