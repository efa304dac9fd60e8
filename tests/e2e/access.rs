//! Whose connections are taken, and how many: networks that are denied or have no limits, limits per address and per network, over all
//! cores. The whole of 127.0.0.0/8 is this machine, so that a test can come from many addresses.

use std::fs;
use std::net::IpAddr;

use inrush_tests::client::Client;
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

fn from(server: &Server, source: &str) -> Client {
    let source: IpAddr = source.parse().unwrap();
    Client::open_from(source, server.mx()).unwrap()
}

/// The greeting from `source`: its code and the client, whose connection is open for as long as it is kept.
fn greeting(server: &Server, source: &str) -> (u16, Client) {
    let mut client = from(server, source);
    let reply = client.reply().unwrap();
    (reply.code, client)
}

/// A server with these limits and lists; nobody is without limits.
fn limited(limits: &[&str], access: &str) -> Server {
    let mut settings = Settings::default().tables(&format!("[access]\n{access}"));
    settings.top.push("cores = 2".into());
    settings.limits = limits.iter().map(|line| (*line).to_owned()).collect();
    Server::with(settings)
}

fn refused(server: &Server, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    Samples::scrape(server.admin()).sum("inrush_connections_refused_total", &[&label])
}

/// Takes `count` connections, and is refused at the next one with `words`.
#[track_caller]
fn taken_then_refused(server: &Server, sources: &[&str], words: &str) -> Vec<Client> {
    let (last, first) = sources.split_last().unwrap();
    let mut open = Vec::new();
    for source in first {
        let (code, client) = greeting(server, source);
        assert_eq!(code, 220, "{source}");
        open.push(client);
    }
    let mut client = from(server, last);
    let reply = client.reply().unwrap();
    assert_eq!(reply.code, 421, "{}", reply.text());
    assert!(reply.text().contains(words), "{}", reply.text());
    assert!(client.rest().is_empty());
    open
}

#[test]
fn denied_networks_get_554() {
    let server = limited(&[], "allow = [\"127.9.1.0/24\"]\ndeny = [\"127.9.0.0/16\"]");
    let mut client = from(&server, "127.9.0.1");
    let reply = client.reply().unwrap();
    assert!(reply.text().starts_with("554 5.7.1"), "{}", reply.text());
    assert!(client.rest().is_empty());
    // The longest network decides.
    assert_eq!(greeting(&server, "127.9.1.1").0, 220);
    assert_eq!(greeting(&server, "127.0.0.1").0, 220);
    assert_eq!(refused(&server, "access_deny"), 1.0);
}

#[test]
fn sessions_of_one_address_over_all_cores() {
    let server = limited(&["connections_per_address_max = 5"], "allow = [\"127.0.0.9\"]");
    let mut open = taken_then_refused(&server, &["127.0.0.2"; 6], "from your address");
    // Others are not concerned, and some have no limit.
    assert_eq!(greeting(&server, "127.0.0.3").0, 220);
    let unlimited: Vec<_> = (0..20).map(|_| greeting(&server, "127.0.0.9")).collect();
    assert!(unlimited.iter().all(|(code, _)| *code == 220));
    assert_eq!(refused(&server, "connections_per_address_max"), 1.0);
    // One that ends makes room, however it ends.
    open.pop().unwrap().say("QUIT", 221);
    process::eventually("there is room", || {
        let (code, client) = greeting(&server, "127.0.0.2");
        open.push(client);
        code == 220
    });
    drop(open);
    process::eventually("there is room for all again", || {
        let all: Vec<_> = (0..5).map(|_| greeting(&server, "127.0.0.2")).collect();
        all.iter().all(|(code, _)| *code == 220)
    });
}

#[test]
fn sessions_of_one_network() {
    let limits = ["connections_per_network_max = 3", "ipv4_prefix = 24"];
    let server = limited(&limits, "allow = []");
    let sources = ["127.0.5.1", "127.0.5.2", "127.0.5.3", "127.0.5.4"];
    let _open = taken_then_refused(&server, &sources, "from your network");
    assert_eq!(greeting(&server, "127.0.6.1").0, 220);
    assert_eq!(refused(&server, "connections_per_network_max"), 1.0);
}

#[test]
fn new_sessions_of_one_address_and_one_network() {
    let limits = [
        "connections_per_address_max = 0",
        "connection_rate_per_address = \"4/1d\"",
        "connection_rate_per_network = \"6/1d\"",
    ];
    let server = limited(&limits, "allow = []");
    drop(taken_then_refused(&server, &["127.0.5.1"; 5], "too many new connections from your address"));
    drop(taken_then_refused(&server, &["127.0.5.2"; 3], "too many new connections from your network"));
    assert_eq!(greeting(&server, "127.0.6.1").0, 220);
    assert_eq!(refused(&server, "connection_rate_per_address"), 1.0);
    assert_eq!(refused(&server, "connection_rate_per_network"), 1.0);
}

#[test]
fn files_of_networks_are_taken_over_as_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("denied");
    fs::write(&file, "# nobody\n").unwrap();
    let server = limited(&[], &format!("deny = [\"file:{}\"]", file.display()));
    assert_eq!(greeting(&server, "127.9.0.1").0, 220);
    fs::write(&file, "127.9.0.0/16\n").unwrap();
    server.wait_for_log("networks reloaded");
    assert_eq!(greeting(&server, "127.9.0.1").0, 554);
    // A bad line changes nothing, and is named.
    fs::write(&file, "127.8.0.0/16\n\n127.9.0.1/16\n").unwrap();
    server.wait_for_log("the old ones stay");
    assert!(
        server.log().contains("denied:3: has bits set behind its length: 127.9.0.0/16"),
        "{}",
        server.log()
    );
    assert_eq!((greeting(&server, "127.9.0.1").0, greeting(&server, "127.8.0.1").0), (554, 220));
}
