//! Connections that end while nothing is asked of them, and those that this machine cannot make.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "some of it is for the other tests")]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use support::{Server, run};

/// Takes everything, and closes a connection after 200 ms without a word, with these last ones.
fn impatient(farewell: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that is gone is none of the server's business.
            thread::spawn(move || serve(stream.unwrap(), farewell).unwrap_or_default());
        }
    });
    address
}

fn serve(stream: TcpStream, farewell: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut input = BufReader::new(stream);
    let mut is_data = false;
    input.get_mut().write_all(b"220 short.example\r\n")?;
    loop {
        let mut line = String::new();
        match input.read_line(&mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(_) => return input.get_mut().write_all(farewell.as_bytes()),
        }
        let reply = match line.as_str() {
            ".\r\n" if is_data => {
                is_data = false;
                "250 taken\r\n"
            }
            _ if is_data => continue,
            "DATA\r\n" => {
                is_data = true;
                "354 go\r\n"
            }
            "QUIT\r\n" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        input.get_mut().write_all(reply.as_bytes())?;
    }
}

#[test]
fn a_connection_closed_while_idle_is_made_anew() {
    thread::scope(|scope| {
        for farewell in ["421 4.4.2 idle for too long\r\n", ""] {
            let address = impatient(farewell);
            for words in ["-m 4 -d --rate 1", "-m 4 -d -w 1s", "-m 4 -d --rate 1 --engine epoll"] {
                scope.spawn(move || closed_while_idle(address, words));
            }
        }
    });
}

fn closed_while_idle(address: SocketAddr, words: &str) {
    let run = run(&format!("{address} {words}"));
    assert_eq!((run.code, run.count("acknowledged")), (0, 4), "{words}: {:?}", run.output);
    assert_eq!((&run.json["errors"], &run.json["causes"]), (&0.into(), &serde_json::json!([])));
    assert_eq!(run.count("started"), 4, "none of them twice");
    assert_eq!((run.count("connections"), run.count("connections_closed_idle")), (4, 3), "{words}");
    let report = String::from_utf8(run.output.stderr).unwrap();
    assert!(report.contains("closed by the server while idle, and made anew: 3"), "{report}");
}

#[test]
fn what_lacks_here_is_the_generators_limit() {
    let server = Server::friendly();
    // The second address is not of this machine.
    let words = "-m 10 --source-address 127.0.0.2,192.0.2.1";
    let half = run(&format!("{} {words}", server.address));
    assert_eq!((half.code, half.count("acknowledged")), (1, 5), "{:?}", half.output);
    assert_eq!((half.count("not_possible"), half.count("failed")), (5, 0));
    assert_eq!((half.count("connections_failed"), half.cause("generator", 0)), (0, 5));
    assert_eq!(half.json["generator_limit"]["limited"], true);
    let reasons = &half.json["generator_limit"]["reasons"];
    assert!(reasons.to_string().contains("5 messages could not be sent from here"), "{reasons}");

    let none = run(&format!("{} -D 30s --closed --source-address 192.0.2.1", server.address));
    let ended_by = none.json["ended_by"].as_str().unwrap();
    assert!(none.code == 3 && ended_by.contains("the generator cannot connect from here"), "{ended_by}");
    assert!(ended_by.contains("--source-address"), "{ended_by}");
}

#[test]
fn a_refused_connection_from_a_given_address_says_why() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for engine in ["uring", "epoll"] {
        let run = run(&format!("{address} -m 1 --source-address 127.0.0.2 --engine {engine}"));
        assert!(
            run.code == 3 && run.json["ended_by"].as_str().unwrap().contains("refused"),
            "{:?}",
            run.output
        );
    }
}

#[test]
fn a_connection_takes_one_descriptor() {
    let server = Server::friendly();
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=164:164", env!("CARGO_BIN_EXE_inrush-load"), "run"]);
    limited.args(["-s", "100", "-m", "100", "--source-address", "127.0.0.2", &server.address.to_string()]);
    let output = limited.output().unwrap();
    assert_eq!((output.status.code(), server.taken().len()), (Some(0), 100), "{output:?}");
}
