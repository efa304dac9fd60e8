//! `bare-line-feeds`: what is called open to SMTP smuggling, what is not, and what was not tested.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "some of it is for the other tests")]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use inrush_tests::postfix::{Postfix, Purpose, free_port};
use serde_json::Value;
use support::{Action, Moment, Run, Server, run};

/// A server on threads that end with the process.
fn start(serve: fn(TcpStream) -> std::io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that breaks off is none of the server's business.
            thread::spawn(move || serve(stream.unwrap()).unwrap_or_default());
        }
    });
    address
}

fn smuggling(run: &Run) -> &Value {
    let hostile = run.json["hostile"].as_array().unwrap();
    &hostile.iter().find(|kind| kind["behaviour"] == "bare-line-feeds").unwrap()["smuggling"]
}

fn sums(smuggling: &Value, name: &str) -> u64 {
    smuggling["false_ends"].as_array().unwrap().iter().map(|end| end[name].as_u64().unwrap()).sum()
}

/// Any line with a dot alone ends the mail data; there is one recipient, and one message a connection.
fn strict_about_recipients(stream: TcpStream) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    let (mut is_data, mut messages) = (false, 0);
    input.get_mut().write_all(b"220 old.example\r\n")?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match line.trim_end() {
            "." if is_data => {
                is_data = false;
                messages += 1;
                "250 taken\r\n"
            }
            _ if is_data => continue,
            "RCPT TO:<user@here.example>" if messages == 0 => "250 ok\r\n",
            line if line.starts_with("RCPT") => "554 5.7.1 relaying denied\r\n",
            line if line.starts_with("MAIL") && line != "MAIL FROM:<me@load.example>" => {
                "553 5.7.1 not yours\r\n"
            }
            "DATA" if messages == 0 => {
                is_data = true;
                "354 go\r\n"
            }
            "DATA" => "503 5.5.1 no recipients\r\n",
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        input.get_mut().write_all(reply.as_bytes())?;
    }
}

#[test]
fn a_refused_smuggled_command_is_a_command() {
    let address = start(strict_about_recipients);
    let envelope = "-f me@load.example -t user@here.example";
    let run = run(&format!("{address} {envelope} -D 1s --rate 20 --hostile bare-line-feeds=8"));
    assert_eq!((run.code, run.count("acknowledged")), (0, 20), "{:?}", run.output);
    let smuggling = smuggling(&run);
    assert_eq!(smuggling["verdict"], "found", "{smuggling}");
    assert!(sums(smuggling, "found") >= 4, "each but CR . CR: {smuggling}");
    let report = String::from_utf8(run.output.stderr).unwrap();
    assert!(report.contains("THE SERVER IS OPEN TO SMTP SMUGGLING"), "{report}");
}

#[test]
fn a_server_in_step_is_told_so_when_every_false_end_was_tried() {
    let server = Server::friendly();
    let run = run(&format!("{} -D 1s --rate 20 --hostile bare-line-feeds=4", server.address));
    let smuggling = smuggling(&run);
    assert_eq!(smuggling["verdict"], "not_found", "{smuggling}");
    assert!(sums(smuggling, "taken_as_text") >= 4 && sums(smuggling, "found") == 0, "{smuggling}");
    let report = String::from_utf8(run.output.stderr).unwrap();
    assert!(report.contains("no command inside of mail data was answered"), "{report}");
}

#[test]
fn what_never_came_to_mail_data_was_not_tested() {
    let server = Server::start(|moment| match moment {
        Moment::Recipient(_) => Action::Say("550 5.1.1 unknown\r\n".to_owned()),
        _ => Action::Usual,
    });
    let run = run(&format!("{} -D 1s --rate 20 --hostile bare-line-feeds=4", server.address));
    let smuggling = smuggling(&run);
    assert_eq!(smuggling["verdict"], "not_tested", "{smuggling}");
    assert!(sums(smuggling, "not_tested") >= 4 && sums(smuggling, "taken_as_text") == 0, "{smuggling}");
    let report = String::from_utf8(run.output.stderr).unwrap();
    assert!(report.contains("SMUGGLING WAS NOT TESTED by LF . LF, LF . CR LF"), "{report}");
}

#[test]
fn postfix_is_judged_by_its_settings() {
    let main = |forbid: &str| {
        vec![
            format!("smtpd_forbid_bare_newline = {forbid}"),
            // This machine too, from which the test comes.
            "smtpd_forbid_bare_newline_exclusions =".to_owned(),
        ]
    };
    for (forbid, verdict) in [("no", "found"), ("normalize", "not_found"), ("reject", "not_found")] {
        let listen = free_port();
        let keep = vec!["kept.example".to_owned()];
        let postfix =
            Postfix::start(&Purpose { listen: Some(listen), keep, main: main(forbid), ..Purpose::default() });
        let load = "-t user@kept.example -f me@load.example -D 3s --rate 10 --hostile bare-line-feeds=4";
        let run = run(&format!("{listen} {load}"));
        let smuggling = smuggling(&run);
        assert_eq!(smuggling["verdict"], verdict, "{forbid}: {smuggling} {}", postfix.log());
        if forbid == "reject" {
            assert!(sums(smuggling, "refused") > 0, "{smuggling}");
        }
    }
}
