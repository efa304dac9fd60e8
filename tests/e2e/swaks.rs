//! swaks, the test tool that people reach for first.

use inrush_tests::process::{self, Finished};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{corpus, export};

fn swaks(server: &Server, arguments: &[&str]) -> Finished {
    let mut command = process::command("swaks", ["--server", "127.0.0.1", "--port"]);
    command.arg(server.mx().port().to_string());
    command.args(["--helo", "client.test.example", "--from", "a@client.test.example"]).args(arguments);
    // No .swaksrc of the person who runs the tests.
    command.env("HOME", server.scratch()).env_remove("SWAKS_HOME");
    process::finish(command)
}

/// swaks replaces its tokens, ends the header and the last line and stuffs dots; these messages hold no token.
fn messages() -> Vec<corpus::Message> {
    let has_text = |body: &[u8]| body.windows(4).any(|octets| octets == b"\r\n\r\n");
    let fit = |message: &corpus::Message| message.body.starts_with(b"From: ") && has_text(&message.body);
    corpus::messages().into_iter().filter(fit).collect()
}

fn send_all(arguments: &[&str]) {
    let server = Server::start();
    let file = server.scratch().join("message");
    let mut expected = Vec::new();
    for message in messages() {
        std::fs::write(&file, message.body.strip_suffix(b"\r\n").unwrap()).unwrap();
        let data = format!("@{}", file.display());
        let all = [&["--to", "b@example.com", "--data", &data], arguments].concat();
        let output = swaks(&server, &all).succeeded().text();
        let mut words = output.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() == 20);
        let id = words.rfind(|word| word.bytes().all(|b| b.is_ascii_hexdigit()));
        expected.push((id.unwrap_or_else(|| panic!("no id in {output}")).to_owned(), message));
    }
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), expected.len());
    for (id, message) in expected {
        export::assert_body(&stored[&id], &message.body, &message.name);
    }
}

#[test]
fn plain() {
    send_all(&[]);
}

#[test]
fn pipelining() {
    send_all(&["--pipeline"]);
}

#[test]
fn several_recipients() {
    let server = Server::with(Settings::default().recipients(&["b@example.com", "c@example.com"]));
    let output = swaks(&server, &["--to", "b@example.com,c@example.com"]).succeeded().text();
    assert_eq!(output.matches("250 2.1.5").count(), 2, "{output}");
    assert_eq!(export::all(&server.data()).len(), 1);
}

#[test]
fn refused_recipients() {
    let server = Server::with(Settings::default().recipients(&["b@example.com"]));
    for (recipient, reply) in [("x@example.com", "550 5.1.1"), ("b@other.example", "550 5.7.1")] {
        let refused = swaks(&server, &["--to", recipient]);
        assert!(!refused.status.success(), "{}", refused.text());
        assert!(refused.text().contains(reply), "{reply}: {}", refused.text());
    }
    // One good recipient among bad ones still gets its mail.
    let output = swaks(&server, &["--to", "x@example.com,b@example.com"]);
    assert!(output.text().contains("550 5.1.1") && output.text().contains("queued"), "{}", output.text());
    assert_eq!(export::all(&server.data()).len(), 1);
}

#[test]
fn large_attachment() {
    let server =
        Server::with(Settings::default().log(&["segment_bytes = \"64MiB\"", "free_bytes_min = \"16MiB\""]));
    let file = server.scratch().join("attachment");
    let mut random = inrush_tests::random::Random::new(20);
    let bytes: Vec<u8> = (0..20 * 1024 * 1024 / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
    std::fs::write(&file, &bytes).unwrap();
    let attachment = format!("@{}", file.display());
    swaks(&server, &["--to", "b@example.com", "--suppress-data", "--attach", &attachment]).succeeded();

    let stored = export::all(&server.data());
    let message = stored.values().next().unwrap();
    let text = String::from_utf8_lossy(message);
    let part = text
        .split("BASE64\r\n\r\n")
        .nth(1)
        .unwrap_or_else(|| panic!("no attachment in {} octets", text.len()));
    let encoded = part.split("\r\n--").next().unwrap();
    let decoded =
        process::finish_with_input(process::command("base64", ["-d", "-i"]), encoded.as_bytes()).succeeded();
    assert!(decoded.stdout == bytes, "{} octets came out, {} went in", decoded.stdout.len(), bytes.len());
}
