//! Python's smtplib.

use inrush_tests::server::Server;
use inrush_tests::{binary, corpus, export, process};
use serde_json::Value;

#[test]
fn features_corpus_and_unicode() {
    let server = Server::start();
    let folder = server.scratch().join("messages");
    std::fs::create_dir(&folder).unwrap();
    // smtplib turns an empty message into one empty line, so that one is left to the other clients.
    let messages: Vec<_> =
        corpus::messages().into_iter().filter(|message| !message.body.is_empty()).collect();
    for message in &messages {
        std::fs::write(folder.join(&message.name), &message.body).unwrap();
    }
    let mut command = process::command("python3", ["-I"]);
    command.arg(binary::folder("e2e/smtplib_client.py")).arg(server.mx().port().to_string()).arg(&folder);
    let output = process::finish(command).succeeded();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();

    for feature in [
        "pipelining",
        "size",
        "8bitmime",
        "smtputf8",
        "enhancedstatuscodes",
        "chunking",
        "binarymime",
        "dsn",
        "limits",
    ] {
        assert!(
            report["features"].get(feature).is_some(),
            "{feature} is not offered: {}",
            report["features"]
        );
    }
    assert!(report["features"].get("starttls").is_none(), "no TLS is configured");
    assert_eq!(report["features"]["size"], "52428800");

    let stored = export::all(&server.data());
    for message in &messages {
        let id =
            report["ids"][&message.name].as_str().unwrap_or_else(|| panic!("no id for {}", message.name));
        export::assert_body(&stored[id], &message.body, &message.name);
    }
    let unicode = report["unicode"].as_str().unwrap();
    assert!(String::from_utf8_lossy(&stored[unicode]).contains("Grüße"));
    assert_eq!(stored.len(), messages.len() + 1);
}
