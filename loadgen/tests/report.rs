//! `inrush-load report` over files of real runs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "some of it is for the other tests")]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::{Action, Moment, Server, command};

fn inrush_load(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inrush-load")).args(words).output().unwrap()
}

/// A run against a server that refuses every tenth message with a hostile text.
fn recorded(path: &Path, words: &str) {
    let server = Server::start(|moment| match moment {
        Moment::Message(n) if n % 10 == 3 => {
            Action::Say("554 5.6.0 <script>alert(\"no\")</script> & more\r\n".to_owned())
        }
        _ => Action::Usual,
    });
    let output = command(&format!("{} {words} --json {}", server.address, path.display())).output().unwrap();
    assert!(path.exists(), "{output:?}");
}

/// Opening and closing tags of these names are as many, and nest.
fn well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for (at, _) in page.match_indices('<') {
        let tag = &page[at + 1..at + page[at..].find('>').unwrap()];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('!') || tag.ends_with('/') || ["meta"].contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "at {}", &page[at.saturating_sub(80)..at]);
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_page_of_two_runs() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two, html] = ["one.json", "two.json", "page.html"].map(|name| directory.path().join(name));
    recorded(&one, "-m 100 -s 2 -d --label server=scripted --errors-max 100");
    recorded(&two, "-D 1s -s 2 -d --rate 200 --warmup 300ms --errors-max 1000");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&two).unwrap()).unwrap();
    // 1.3 s in slices of 100 ms; the plan of 200 a second shows in each, warm-up included.
    let planned = json["series"]["planned"].as_array().unwrap();
    assert_eq!(planned.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 260);
    assert!(planned[..13].iter().all(|count| *count == 20), "{planned:?}");
    assert_eq!(json["series"]["lead_s"], 0.3);
    let acknowledged = |json: &serde_json::Value| json["counts"]["acknowledged"].as_u64().unwrap();
    let sum = |name: &str| -> u64 {
        json["series"][name].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum()
    };
    let warmup = json["warmup_counts"]["acknowledged"].as_u64().unwrap();
    assert_eq!(sum("acknowledged"), acknowledged(&json) + warmup);
    assert_eq!(sum("errors"), json["errors"].as_u64().unwrap());
    assert_eq!(json["settings"]["rate"], "200");

    let words = ["report", one.to_str().unwrap(), two.to_str().unwrap(), "-o", html.to_str().unwrap()];
    let output = inrush_load(&[&words[..], &["--title", "Two <runs>"]].concat());
    assert!(output.status.success(), "{output:?}");
    let page = fs::read_to_string(&html).unwrap();
    well_formed(&page);
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert("), "the reply is text");
    assert!(page.contains("<h1>Two &lt;runs&gt;</h1>") && page.contains("server=scripted"));
    for title in [
        "Messages a second over time",
        "Total latency over time",
        "Total latency, heat map",
        "Latency by percentile and phase",
    ] {
        assert_eq!(page.matches(&format!("<figcaption>{title}</figcaption>")).count(), 2, "{title}");
    }
    for text in ["Total latency of all runs", "Errors by cause", "Settings", "Machine", "measured from here"]
    {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("Content-Security-Policy") && page.contains("default-src 'none'"));
}

#[test]
fn other_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.json");
    fs::write(&path, "{\"schema\": 2, \"counts\": {}}").unwrap();
    let output = inrush_load(&["report", path.to_str().unwrap(), "-o", "-"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("other.json: schema 2 is not known here"), "{error}");
    assert!(output.stdout.is_empty());
}
