//! Behind a load balancer: HAProxy with both versions of the PROXY protocol, and headers that are late, missing or malformed.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use inrush_tests::client::{Client, accepted};
use inrush_tests::http::Samples;
use inrush_tests::postfix::free_port;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::Authority;
use inrush_tests::{export, process};

const NAME: &str = "mx.test.example";
const BODY: &[u8] = b"Subject: behind a proxy\r\n\r\nx\r\n";

/// A server whose connections from loopback have to begin with a header.
fn behind(limits: &[&str], tables: &str) -> Server {
    let mut settings = Settings::default().listener("proxy_protocol_from = [\"127.0.0.0/8\"]").tables(tables);
    settings.limits = limits.iter().map(|line| (*line).to_owned()).collect();
    Server::with(settings)
}

fn count(server: &Server, metric: &str, reason: &str) -> f64 {
    Samples::scrape(server.admin()).sum(metric, &[&format!("reason=\"{reason}\"")])
}

#[track_caller]
fn wait_for(server: &Server, metric: &str, reason: &str, value: f64) {
    process::eventually(&format!("{metric} {reason} is {value}"), || count(server, metric, reason) == value);
}

/// A header of version 2 for TCP over IPv4, or without addresses.
fn version_2(command: u8, addresses: Option<([u8; 4], u16)>) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.push(0x20 | command);
    match addresses {
        None => header.extend([0, 0, 0]),
        Some((source, port)) => {
            header.extend([0x11, 0, 12]);
            header.extend(source);
            header.extend([192, 0, 2, 25]);
            header.extend(port.to_be_bytes());
            header.extend(25_u16.to_be_bytes());
        }
    }
    header
}

/// A session after this header: everything at once, or an octet at a time.
fn introduced(server: &Server, header: &[u8], slowly: bool) -> Client {
    let mut client = Client::open(server.mx()).unwrap();
    if slowly {
        header.iter().for_each(|octet| client.send(&[*octet]).unwrap());
    } else {
        client.send(header).unwrap();
    }
    client
}

#[test]
fn the_peer_is_who_the_header_names() {
    let server = behind(&[], "");
    let version_1 = b"PROXY TCP6 2001:db8::7 2001:db8::25 4321 25\r\n".to_vec();
    for (header, peer) in
        [(version_1, "2001:db8::7"), (version_2(1, Some(([198, 51, 100, 7], 4321))), "198.51.100.7")]
    {
        for slowly in [false, true] {
            let mut client = introduced(&server, &header, slowly);
            client.expect(220);
            client.say("EHLO client.test.example", 250);
            client.deliver(&["b@example.com"], BODY);
            let facts = export::facts(&server.data()).pop().unwrap();
            assert!(facts["peer"].as_str().unwrap().contains(peer), "{facts}");
            assert!(facts["proxy"].as_str().unwrap().contains("127.0.0.1"), "{facts}");
            assert!(facts["local"].as_str().unwrap().ends_with(":25"), "{facts}");
        }
    }
    // What comes in the same segment is the client's.
    let mut client = introduced(&server, b"PROXY TCP4 198.51.100.8 192.0.2.25 1 25\r\nNOOP\r\n", false);
    client.expect(220);
    client.expect(250);
    assert_eq!(count(&server, "inrush_proxy_connections_total", "client"), 5.0);
}

#[test]
fn health_checks_and_clients_without_an_address() {
    let server = behind(&[], "");
    let mut check = introduced(&server, &version_2(0, None), false);
    check.expect(220);
    check.say("QUIT", 221);
    let mut unknown = introduced(&server, b"PROXY UNKNOWN\r\n", false);
    unknown.expect(220);
    assert_eq!(count(&server, "inrush_proxy_connections_total", "local"), 1.0);
    assert_eq!(count(&server, "inrush_proxy_connections_total", "unknown"), 1.0);
}

#[test]
fn without_a_header_there_is_no_session() {
    let server = behind(&["proxy_timeout = \"1s\""], "");
    for input in [&b"EHLO client.test.example\r\n"[..], b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = introduced(&server, input, false);
        assert!(client.rest().is_empty(), "{}", input.escape_ascii());
    }
    wait_for(&server, "inrush_proxy_failures_total", "missing", 3.0);
    let mut wrong_length = version_2(1, Some(([198, 51, 100, 7], 1)));
    wrong_length[15] = 3;
    for input in [
        &b"PROXY TCP4 198.51.100.7 192.0.2.25 70000 25\r\n"[..],
        b"PROXY TCP4 2001:db8::1 192.0.2.25 1 25\r\n",
        &[b"PROXY TCP4 "[..].to_vec(), vec![b'1'; 200]].concat(),
        &wrong_length,
    ] {
        let mut client = introduced(&server, input, false);
        assert!(client.rest().is_empty(), "{}", input.escape_ascii());
    }
    wait_for(&server, "inrush_proxy_failures_total", "malformed", 4.0);
    // Late.
    let mut silent = introduced(&server, b"PROXY TCP4 198.51", false);
    assert!(silent.rest().is_empty());
    wait_for(&server, "inrush_proxy_failures_total", "proxy_timeout", 1.0);
    // Gone.
    drop(introduced(&server, b"PROXY", false));
    wait_for(&server, "inrush_proxy_failures_total", "closed", 1.0);
    process::eventually("no session is open", || {
        Samples::scrape(server.admin()).sum("inrush_connections_open", &[]) == 0.0
    });
}

/// A header from elsewhere is believed by nobody.
#[test]
fn a_header_from_elsewhere_is_no_command() {
    let server = Server::with(Settings::default().listener("proxy_protocol_from = [\"127.9.0.0/16\"]"));
    let mut client = introduced(&server, b"PROXY TCP4 198.51.100.7 192.0.2.25 1 25\r\n", false);
    client.expect(220);
    client.expect(500);
}

#[test]
fn limits_are_those_of_the_client() {
    let access = "[access]\ndeny = [\"203.0.113.0/24\"]";
    let server = behind(&["connections_per_address_max = 2"], access);
    let from = |last: u8| introduced(&server, &version_2(1, Some(([198, 51, 100, last], 1))), false);
    let mut open: Vec<Client> = (0..2).map(|_| from(7)).collect();
    open.iter_mut().for_each(|client| drop(client.expect(220)));
    from(7).expect(421);
    from(8).expect(220);
    introduced(&server, &version_2(1, Some(([203, 0, 113, 1], 1))), false).expect(554);
}

/// HAProxy with this configuration; ended when dropped.
struct HaProxy(Child);

impl HaProxy {
    fn start(server: &Server, ports: &[SocketAddr], config: &str) -> Self {
        let file = server.scratch().join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let mut command = process::command("haproxy", ["-db", "-f"]);
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let haproxy = Self(command.spawn().unwrap());
        for port in ports {
            process::eventually("HAProxy accepts", || std::net::TcpStream::connect(port).is_ok());
        }
        haproxy
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_in_front() {
    let authority = Authority::new();
    let files = authority.issue(NAME);
    let pem = authority.folder().join("both.pem");
    fs::File::create(&pem)
        .unwrap()
        .write_all(&[fs::read(&files.certificate).unwrap(), fs::read(&files.key).unwrap()].concat())
        .unwrap();
    let smtps = "[[listener]]\nname = \"smtps\"\naddress = [\"127.0.0.1:0\"]\ntls = \"implicit\"\n\
                 proxy_protocol_from = [\"127.0.0.1\"]\n";
    let server = behind(&[], &format!("[tls]\n{}{smtps}", files.lines()));
    let [one, two, through, ending] = [(); 4].map(|()| free_port());
    let config = format!(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen one\n  bind {one}\n  server mx {mx} send-proxy\n\
         listen two\n  bind {two}\n  server mx {mx} send-proxy-v2 proxy-v2-options crc32c check inter 100ms\n\
         listen through\n  bind {through}\n  server mx {smtps} send-proxy-v2\n\
         listen ending\n  bind {ending} ssl crt {pem}\n  unique-id-format %[uuid()]\n  \
         server mx {mx} send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,unique-id,crc32c\n",
        mx = server.mx(),
        smtps = server.listener("smtps"),
        pem = pem.display(),
    );
    let _haproxy = HaProxy::start(&server, &[one, two, through, ending], &config);
    for (port, source, secure) in [
        (one, "127.0.0.21", false),
        (two, "127.0.0.22", false),
        (through, "127.0.0.23", true),
        (ending, "127.0.0.24", true),
    ] {
        let mut client = Client::open_from(source.parse().unwrap(), port).unwrap();
        if secure {
            client.secure(NAME).unwrap();
        }
        client.expect(220);
        client.say("EHLO client.test.example", 250);
        accepted_message(&mut client);
        let facts = export::facts(&server.data()).pop().unwrap();
        assert!(facts["peer"].as_str().unwrap().contains(source), "{facts}");
        assert_eq!(facts["tls"].is_object(), secure, "{facts}");
        if secure {
            assert_eq!(facts["tls"]["version"], "TLSv1.3", "{facts}");
            assert_eq!(facts["tls"]["sni"], NAME, "{facts}");
        }
        if port == ending {
            let notes = facts["attributes"].as_array().unwrap();
            assert!(notes.iter().any(|note| note.to_string().contains("proxy_unique_id")), "{facts}");
        }
    }
    // Its health checks of version 2 are its own.
    process::eventually("health checks are seen", || {
        count(&server, "inrush_proxy_connections_total", "local") > 1.0
    });
}

fn accepted_message(client: &mut Client) {
    client.say("MAIL FROM:<a@client.test.example>", 250);
    client.say("RCPT TO:<b@example.com>", 250);
    client.say("DATA", 354);
    client.send(&[BODY, b".\r\n"].concat()).unwrap();
    accepted(&client.expect(250));
}

/// By default loopback has no limits; somebody of whom a proxy there knows nothing has them all, and is no filter.
#[test]
fn who_is_unknown_has_no_rights_of_the_proxy() {
    let settings = Settings::default()
        .listener("proxy_protocol_from = [\"127.0.0.0/8\"]")
        .listener("xclient_from = [\"127.0.0.0/8\"]")
        .listener("greet_delay = \"5s\"");
    let server = Server::with(settings);
    let known = b"PROXY TCP4 127.0.0.5 127.0.0.1 4711 25\r\nEHLO at.once\r\n";
    let mut client = introduced(&server, known, false);
    client.expect(220);
    assert!(client.expect(250).text().contains("XCLIENT"));
    introduced(&server, b"PROXY UNKNOWN\r\nEHLO at.once\r\n", false).expect(554);
    let mut client = introduced(&server, b"PROXY UNKNOWN\r\n", false);
    client.expect(220);
    assert!(!client.say("EHLO client.test.example", 250).text().contains("XCLIENT"));
    client.say("XCLIENT ADDR=192.0.2.1", 502);
}
