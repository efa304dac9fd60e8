//! A start that cannot go well: one clear line that names what and where, an exit code, and nothing changed on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use inrush_tests::client::Client;
use inrush_tests::mount::Mounted;
use inrush_tests::process::{self, Finished};
use inrush_tests::server::{Server, write_config};
use inrush_tests::settings::{Settings, recipients_file};
use inrush_tests::tls::{Authority, Files};
use inrush_tests::{binary, export};
use tempfile::TempDir;

/// Everything below a folder: path and contents. The lock of a data directory is left out: it tells who took it last.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.ends_with("data/lock") {
            continue;
        }
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, Vec::new());
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn run(command: &str, config: &Path) -> Finished {
    let mut inrush = Command::new(binary::inrush());
    inrush.arg(command).arg("--config").arg(config).current_dir(config.parent().unwrap());
    process::finish(inrush)
}

/// The command fails with one line of error that holds all of `words`; the folders are as before.
#[track_caller]
fn refused(command: &str, config: &Path, words: &[&str], untouched: &[&Path]) {
    let before: Vec<_> = untouched.iter().map(|folder| contents(folder)).collect();
    let finished = run(command, config);
    let text = finished.text();
    assert!(!finished.status.success(), "{command} went on:\n{text}");
    assert_eq!(finished.status.code().map(|code| code > 0), Some(true), "{}\n{text}", finished.status);
    assert!(!text.contains("panicked"), "{text}");
    let lines = text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(lines, 1, "{command}: one line with {words:?} expected:\n{text}");
    for (folder, before) in untouched.iter().zip(before) {
        let after = contents(folder);
        let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed: Vec<_> =
            paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "{command} changed {changed:?}");
    }
}

fn folder() -> TempDir {
    TempDir::with_prefix("inrush-refusal-").unwrap()
}

#[test]
fn check_takes_a_good_config() {
    let folder = folder();
    let config = write_config(folder.path(), &Settings::default(), &folder.path().join("data"));
    run("check", &config).succeeded();
}

#[test]
fn port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = folder();
    let settings = Settings { address: address.clone(), ..Settings::default() };
    let config = write_config(folder.path(), &settings, &folder.path().join("data"));
    refused("serve", &config, &[&address], &[]);
}

/// The cores share their port; another gateway must not slip in beside them and take half of the connections.
/// The admin port is tried before anything is made.
#[test]
fn admin_port_in_use() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = write_config(folder.path(), &Settings::default(), &folder.path().join("data"));
    let text = fs::read_to_string(&config).unwrap();
    let (front, admin) = text.split_once("[admin]").unwrap();
    let admin = admin.replace("127.0.0.1:0", &address);
    fs::write(&config, format!("{front}[admin]{admin}")).unwrap();
    refused("serve", &config, &["admin", &address], &[folder.path()]);
}

#[test]
fn port_in_use_by_another_gateway() {
    let server = Server::start();
    let folder = folder();
    let settings = Settings { address: server.mx().to_string(), ..Settings::default() };
    let config = write_config(folder.path(), &settings, &folder.path().join("data"));
    refused("serve", &config, &[&server.mx().to_string()], &[]);
    Client::greeted(server.mx()).say("QUIT", 221);
}

#[test]
fn data_directory_locked() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let id = client.deliver(&["b@example.com"], b"a\r\n");
    let folder = folder();
    let config = write_config(folder.path(), &Settings::default(), &server.data());
    refused("serve", &config, &[&server.data().display().to_string()], &[]);
    // The one that holds the lock is not disturbed.
    let second = client.deliver(&["b@example.com"], b"b\r\n");
    assert_eq!(export::all(&server.data()).into_keys().collect::<Vec<_>>(), [id, second]);
}

#[test]
fn data_directory_is_a_file() {
    let folder = folder();
    let data = folder.path().join("data");
    fs::write(&data, "not a folder").unwrap();
    let config = write_config(folder.path(), &Settings::default(), &data);
    refused("serve", &config, &[&data.display().to_string()], &[folder.path()]);
}

#[test]
fn data_directory_read_only() {
    let disk = Mounted::tmpfs(32);
    disk.read_only();
    let folder = folder();
    let data = disk.path().join("data");
    let config = write_config(folder.path(), &Settings::default(), &data);
    refused("serve", &config, &[&data.display().to_string()], &[folder.path(), disk.path()]);
}

#[test]
fn log_meta_corrupt() {
    let mut server = Server::start();
    let mut client = Client::greeted(server.mx());
    client.deliver(&["b@example.com"], b"a\r\n");
    server.stop();
    let metas: Vec<_> =
        contents(&server.data()).into_keys().filter(|path| path.ends_with("log.meta")).collect();
    assert!(!metas.is_empty());
    for meta in &metas {
        let octets = fs::read(meta).unwrap().iter().map(|octet| octet ^ 0x5a).collect::<Vec<_>>();
        fs::write(meta, octets).unwrap();
    }
    refused("serve", &server.config(), &["log.meta"], &[&server.data()]);
}

/// Each mistake with the words that its message must hold: file, line, what is wrong, what may have been meant.
#[test]
fn mistakes_in_the_config() {
    let table: &[(&str, &[&str])] = &[
        ("hostnam = \"mx.example.com\"\n", &["inrush.toml:1", "hostnam", "hostname"]),
        ("hostname = 5\n", &["inrush.toml:1", "hostname"]),
        ("hostname = \"mx.example.com\n", &["inrush.toml:1"]),
        ("[log]\ndurability = \"strickt\"\n", &["inrush.toml:2", "strickt", "strict"]),
        ("\n[log]\nsegment_byte = \"4MiB\"\n", &["inrush.toml:3", "segment_byte", "segment_bytes"]),
        (
            "[[listener]]\nname = \"mx\"\naddress = [\"not-an-address\"]\n",
            &["inrush.toml:3", "not-an-address"],
        ),
    ];
    for (text, words) in table {
        let folder = folder();
        let config = folder.path().join("inrush.toml");
        fs::write(&config, text).unwrap();
        for command in ["check", "serve"] {
            refused(command, &config, words, &[folder.path()]);
        }
    }
}

/// Each with the words of its one message: what is wrong with which file.
#[test]
fn certificates_that_cannot_be_used() {
    let authority = Authority::new();
    let (good, other) = (authority.issue("mx.example"), authority.issue("mx.other.example"));
    let expired = authority.issue_until("expired", "mx.example", 2021);
    let encrypted = Files { key: authority.folder().join("encrypted.pem"), ..good.clone() };
    let mut openssl = process::command("openssl", ["ec", "-aes256", "-passout", "pass:secret", "-in"]);
    openssl.arg(&good.key).arg("-out").arg(&encrypted.key);
    process::finish(openssl).succeeded();
    let garbage = Files { certificate: authority.folder().join("garbage.pem"), ..good.clone() };
    fs::write(&garbage.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    let empty = Files { certificate: authority.folder().join("empty.pem"), ..good.clone() };
    fs::write(&empty.certificate, "").unwrap();
    let none = Files { certificate: authority.folder().join("none.pem"), ..good.clone() };
    let swapped = Files { key: other.key.clone(), ..good.clone() };
    let sni = |name: &str, files: &Files| format!("[[tls.sni]]\nname = \"{name}\"\n{}", files.lines());
    let ca = format!("client_ca = \"{}\"\n", empty.certificate.display());
    let table: &[(&Files, String, &[&str])] = &[
        (&swapped, String::new(), &["tls.key", "is not the key of"]),
        (&expired, String::new(), &["tls.certificate", "expired.certificate.pem has expired at"]),
        (&none, String::new(), &["tls.certificate", "none.pem cannot be read"]),
        (&empty, String::new(), &["tls.certificate", "empty.pem holds no certificate"]),
        (&garbage, String::new(), &["tls.certificate", "garbage.pem"]),
        (&encrypted, String::new(), &["tls.key", "encrypted.pem is encrypted"]),
        (&good, ca, &["tls.client_ca", "empty.pem holds no certificate"]),
        (
            &good,
            sni("mx.third.example", &other),
            &["tls.sni.certificate", "is not for the name mx.third.example"],
        ),
        (&good, sni("mx.other.example", &swapped), &["tls.sni", "is not the key of"]),
    ];
    for (files, more, words) in table {
        let folder = folder();
        let config = folder.path().join("inrush.toml");
        let listener = "[[listener]]\nname = \"mx\"\naddress = [\"127.0.0.1:0\"]\ntls = \"starttls\"\n";
        fs::write(&config, format!("[tls]\n{}{more}{listener}", files.lines())).unwrap();
        let mut all = vec!["inrush.toml:"];
        all.extend_from_slice(words);
        for command in ["check", "serve"] {
            refused(command, &config, &all, &[folder.path()]);
        }
    }
}

#[test]
fn config_not_there() {
    let folder = folder();
    for command in ["check", "serve"] {
        refused(command, &folder.path().join("none.toml"), &["none.toml"], &[folder.path()]);
    }
}

#[test]
fn recipients_file_not_there() {
    let folder = folder();
    let settings = Settings::default().recipients(&["a@example.com"]);
    let config = write_config(folder.path(), &settings, &folder.path().join("data"));
    fs::remove_file(recipients_file(folder.path(), "example.com")).unwrap();
    for command in ["check", "serve"] {
        refused(command, &config, &["recipients.example.com"], &[folder.path()]);
    }
}
