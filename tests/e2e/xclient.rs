//! XCLIENT: a filter in front of the gateway says who its client is, and that client's access and limits count.

use inrush_tests::client::Client;
use inrush_tests::http::Samples;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, process};

fn server(access: &str, limits: &[&str]) -> Server {
    let mut settings = Settings::default()
        .listener("xclient_from = [\"127.0.0.1\", \"192.0.2.2\"]")
        .tables(&format!("[access]\nallow = [\"127.0.0.1\"]\n{access}"));
    settings.limits = limits.iter().map(|line| (*line).to_owned()).collect();
    Server::with(settings)
}

#[test]
fn swaks_speaks_for_its_client() {
    let server = server("", &[]);
    let port = server.mx().port().to_string();
    let mut command = process::command("swaks", ["--server", "127.0.0.1", "--port", &port]);
    command.args(["--from", "a@client.test.example", "--to", "b@example.com", "--data", "Subject: x\n\nx"]);
    command.args(["--xclient", "NAME=spike.example ADDR=IPV6:2001:db8::7 PORT=4711 HELO=spike PROTO=ESMTP"]);
    command.env("HOME", server.scratch()).env_remove("SWAKS_HOME");
    process::finish(command).succeeded();
    let facts = export::only_facts(&server.data());
    assert_eq!(facts["peer"], "[2001:db8::7]:4711");
    assert_eq!(facts["peer_name"], "spike.example");
    assert_eq!(facts["helo"], "spike");
    assert!(facts["proxy"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", facts["proxy"]);
    let trace = facts["received"].as_str().unwrap();
    assert!(trace.starts_with("Received: from spike (spike.example [IPv6:2001:db8::7])"), "{trace}");
    assert_eq!(Samples::scrape(server.admin()).sum("inrush_xclient_total", &[]), 1.0);
}

#[test]
fn who_is_not_listed_is_not_believed() {
    let server = server("", &[]);
    let mut client = Client::open_from("127.0.0.2".parse().unwrap(), server.mx()).unwrap();
    client.expect(220);
    let offered = client.say("EHLO client.test.example", 250).text();
    assert!(!offered.contains("XCLIENT"), "{offered}");
    client.say("XCLIENT ADDR=192.0.2.1", 502);
}

/// The client behind the filter is denied, whatever the filter may do.
#[test]
fn access_is_that_of_the_client() {
    let server = server("deny = [\"192.0.2.0/24\"]", &[]);
    let mut client = Client::greeted(server.mx());
    assert!(client.say("XCLIENT ADDR=192.0.2.1", 554).text().contains("5.7.1"));
    assert!(client.rest().is_empty());
    let mut client = Client::greeted(server.mx());
    client.say("XCLIENT ADDR=198.51.100.1", 220);
}

#[test]
fn limits_are_those_of_the_client() {
    let server = server("", &["connections_per_address_max = 2"]);
    let session = |address: &str| {
        let mut client = Client::greeted(server.mx());
        client.send(format!("XCLIENT ADDR={address}\r\n").as_bytes()).unwrap();
        let code = client.reply().unwrap().code;
        (code, client)
    };
    let open = [session("192.0.2.1"), session("192.0.2.1")];
    assert_eq!(open.each_ref().map(|(code, _)| *code), [220, 220]);
    assert_eq!(session("192.0.2.1").0, 421);
    // The same one again on the same connection is no second one.
    let (_, mut client) = session("192.0.2.2");
    for _ in 0..5 {
        client.say("XCLIENT ADDR=192.0.2.2", 220);
    }
    assert_eq!(session("192.0.2.2").0, 220);
    drop(open);
    process::eventually("there is room again", || session("192.0.2.1").0 == 220);
}

/// What reaches us as the client has sent it is no longer the filter's word.
#[test]
fn a_client_does_not_speak_for_others() {
    let server = server("deny = [\"192.0.2.0/24\"]", &[]);
    let mut client = Client::greeted(server.mx());
    client.say("XCLIENT ADDR=198.51.100.1", 220);
    let offered = client.say("EHLO client.test.example", 250).text();
    assert!(!offered.contains("XCLIENT"), "{offered}");
    client.say("XCLIENT ADDR=127.0.0.1 LOGIN=joe", 502);
    // A name alone says nothing about who speaks.
    let mut client = Client::greeted(server.mx());
    client.say("XCLIENT NAME=spike.example", 220);
    client.say("XCLIENT ADDR=198.51.100.1", 220);
}

#[test]
fn who_is_unknown_is_nobody_else() {
    let server = server("", &[]);
    let mut client = Client::greeted(server.mx());
    client.say("XCLIENT NAME=spike.example ADDR=192.0.2.2", 220);
    client.say("XCLIENT ADDR=[UNAVAILABLE]", 220);
    client.say("XCLIENT ADDR=192.0.2.2", 502);
    client.say("EHLO client.test.example", 250);
    client.deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
    let facts = export::only_facts(&server.data());
    assert!(facts["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", facts["peer"]);
    assert!(facts["peer_name"].is_null(), "{}", facts["peer_name"]);
}
