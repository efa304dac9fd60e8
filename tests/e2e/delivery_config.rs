//! Mistakes in the configuration of delivery: each is an error of `inrush check` with its file, its line and what would be right.

use std::fs;
use std::process::Command;

use inrush_tests::process::{self, Finished};
use inrush_tests::{binary, tls::Authority};
use tempfile::TempDir;

const DOMAIN: &str = "[[domain]]\nname = \"example.com\"\nrecipients = \"any\"\nroute = \"out\"\n";

fn check(tables: &str) -> Finished {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("inrush.toml");
    let text = format!(
        "hostname = \"mx.test.example\"\ndata_dir = \"data\"\n[[listener]]\nname = \"mx\"\naddress = [\"127.0.0.1:0\"]\n{tables}"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(binary::inrush());
    command.args(["check", "--config"]).arg(&config);
    process::finish(command)
}

/// Refused with these words, and with the line on which `at` stands.
#[track_caller]
fn refused(tables: &str, at: &str, words: &[&str]) {
    let checked = check(tables);
    let text = checked.text();
    assert!(!checked.status.success(), "{tables}\n{text}");
    // Five lines stand in front of the tables.
    let line =
        6 + tables.lines().position(|line| line.contains(at)).unwrap_or_else(|| panic!("no line {at}"));
    let place = format!("inrush.toml:{line}");
    assert!(text.contains(&place), "{place} is not named for {at}:\n{text}");
    for word in words {
        assert!(text.contains(word), "{word} is not said:\n{text}");
    }
}

fn out(lines: &str) -> String {
    format!("[[route]]\nname = \"out\"\n{lines}\n{DOMAIN}")
}

#[test]
fn good_routes_of_each_kind() {
    for lines in [
        "kind = \"smtp\"",
        "kind = \"smtp\"\nport = 2525\ntls = \"required\"",
        "kind = \"smtp\"\nhosts = [\"mail.example.com\", \"20 [2001:db8::1]:25\", \"10 192.0.2.1:2525\", \"[2001:db8::1]\"]\ntls = \"off\"",
        "kind = \"lmtp\"\nhosts = [\"127.0.0.1:24\"]\nconnections_max = 5",
        "kind = \"maildir\"\npath = \"/var/mail/{domain}/{user}\"\nquota_bytes = \"1GiB\"",
        "kind = \"hold\"",
    ] {
        check(&out(lines)).succeeded();
    }
}

#[test]
fn a_domain_with_a_route_that_is_not_there() {
    let tables = "[[route]]\nname = \"outside\"\n[[domain]]\nname = \"example.com\"\nrecipients = \"any\"\nroute = \"outsde\"\n";
    refused(tables, "outsde", &["there is no route \"outsde\"", "did you mean \"outside\"?"]);
    let tables = format!("{}[relay]\nroute = \"oud\"\n", out(""));
    refused(&tables, "oud", &["relay.route", "there is no route \"oud\"", "did you mean \"out\"?"]);
}

/// Its mail would stay in the log and nobody would notice.
#[test]
fn a_domain_without_a_route_beside_others() {
    let tables = format!("{}[[domain]]\nname = \"other.example\"\nrecipients = \"any\"\n", out(""));
    // A key that is missing has no line: the table has.
    refused(
        &tables
            .replacen(DOMAIN, &format!("{DOMAIN}# the next one\n"), 1)
            .replace("# the next one\n[[domain]]", "[[domain]] # next"),
        "# next",
        &["\"other.example\" needs a route"],
    );
}

#[test]
fn a_domain_with_a_route_where_there_are_none() {
    refused(DOMAIN, "route = ", &["there is no route \"out\""]);
}

#[test]
fn routes_for_no_domain() {
    let checked = check("[[route]]\nname = \"out\"\n");
    assert!(!checked.status.success(), "{}", checked.text());
    assert!(checked.text().contains("[[domain]]"), "{}", checked.text());
}

#[test]
fn users_whose_mail_has_no_way_out() {
    let authority = Authority::new();
    let certificate = authority.issue("mx.test.example");
    let users = authority.folder().join("users");
    inrush_tests::users::write(&users, &[("joe@example.com", "")]);
    let submission = format!(
        "{}[[listener]]\nname = \"submission\"\naddress = [\"127.0.0.1:0\"]\nkind = \"submission\"\ntls = \"starttls\"\n\
         [tls]\n{}[submission]\nusers = \"{}\"\n",
        out(""),
        certificate.lines(),
        users.display()
    );
    let checked = check(&submission);
    assert!(!checked.status.success(), "{}", checked.text());
    assert!(checked.text().contains("name a route for it"), "{}", checked.text());
    check(&format!("{submission}[relay]\nroute = \"out\"\n")).succeeded();
}

#[test]
fn lmtp_has_no_mx_records() {
    let checked = check(&out("kind = \"lmtp\""));
    assert!(!checked.status.success(), "{}", checked.text());
    assert!(checked.text().contains("lmtp needs hosts"), "{}", checked.text());
    // Where the table begins is better than no line at all.
    assert!(checked.text().contains("inrush.toml:"), "{}", checked.text());
}

/// Whoever sets it expects something of it.
#[test]
fn keys_that_do_nothing_for_their_kind() {
    for (kind, lines) in [
        ("smtp", "path = \"/var/mail/{user}\""),
        ("smtp", "quota_bytes = \"1GiB\""),
        ("smtp", "hosts = [\"192.0.2.1\"]\nport = 2525"),
        ("lmtp", "hosts = [\"192.0.2.1\"]\ncreate = false"),
        ("lmtp", "hosts = [\"192.0.2.1\"]\nport = 24"),
        ("maildir", "path = \"/var/mail/{user}\"\nhosts = [\"192.0.2.1\"]"),
        ("maildir", "path = \"/var/mail/{user}\"\ntls = \"off\""),
        ("hold", "connections_max = 5"),
        ("hold", "path = \"/var/mail\""),
    ] {
        let last = lines.lines().last().unwrap();
        let key = last.split(' ').next().unwrap();
        refused(
            &out(&format!("kind = \"{kind}\"\n{lines}")),
            last,
            &[&format!("route.{key}"), "has no meaning"],
        );
    }
}

#[test]
fn hosts_that_are_none() {
    for host in [
        "mail example",
        "x 192.0.2.1",
        "70000 192.0.2.1",
        "mail.example.com:",
        "mail.example.com:0",
        "mail.example.com:70000",
        "[2001:db8::1",
        "[mail.example.com]:25",
        "2001:db8::1",
        "http://mail.example.com",
        "10  ",
        "mail.example.com:25:26",
    ] {
        refused(&out(&format!("hosts = [\"{host}\"]")), "hosts", &["route.hosts", "is not a host"]);
    }
}

#[test]
fn values_out_of_range() {
    for (line, key) in [
        ("port = 0", "route.port"),
        ("port = 65536", "route.port"),
        ("connections_max = 0", "route.connections_max"),
        ("keep_connection = \"301s\"", "route.keep_connection"),
        ("kind = \"uucp\"", "route.kind"),
        ("tls = \"maybe\"", "route.tls"),
    ] {
        refused(&out(line), line, &[key]);
    }
}

#[test]
fn keys_that_are_not_there() {
    refused(&out("host = [\"192.0.2.1\"]"), "host", &["host", "hosts"]);
    refused(&format!("{}[queue]\nlifetim = \"5d\"\n", out("")), "lifetim", &["lifetim", "lifetime"]);
    refused(&format!("{}[relay]\nresolvers = []\n", out("")), "resolvers", &["resolvers", "resolver"]);
}

#[test]
fn names_of_routes() {
    let second = "[[route]]\nname = \"out\" # again\n";
    refused(&format!("{}{second}", out("")), "# again", &["there is a route \"out\" already"]);
    for name in ["", "a b", "a:b", "ä"] {
        refused(&format!("{}[[route]]\nname = \"{name}\" # second\n", out("")), "# second", &["route.name"]);
    }
}

#[test]
fn templates_of_mailboxes() {
    for (path, words) in [
        ("", "absolute"),
        ("mail/{user}", "absolute"),
        ("/", "no directory"),
        ("/var/mail/{name}", "unknown placeholder"),
        ("/var/mail/{user", "not closed"),
        ("/var/mail/user}", "closes nothing"),
        ("/var/mail/../{user}", ".."),
        ("/var/mail/{local}{domain}", "run together"),
    ] {
        refused(&out(&format!("kind = \"maildir\"\npath = \"{path}\"")), "path", &["route.path", words]);
    }
    let checked = check(&out("kind = \"maildir\""));
    assert!(!checked.status.success() && checked.text().contains("route.path"), "{}", checked.text());
    let separator = "subaddress_separator = \"++\"";
    let lines = format!("kind = \"maildir\"\npath = \"/var/mail/{{user}}\"\n{separator}");
    refused(&out(&lines), separator, &["one character"]);
}

#[test]
fn authorities_that_are_not_there() {
    let tables = format!("{}[relay]\nca_file = \"none.pem\"\n", out(""));
    refused(&tables, "ca_file", &["relay.ca_file", "none.pem"]);
}
