//! The commands and settings that README.md and the pages for operators show: they are run where they can be, and exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use inrush_tests::client::Client;
use inrush_tests::machine::Machine;
use inrush_tests::server::listening;
use inrush_tests::{binary, process};

use super::{file, small_segments, text};

/// The blocks of code of a page that begin with this line.
fn blocks(page: &str, fence: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(begin) = lines.by_ref().find(|line| line.starts_with("```")) {
        let block: String =
            lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        if begin == fence {
            blocks.push(block);
        }
    }
    blocks
}

#[test]
fn a_page_has_blocks() {
    let page = "```sh\na\nb\n```\n```\nc\n```\n```text\nd\n```\n";
    assert_eq!(blocks(page, "```sh"), ["a\nb\n"]);
    assert_eq!(blocks(page, "```"), ["c\n"]);
}

/// Every block of commands of docs/operations.md, one after the other, on a machine with systemd and nothing of ours but the packages.
#[test]
fn the_commands_of_an_operator() {
    let small = small_segments();
    let [gateway, load] = binary::packages();
    let machine = Machine::boot(&[
        ("/opt/inrush.deb", gateway),
        ("/opt/inrush-load.deb", load),
        ("/etc/inrush/conf.d/small.toml", small.path()),
    ]);
    let blocks = blocks(&text("docs/operations.md"), "```sh");
    assert!(blocks.len() > 4, "{blocks:?}");
    for block in blocks {
        let done = machine.run(["sh", "-euc", &format!("cd /opt\n{block}")]);
        assert!(done.status.success(), "{block}\n{}", done.text());
        assert_eq!(machine.property("inrush.service", "ActiveState"), "active", "{block}");
    }
    // The message of the first block is still there, on another disk.
    let listed = machine.run(["inrush", "log", "list", "--data-dir", "/var/lib/inrush"]).succeeded().text();
    assert_eq!(listed.lines().count(), 1, "{listed}");
}

/// What the shell would run for a line of README.md, from programs that are built; `None` = tried otherwise, for this reason.
fn runnable(line: &str) -> Option<String> {
    /// Passed by running this very test.
    const NOT_HERE: &[&str] = &["cargo xtask test"];
    let line = line.split("  #").next().unwrap_or(line).trim();
    if NOT_HERE.contains(&line) {
        return None;
    }
    let built =
        [("cargo run --release -p inrush-load -- ", "inrush-load "), ("cargo run --release -- ", "inrush ")];
    let mut built =
        built.iter().filter_map(|(cargo, program)| Some(format!("{program}{}", line.strip_prefix(cargo)?)));
    Some(built.next().unwrap_or_else(|| line.to_owned()))
}

#[test]
fn the_commands_of_a_newcomer() {
    let page = text("README.md");
    let lines: Vec<String> = blocks(&page, "```").concat().lines().filter_map(runnable).collect();
    let (serve, others): (Vec<_>, Vec<_>) = lines.iter().partition(|line| *line == "inrush serve");
    assert_eq!(serve.len(), 1, "{lines:?}");
    assert!(others.len() >= 6, "{others:?}");
    let machine = Machine::boot(&[
        ("/usr/bin/inrush", binary::inrush()),
        ("/usr/bin/inrush-load", binary::inrush_load()),
        ("/srv/try/README.md", &file("README.md")),
    ]);
    let mut gateway =
        machine.command(["sh", "-c", "cd /srv/try && echo $$ > pid && exec inrush serve 2> log"]);
    let mut gateway = gateway.stdin(Stdio::null()).spawn().unwrap();
    process::eventually("the gateway listens", || {
        let log = fs::read_to_string(machine.file("/srv/try/log")).unwrap_or_default();
        assert!(gateway.try_wait().unwrap().is_none(), "{log}");
        listening(&log, "mx").is_some() && listening(&log, "admin").is_some()
    });
    for line in others {
        let done = machine.run(["sh", "-euc", &format!("cd /srv/try\n{line}")]);
        assert!(done.status.success(), "{line}\n{}", done.text());
    }
    // It takes mail still.
    let mx = SocketAddr::from(([127, 0, 0, 1], 2525));
    machine.inside(|| Client::greeted(mx).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n"));
    machine.run(["sh", "-c", "kill -TERM $(cat /srv/try/pid)"]).succeeded();
    let status = process::wait(&mut gateway, process::PATIENCE).unwrap();
    assert!(status.success(), "{status}");
}

/// The configuration that README.md shows has no mistake.
#[test]
fn the_configuration_of_the_readme() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inrush.toml");
    for example in blocks(&text("README.md"), "```toml") {
        let example = example.replace("/etc/inrush", &folder.path().display().to_string());
        fs::write(&path, example).unwrap();
        fs::write(folder.path().join("example.com"), "joe@example.com\n").unwrap();
        let mut command = Command::new(binary::inrush());
        command.args(["check", "--config"]).arg(&path);
        process::finish(command).succeeded();
    }
}

/// The configuration of the package has none either, and what stands in comments is made of settings that exist.
#[test]
fn the_configuration_of_the_package() {
    let path = file("deploy/debian/inrush.toml");
    let mut command = Command::new(binary::inrush());
    command.args(["check", "--config"]).arg(&path);
    process::finish(command).succeeded();
    let folder = tempfile::tempdir().unwrap();
    let mut open = String::new();
    for line in text("deploy/debian/inrush.toml").lines() {
        // What replaces the line in front of it, in the same table.
        let shown = line.strip_prefix("# ").filter(|line| line.contains(" = ") || line.starts_with('['));
        if shown.is_some_and(|line| line.starts_with("address = ")) {
            let before = open.rfind("address = ").unwrap();
            open.truncate(before);
        }
        open.push_str(shown.unwrap_or(line));
        open.push('\n');
    }
    let authority = inrush_tests::tls::Authority::new();
    let files = authority.issue("mx.example.com");
    let open = open
        .replace(
            "/run/credentials/inrush.service/tls_fullchain.pem",
            &files.certificate.display().to_string(),
        )
        .replace("/run/credentials/inrush.service/tls_privkey.pem", &files.key.display().to_string())
        .replace("hostname = \"localhost\"", "hostname = \"mx.example.com\"");
    fs::write(folder.path().join("inrush.toml"), &open).unwrap();
    fs::write(folder.path().join("recipients.example.com"), "joe@example.com\n").unwrap();
    let mut command = Command::new(binary::inrush());
    command.args(["check", "--config"]).arg(folder.path().join("inrush.toml"));
    let checked = process::finish(command);
    assert!(checked.status.success(), "{}\n{open}", checked.text());
}

/// Every setting, as `[table] key` or `key`, by the reference that is made from the code.
fn settings() -> BTreeSet<String> {
    let mut settings = BTreeSet::new();
    let mut table = String::new();
    for line in text("docs/configuration.md").lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            table = heading.trim_matches('`').to_owned();
        } else if let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            let alone = table == "Top of the file";
            settings.insert(if alone { key.to_owned() } else { format!("{table} {key}") });
        }
    }
    settings
}

/// The pieces of a line between backquotes.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn settings_in_the_pages_exist() {
    let settings = settings();
    assert!(settings.contains("hostname") && settings.contains("[limits] drain_deadline"), "{settings:?}");
    let pages = fs::read_dir(file("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        pages.filter(|path| path.extension().is_some_and(|end| end == "md")).chain([file("README.md")]);
    let mut unknown = Vec::new();
    for path in pages {
        for piece in fs::read_to_string(&path).unwrap().lines().flat_map(code) {
            // `[table] key`, also with a value behind it.
            let Some((table, rest)) = piece.rsplit_once("] ").filter(|(table, _)| table.starts_with('['))
            else {
                continue;
            };
            let keys = rest.split(" = ").next().unwrap_or(rest).split(", ");
            for key in keys.filter(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
                let named = format!("{table}] {key}");
                if !settings.contains(&named) {
                    unknown.push(format!("{}: {named}", path.display()));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// In the table of settings every row says what becomes of a setting of Postfix: settings of ours, or none. Those of Postfix are in its own manual.
#[test]
fn each_row_of_the_migration_leads_somewhere() {
    let settings = settings();
    let page = text("docs/migration-from-postfix.md");
    let ours = page.split("## Settings").nth(1).unwrap().split("### The rest").next().unwrap();
    let known = process::finish(process::command("postconf", ["-d"])).text();
    let known: BTreeMap<&str, &str> = known.lines().filter_map(|line| line.split_once(" =")).collect();
    let (mut rows, mut defaults) = (0, 0);
    for row in ours.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [theirs, ours, ..] = cells.as_slice() else { panic!("{row}") };
        assert!(*ours == "—" || code(ours).count() > 0, "{row}");
        for setting in code(ours) {
            assert!(settings.contains(setting), "{setting}: {row}");
        }
        for piece in code(theirs) {
            let name = piece.split(" =").next().unwrap();
            let restriction = ["permit_", "reject_", "check_"].iter().any(|start| name.starts_with(start));
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                && name.contains('_');
            assert!(!plain || restriction || known.contains_key(name), "{name} is unknown to Postfix: {row}");
        }
        // Defaults stand behind the code, as "`name` = 300s"; of several names for all of them.
        let mut names = Vec::new();
        for (index, piece) in theirs.split('`').enumerate() {
            let default = piece.strip_prefix(" = ").map(|rest| rest.split([',', ' ']).next().unwrap_or(rest));
            match default {
                _ if index % 2 == 1 => names.push(piece),
                Some(default) if default.starts_with(|c: char| c.is_ascii_digit()) => {
                    let number = default.trim_end_matches(|c: char| !c.is_ascii_digit());
                    for name in names.drain(..) {
                        // Some depend on stress, or are those of another setting.
                        let theirs = known.get(name).unwrap_or_else(|| panic!("{name}"));
                        let of_another = theirs.trim().strip_prefix('$').and_then(|other| known.get(other));
                        let theirs = of_another.unwrap_or(theirs);
                        assert!(theirs.contains(number), "{name} = {default}:{theirs}");
                        defaults += 1;
                    }
                }
                _ => {}
            }
        }
        rows += 1;
    }
    assert!(rows > 55 && defaults > 20, "{rows} {defaults}");
}
