//! curl as a sender.

use inrush_tests::server::Server;
use inrush_tests::{corpus, export, process};

#[test]
fn uploads() {
    let server = Server::start();
    let file = server.scratch().join("message");
    let mut sent = Vec::new();
    for message in corpus::messages().into_iter().filter(|message| message.body.starts_with(b"From: ")) {
        std::fs::write(&file, &message.body).unwrap();
        let mut command = process::command("curl", ["--disable", "--silent", "--show-error", "--verbose"]);
        command.arg(format!("smtp://{}/client.test.example", server.mx()));
        command.args(["--mail-from", "a@client.test.example", "--mail-rcpt", "b@example.com"]);
        command.args(["--mail-rcpt", "c@example.com", "--noproxy", "*", "--upload-file"]).arg(&file);
        process::finish(command).succeeded();
        sent.push(message);
    }
    // curl shows no id, but ids sort in the order of acceptance within a core; bodies tell which is which.
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), sent.len());
    for message in &sent {
        let found = stored.values().filter(|stored| export::split(stored, &message.body).is_ok()).count();
        assert_eq!(found, 1, "{}", message.name);
    }
}
