//! The short way through everything, on each engine: greeting, pipelining, DATA, BDAT, refusals, restart.

use inrush_tests::client::{Client, accepted, stuffed};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{corpus, export};

fn smoke(engine: &str) {
    let mut server = Server::with(Settings::default().engine(engine).recipients(&["known@example.com"]));
    let mut sent = Vec::new();

    let mut client = Client::greeted(server.mx());
    client.say("MAIL FROM:<a@client.test.example>", 250);
    assert!(client.say("RCPT TO:<nobody@example.com>", 550).text().contains("5.1.1"));
    assert!(client.say("RCPT TO:<known@elsewhere.example>", 550).text().contains("5.7.1"));
    client.say("RSET", 250);
    for message in corpus::messages() {
        sent.push((client.deliver(&["known@example.com"], &message.body), message));
    }

    // RFC 2920 §3.1: one segment up to DATA, one with the mail data.
    for message in corpus::messages() {
        client.send(b"MAIL FROM:<a@client.test.example>\r\nRCPT TO:<known@example.com>\r\nDATA\r\n").unwrap();
        client.expect(250);
        client.expect(250);
        client.expect(354);
        client.send(&stuffed(&message.body)).unwrap();
        sent.push((accepted(&client.expect(250)), message));
    }

    // RFC 3030 §2: no transparency, no reply in between.
    for message in corpus::messages() {
        let commands = format!(
            "MAIL FROM:<a@client.test.example>\r\nRCPT TO:<known@example.com>\r\nBDAT {} LAST\r\n",
            message.body.len()
        );
        client.send(&[commands.as_bytes(), &message.body].concat()).unwrap();
        client.expect(250);
        client.expect(250);
        sent.push((accepted(&client.expect(250)), message));
    }
    client.say("QUIT", 221);
    assert!(client.rest().is_empty());

    let check = |data: &std::path::Path| {
        let stored = export::all(data);
        assert_eq!(stored.len(), sent.len());
        for (id, message) in &sent {
            export::assert_body(&stored[id], &message.body, &message.name);
        }
    };
    check(&server.data());
    server.restart();
    check(&server.data());
    server.stop();
    check(&server.data());
}

#[test]
fn io_uring() {
    smoke("io_uring");
}

#[test]
fn epoll() {
    smoke("epoll");
}

/// `pin_cores` gives the thread of each core one processor; without it the thread may run on all of them.
#[test]
fn cores_are_pinned_when_asked() {
    for (line, pinned) in [("pin_cores = true", true), ("pin_cores = false", false)] {
        let server = Server::with(Settings { top: vec![line.into()], ..Settings::default() });
        // A thread has its name and its processor before it accepts.
        server.wait_until_accepting();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let statuses =
            tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
        let cores: Vec<String> = statuses.filter(|status| status.contains("inrush-core-")).collect();
        assert!(!cores.is_empty());
        for status in cores {
            let list =
                status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
            let one = list.parse::<u32>().is_ok();
            let only = std::thread::available_parallelism().unwrap().get() == 1;
            assert!(only || one == pinned, "{line}: {list}");
        }
    }
}
