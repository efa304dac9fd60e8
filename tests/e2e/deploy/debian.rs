//! The Debian packages on a machine with systemd: installed, in use, removed, installed again, purged.

use std::net::SocketAddr;

use inrush_tests::client::{Client, accepted};
use inrush_tests::machine::Machine;
use inrush_tests::{binary, process};

use super::small_segments;

const UNIT: &str = "inrush.service";

fn mx() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 2525))
}

#[track_caller]
fn dpkg(machine: &Machine, arguments: &[&str]) {
    machine.run([&["dpkg"], arguments].concat()).succeeded();
}

/// The ids of the log of the installed gateway.
#[track_caller]
fn listed(machine: &Machine) -> Vec<String> {
    let listed = machine.run(["inrush", "log", "list", "--data-dir", "/var/lib/inrush"]).succeeded().text();
    listed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn installed_removed_and_purged() {
    let [gateway, load] = binary::packages();
    let small = small_segments();
    let machine = Machine::boot(&[
        ("/opt/inrush.deb", gateway),
        ("/opt/inrush-load.deb", load),
        ("/etc/inrush/conf.d/small.toml", small.path()),
    ]);
    dpkg(&machine, &["--install", "/opt/inrush.deb", "/opt/inrush-load.deb"]);
    let version = machine.run(["inrush", "version"]).succeeded().text();
    let revision = version.trim().strip_prefix(concat!("inrush ", env!("CARGO_PKG_VERSION"), " ("));
    let revision = revision.and_then(|text| text.strip_suffix(')')).unwrap_or_else(|| panic!("{version}"));
    let is_commit = revision.len() == 12 && revision.bytes().all(|octet| octet.is_ascii_hexdigit());
    assert!(is_commit || revision == "unknown", "{version}");
    assert_eq!(machine.property(UNIT, "UnitFileState"), "enabled");
    process::eventually("the service runs", || machine.property(UNIT, "ActiveState") == "active");
    let config = "/etc/inrush/inrush.toml";
    machine.run(["inrush", "check", "--config", config]).succeeded();
    let id = machine.inside(|| {
        let mut client = Client::greeted(mx());
        client.deliver(&["anybody@example.com"], b"Subject: out of the box\r\n\r\nx\r\n")
    });
    assert_eq!(listed(&machine), std::slice::from_ref(&id));
    let run = ["inrush-load", "run", "127.0.0.1:2525", "--messages", "10", "--quiet"];
    machine.run(run).succeeded();

    // Configuration and mail stay when the package goes.
    dpkg(&machine, &["--remove", "inrush"]);
    assert!(machine.file(config).is_file());
    assert!(!machine.file("/usr/bin/inrush").exists());
    assert!(machine.inside(|| Client::open(mx()).is_err()), "nobody listens any more");
    dpkg(&machine, &["--install", "/opt/inrush.deb"]);
    process::eventually("the service runs", || machine.property(UNIT, "ActiveState") == "active");
    let again = listed(&machine);
    assert_eq!((again.len(), again.contains(&id)), (11, true), "{again:?}");

    // The same once more is an upgrade: the new program takes over, and what is under way ends in the old one.
    let before = machine.property(UNIT, "MainPID");
    let mut running = machine.inside(|| Client::greeted(mx()));
    running.envelope(&["anybody@example.com"]);
    dpkg(&machine, &["--install", "/opt/inrush.deb"]);
    process::eventually("the service is the new one", || machine.property(UNIT, "MainPID") != before);
    running.say("DATA", 354);
    running.send(b"Subject: in the old one\r\n\r\nx\r\n.\r\n").unwrap();
    accepted(&running.expect(250));
    drop(running);
    process::eventually("the old one has ended", || machine.journal(UNIT).contains("upgrade: done"));
    assert_eq!((machine.property(UNIT, "NRestarts"), listed(&machine).len()), ("0".into(), 12));

    // What the administrator has put there is for the administrator to take away.
    machine.run(["rm", "-r", "/etc/inrush/conf.d"]).succeeded();
    dpkg(&machine, &["--purge", "inrush", "inrush-load"]);
    for left in ["/etc/inrush", "/var/lib/inrush", "/var/lib/private/inrush", "/usr/share/doc/inrush"] {
        let found = machine.run(["find", left]);
        assert!(!found.status.success(), "{}", found.text());
    }
    let known = machine.run(["dpkg-query", "--show", "inrush", "inrush-load"]);
    assert!(!known.status.success(), "{}", known.text());
}

#[test]
fn lintian_finds_nothing() {
    let [gateway, load] = binary::packages();
    let mut command = process::command("lintian", ["--allow-root", "--fail-on", "error,warning"]);
    command.args(["--tag-display-limit", "0"]).args([gateway, load]);
    process::finish(command).succeeded();
}

/// What belongs to a package of Debian beside the program.
#[test]
fn what_is_in_them() {
    for (package, name) in binary::packages().iter().zip(["inrush", "inrush-load"]) {
        let mut command = process::command("dpkg-deb", ["--contents"]);
        command.arg(package);
        let contents = process::finish(command).succeeded().text();
        for file in [
            format!("./usr/bin/{name}"),
            format!("./usr/share/man/man1/{name}.1.gz"),
            format!("./usr/share/bash-completion/completions/{name}"),
            format!("./usr/share/zsh/vendor-completions/_{name}"),
            format!("./usr/share/fish/vendor_completions.d/{name}.fish"),
            format!("./usr/share/doc/{name}/copyright"),
            format!("./usr/share/doc/{name}/changelog.Debian.gz"),
        ] {
            assert!(contents.lines().any(|line| line.ends_with(&file)), "{file}:\n{contents}");
        }
        let mut command = process::command("dpkg-deb", ["--field"]);
        command.args([package.as_os_str(), "Version".as_ref()]);
        let version = process::finish(command).succeeded().text();
        assert!(version.trim().starts_with(env!("CARGO_PKG_VERSION")), "{version}");
    }
}

/// Every command has a manual page, made from the same definition as its help.
#[test]
fn manual_pages() {
    let folder = tempfile::tempdir().unwrap();
    for (program, page) in
        [(binary::inrush(), "man1/inrush-log-export.1"), (binary::inrush_load(), "man1/inrush-load-run.1")]
    {
        let mut command = std::process::Command::new(program);
        command.arg("manual-pages").arg(folder.path());
        process::finish(command).succeeded();
        let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.contains(".SH OPTIONS"), "{text}");
    }
}

/// Completions are scripts of their shell.
#[test]
fn completions() {
    for program in [binary::inrush(), binary::inrush_load()] {
        let mut command = std::process::Command::new(program);
        command.args(["completions", "bash"]);
        let script = process::finish(command).succeeded();
        let checked = process::finish_with_input(process::command("bash", ["-n"]), &script.stdout);
        checked.succeeded();
        assert!(String::from_utf8_lossy(&script.stdout).contains("complete -F"));
    }
}
