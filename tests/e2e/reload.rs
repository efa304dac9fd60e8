//! What a running gateway takes over: recipients when their file changes and on SIGHUP, without dropping a session.

use std::fs;

use inrush_tests::client::Client;
use inrush_tests::peer::{Peer, Script};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::{Settings, recipients_file};

use crate::delivery::{domain, outcome, route, settings, simple, subject};

const BODY: &[u8] = b"Subject: x\r\n\r\nx\r\n";

/// The code of the reply to a recipient, in a transaction of its own.
fn asked(client: &mut Client, recipient: &str) -> u16 {
    client.say("MAIL FROM:<a@client.test.example>", 250);
    client.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes()).unwrap();
    let code = client.reply().unwrap().code;
    client.say("RSET", 250);
    code
}

#[test]
fn recipients_are_taken_over() {
    let server = Server::with(Settings::default().recipients(&["old@example.com"]));
    let file = recipients_file(server.config().parent().unwrap(), "example.com");
    let mut client = Client::greeted(server.mx());
    assert_eq!((asked(&mut client, "old@example.com"), asked(&mut client, "new@example.com")), (250, 550));

    // As the file changes.
    fs::write(&file, "new@example.com\n").unwrap();
    server.wait_for_log("recipients reloaded");
    assert_eq!((asked(&mut client, "old@example.com"), asked(&mut client, "new@example.com")), (550, 250));

    // A bad line changes nothing, and is named with its file and number.
    fs::write(&file, "good@example.com\nnot an address\n").unwrap();
    server.wait_for_log("the old ones stay");
    assert!(server.log().contains("recipients.example.com:2"), "{}", server.log());
    assert_eq!((asked(&mut client, "good@example.com"), asked(&mut client, "new@example.com")), (550, 250));
    server.hang_up();
    server.wait_for_log("not reloaded: ");
    assert_eq!(asked(&mut client, "new@example.com"), 250);

    // On SIGHUP, with a setting that has to wait.
    fs::write(&file, "good@example.com\n").unwrap();
    let config = fs::read_to_string(server.config()).unwrap();
    fs::write(
        server.config(),
        config.replace("hostname = \"mx.test.example\"", "hostname = \"mx2.test.example\""),
    )
    .unwrap();
    server.hang_up();
    server.wait_for_log("a changed setting waits for the next start");
    let change = r#"hostname = \"mx2.test.example\", was \"mx.test.example\""#;
    assert!(server.log().contains(change), "{}", server.log());
    process::eventually("the recipients are taken over", || asked(&mut client, "good@example.com") == 250);
    client.deliver(&["good@example.com"], BODY);
}

/// The tables of domains and routes, one of which is new.
fn routed(one: &Peer, other: &Peer, domains: &[(&str, &str)]) -> Vec<String> {
    let routes = [("one", one), ("other", other)];
    let routes = routes.map(|(name, peer)| route(name, "smtp", &[peer.address()], ""));
    let domains = domains.iter().map(|(name, route)| domain(name, route));
    routes.into_iter().chain(domains).collect()
}

#[test]
fn domains_and_their_routes_are_taken_over() {
    let (one, other) = (Peer::start(Script::smtp()), Peer::start(Script::smtp()));
    let at_first = routed(&one, &other, &[("example.com", "one")]);
    let server = Server::with(settings(&at_first));
    let reload = |tables: &[String]| {
        let file = server.config();
        let text = fs::read_to_string(&file).unwrap();
        let (before, behind) = text.split_once("\n[[route]]").unwrap();
        let (_, behind) = behind.split_once("\n[admin]").unwrap();
        fs::write(&file, format!("{before}\n{}\n[admin]{behind}", tables.concat())).unwrap();
        server.hang_up();
    };
    let id = simple(&server, "before", &["a@example.com"]);
    outcome(&server, &id, "a@example.com", "sent");
    assert_eq!(one.wait_for(1).len(), 1);

    // Another route for a domain, and another domain.
    reload(&routed(&one, &other, &[("example.com", "other"), ("new.example", "one")]));
    let mut client = Client::greeted(server.mx());
    process::eventually("the new domain is taken", || asked(&mut client, "b@new.example") == 250);
    let id = simple(&server, "changed", &["a@example.com"]);
    outcome(&server, &id, "a@example.com", "sent");
    assert_eq!(subject(&other.wait_for(1)[0].octets), "changed");
    let id = simple(&server, "new", &["b@new.example"]);
    outcome(&server, &id, "b@new.example", "sent");
    assert_eq!(subject(&one.wait_for(2)[1].octets), "new");

    // A route that is not there: nothing about domains changes, and the reason is said.
    let third = route("third", "smtp", &[other.address()], "");
    let domains = [("example.com", "one"), ("third.example", "third")];
    reload(&[vec![third], routed(&one, &other, &domains)].concat());
    server.wait_for_log(
        "domains not reloaded, the old ones stay: \\\"third.example\\\" takes route \\\"third\\\"",
    );
    server.wait_for_log("reloaded: certificates, networks, users");
    assert_eq!((asked(&mut client, "c@third.example"), asked(&mut client, "b@new.example")), (550, 250));
    let id = simple(&server, "still", &["a@example.com"]);
    outcome(&server, &id, "a@example.com", "sent");
    assert_eq!(subject(&other.wait_for(2)[1].octets), "still");
}

/// The command says what has come of it: what is in force, what waits, what is wrong.
#[test]
fn the_command_tells_what_has_changed() {
    let server = Server::start();
    let reload = || {
        let mut command = std::process::Command::new(inrush_tests::binary::inrush());
        command.arg("reload").args(["--admin", &server.admin().to_string()]).env_remove("INRUSH_CONFIG");
        process::finish(command)
    };
    let nothing = reload().succeeded().text();
    assert_eq!(nothing, "reloaded: certificates, recipients, networks, users\n");

    let config = fs::read_to_string(server.config()).unwrap();
    let changed = config.replace("mx.test.example", "mx2.test.example");
    fs::write(server.config(), format!("{changed}\n[access]\ndeny = [\"192.0.2.0/24\"]\n")).unwrap();
    let told = reload().succeeded().text();
    assert!(told.contains("[access] deny = [\"192.0.2.0/24\"], was []\n"), "{told}");
    let waits =
        "hostname = \"mx2.test.example\", was \"mx.test.example\" (waits for the next start or upgrade)\n";
    assert!(told.contains(waits), "{told}");
    // What is in force already is no change any more; what waits still does.
    let again = reload().succeeded().text();
    assert!(!again.contains("[access]") && again.contains(waits), "{again}");

    fs::write(server.config(), format!("nonsense = 1\n{config}")).unwrap();
    let wrong = reload();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(wrong.text().contains("not reloaded") && wrong.text().contains("nonsense"), "{}", wrong.text());
}
