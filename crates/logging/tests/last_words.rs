//! The end of a process: what was said is written, and a reader that has stalled holds up neither the end nor the last words before an abort. The
//! process is this test once more, with its standard error in a pipe.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use inrush_logging::{FormatChoice, LoggingSettings};

const ROLE: &str = "INRUSH_TEST_ROLE";

/// More than a pipe and the queue take.
const LINES: usize = 20_000;

/// Starts this test as the process that says something.
fn process(role: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_that_says_something", "--nocapture"]).env(ROLE, role);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_process_that_says_something() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let settings = LoggingSettings { format: FormatChoice::Json, ..LoggingSettings::default() };
    let log = inrush_logging::start(&settings, None).unwrap();
    assert!(inrush_logging::start(&settings, None).is_err(), "there is one log in a process");
    let lines = if role.starts_with("stalled") { LINES } else { 100 };
    for number in 0..lines {
        tracing::info!(id = number, filler = "x".repeat(200), "one of many");
    }
    if role.ends_with("aborts") {
        assert!(inrush_logging::last_words("the last\nwords".to_owned(), Some("somewhere".to_owned())));
        std::process::abort();
    }
    drop(log);
}

fn said(child: &mut Child) -> Vec<serde_json::Value> {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn everything_is_written_at_the_end() {
    let mut child = process("ends");
    let lines = said(&mut child);
    assert!(child.wait().unwrap().success());
    assert_eq!(lines.iter().filter(|line| line["msg"] == "one of many").count(), 100);
}

#[test]
fn last_words_come_behind_everything_else() {
    let mut child = process("aborts");
    let lines = said(&mut child);
    assert!(!child.wait().unwrap().success());
    let last = lines.last().unwrap();
    assert_eq!((&last["level"], &last["msg"]), (&"error".into(), &"the last\nwords".into()));
    assert_eq!(last["backtrace"], "somewhere");
    assert_eq!(lines.iter().filter(|line| line["msg"] == "one of many").count(), 100);
}

/// Nobody reads: it ends all the same.
#[test]
fn nobody_waits_for_a_reader_that_has_stalled() {
    for role in ["stalled, ends", "stalled, aborts"] {
        let mut child = process(role);
        let ended = (0..6000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            child.try_wait().unwrap()
        });
        let Some(status) = ended else {
            child.kill().unwrap();
            panic!("{role}: it waits for its reader");
        };
        assert_eq!(status.success(), role == "stalled, ends", "{status}");
        let lines = said(&mut child);
        assert!(!lines.is_empty() && lines.len() < LINES, "{}", lines.len());
    }
}
