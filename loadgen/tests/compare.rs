//! `inrush-load compare` over files of real runs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "some of it is for the other tests")]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{Action, Moment, Server, command};

fn compare(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inrush-load")).arg("compare").args(words).output().unwrap()
}

/// Files of a run against a friendly server and of one that refuses `refused` of ten recipients, in turns.
fn groups(directory: &Path, runs: usize) -> (PathBuf, PathBuf) {
    let friendly = Server::friendly();
    let harsh = Server::start(|moment| match moment {
        Moment::Message(n) if n % 10 < 5 => Action::Say("550 5.7.1 no\r\n".to_owned()),
        _ => Action::Usual,
    });
    let groups = ["a", "b"].map(|name| directory.join(name));
    for (group, server) in groups.iter().zip([&friendly, &harsh]) {
        fs::create_dir(group).unwrap();
        assert!(!server.address.to_string().is_empty());
    }
    for run in 0..runs {
        for (group, server) in groups.iter().zip([&friendly, &harsh]) {
            let json = group.join(format!("{run}.json"));
            let output = command(&format!("{} -m 50 -d --json {}", server.address, json.display())).output();
            assert!(json.exists(), "{:?}", output.unwrap());
        }
    }
    let [a, b] = groups;
    (a, b)
}

#[test]
fn more_errors_are_worse_and_fail() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = groups(directory.path(), 4);
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let json = directory.path().join("comparison.json");
    let words = [a, b, "--fail-if-worse", "10", "--decide", "error_share", "--json", json.to_str().unwrap()];
    let output = compare(&words);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("A: 4 runs, B: 4 runs, in pairs"), "{table}");
    assert!(table.contains("Worse by more than 10 %: error_share."), "{table}");
    assert!(table.contains("setting target differs") && table.contains("errors"), "{table}");
    let json: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let figures = json["figures"].as_array().unwrap();
    let errors = figures.iter().find(|figure| figure["name"] == "error_share").unwrap();
    assert_eq!((errors["verdict"].as_str(), errors["change"].as_f64()), (Some("worse"), Some(0.5)));
    assert_eq!(errors["change_is"], "difference");
    assert_eq!(json["failing"][0], "error_share");

    // The other way round it is better, and the same files are not different.
    let output = compare(&[b, a, "--fail-if-worse", "10", "--decide", "error_share"]);
    assert_eq!(output.status.code(), Some(0));
    let output = compare(&[a, a, "--fail-if-worse", "0", "--json", "-"]);
    assert_eq!(output.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdicts = json["figures"].as_array().unwrap();
    assert!(verdicts.iter().all(|figure| figure["verdict"] == "no_difference_shown"), "{json}");
}

/// A file of a run that had this throughput, and this much of the server's time or none.
fn write(directory: &Path, name: &str, values: &[(f64, Option<f64>)]) -> String {
    let group = directory.join(name);
    fs::create_dir(&group).unwrap();
    for (n, (rate, cpu)) in values.iter().enumerate() {
        let json = serde_json::json!({
            "schema": 1, "started_at": format!("2026-01-01T00:00:0{n}Z"), "errors": 0, "elapsed_s": 10.0,
            "counts": { "acknowledged": 5000, "started": 5000 }, "messages_per_second": rate,
            "server_cpu": cpu.map(|cpu| serde_json::json!({ "us_per_message": cpu })),
            "settings": { "sessions": "50" }, "machine": { "cpu": "x" },
        });
        fs::write(group.join(format!("{n}.json")), json.to_string()).unwrap();
    }
    group.to_str().unwrap().to_owned()
}

#[test]
fn only_an_interval_wholly_beyond_the_limit_fails() {
    let directory = tempfile::tempdir().unwrap();
    let a = write(directory.path(), "a", &[1000.0, 1010.0, 990.0, 1005.0].map(|rate| (rate, Some(10.0))));
    // About 9 % less, shown to be less, but as well possibly 5 %.
    let b = write(directory.path(), "b", &[950.0, 880.0, 900.0, 930.0].map(|rate| (rate, Some(10.0))));
    for (limit, code) in [("1", 1), ("8", 0), ("20", 0)] {
        let output = compare(&[&a, &b, "--paired", "no", "--fail-if-worse", limit]);
        assert_eq!(output.status.code(), Some(code), "{limit}: {output:?}");
    }
    // A group without the figure is no group in which it is the same.
    let without = write(directory.path(), "c", &[1000.0, 1010.0, 990.0, 1005.0].map(|rate| (rate, None)));
    let output = compare(&[&a, &without, "--paired", "no", "--fail-if-worse", "5"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && error.contains("server_cpu: 0 of 4 runs of B have it"),
        "{error}"
    );
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("Not judged: server_cpu"), "{table}");
    // A run without a single message is worse by as much as it lacks of A, not by so many messages.
    let zero = write(directory.path(), "d", &[0.0, 0.0, 0.0, 0.0].map(|rate| (rate, Some(10.0))));
    let output = compare(&[&a, &zero, "--paired", "no", "--fail-if-worse", "90"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("messages_per_second is 0 in 4 of 4 runs of B"), "{table}");
}

#[test]
fn too_few_runs_show_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = groups(directory.path(), 2);
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let output = compare(&["--a", a, "--b", b, "--all"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(table.contains("too few runs") && table.contains("no verdict is given"), "{table}");
    assert!(table.contains("banner p50"), "{table}");
    let output = compare(&[a, b, "--fail-if-worse", "5"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("needs 3 runs or more of each group"), "{error}");
}

#[test]
fn wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    let (a, _) = groups(directory.path(), 3);
    let a = a.to_str().unwrap();
    let one = format!("{a}/0.json");
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for words in [
        vec![a],
        vec!["--a", a],
        vec![a, empty.to_str().unwrap()],
        vec![a, one.as_str(), "--paired", "yes"],
        vec![a, a, "--fail-if-worse", "-1"],
        vec![a, a, "--fail-if-worse", "1", "--decide", "nothing"],
        vec![a, a, "--decide", "total p50"],
        vec![a, "/nowhere"],
    ] {
        assert_eq!(compare(&words).status.code(), Some(2), "{words:?}");
    }
}
