//! `deploy/systemd` under a real systemd.

use std::fs;
use std::net::SocketAddr;

use inrush_tests::client::{Client, accepted};
use inrush_tests::machine::Machine;
use inrush_tests::server::field;
use inrush_tests::tls::Authority;
use inrush_tests::{binary, http, process};

use super::{file, text};

const UNIT: &str = "inrush.service";
const NAME: &str = "mx.test.example";

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A session with the gateway of the machine.
fn greeted(machine: &Machine) -> Client {
    machine.inside(|| Client::greeted(at(25)))
}

/// Where the gateway finds the files of `/etc/inrush/tls`, up to their names.
const CREDENTIALS: &str = "/run/credentials/inrush.service/tls_";

/// A configuration with its certificate at this place, and more tables.
fn config(engine: &str, tls: &str, tables: &str) -> String {
    format!(
        "hostname = \"{NAME}\"\ndata_dir = \"/var/lib/inrush\"\nengine = \"{engine}\"\n\
         [[listener]]\nname = \"mx\"\naddress = [\"127.0.0.1:25\"]\ntls = \"starttls\"\n\
         [tls]\ncertificate = \"{tls}fullchain.pem\"\nkey = \"{tls}privkey.pem\"\n\
         [log]\nsegment_bytes = \"4MiB\"\nfree_bytes_min = \"16MiB\"\n\
         [admin]\naddress = \"127.0.0.1:9925\"\ntoken_file = \"/run/credentials/{UNIT}/secret_token\"\n\
         [[domain]]\nname = \"example.com\"\n{tables}"
    )
}

/// A machine on which the gateway runs as its unit says, after these commands.
fn machine(config: &str, before: &str) -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let configured = folder.path().join("inrush.toml");
    fs::write(&configured, config).unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "a-token-of-the-tests\n").unwrap();
    let authority = Authority::new();
    let files = authority.issue(NAME);
    let machine = Machine::boot(&[
        ("/usr/bin/inrush", binary::inrush()),
        ("/etc/inrush/inrush.toml", &configured),
        ("/etc/inrush/tls/fullchain.pem", &files.certificate),
        ("/etc/inrush/tls/privkey.pem", &files.key),
        ("/etc/inrush/secret/token", &token),
        ("/usr/lib/systemd/system/inrush.service", &file("deploy/systemd/inrush.service")),
    ]);
    machine.run(["sh", "-euc", before]).succeeded();
    machine.run(["systemctl", "start", "inrush"]).succeeded();
    machine
}

/// Writes lines of a drop-in of the unit; for [`machine`].
fn drop_in(lines: &str) -> String {
    format!(
        "mkdir -p /etc/systemd/system/{UNIT}.d\nprintf '[Service]\\n{lines}' > /etc/systemd/system/{UNIT}.d/tests.conf\n\
         systemctl daemon-reload\n"
    )
}

/// The certificate that the gateway shows now.
fn shown(machine: &Machine) -> Vec<u8> {
    let mut client = greeted(machine);
    client.start_tls(NAME);
    client.stream_below().shown()[0].to_vec()
}

/// A line of `/proc/PID/status` of the gateway.
fn status(machine: &Machine, key: &str) -> String {
    let pid = machine.property(UNIT, "MainPID");
    let status = fs::read_to_string(machine.file(&format!("/proc/{pid}/status"))).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
    lines.find(|(name, _)| *name == key).unwrap_or_else(|| panic!("{key}: {status}")).1.trim().to_owned()
}

fn serves_and_ends(engine: &str) {
    let machine = machine(&config(engine, CREDENTIALS, ""), "");
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    let journal = machine.journal(UNIT);
    assert_eq!(journal.lines().find_map(|line| field(line, "engine")).as_deref(), Some(engine), "{journal}");
    // Who it is, and what it may: CAP_NET_BIND_SERVICE is number 10.
    assert_ne!(status(&machine, "Uid").split('\t').next(), Some("0"));
    for set in ["CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(&machine, set), "0000000000000400", "{set}");
    }
    assert_eq!((status(&machine, "NoNewPrivs"), status(&machine, "Seccomp")), ("1".into(), "2".into()));
    let state = machine.run(["stat", "--format=%a", "/var/lib/private/inrush"]).succeeded().text();
    assert_eq!(state.trim(), "700");
    process::eventually("/readyz says yes", || {
        machine.inside(|| http::get(at(9925), "/readyz")).status == 200
    });

    let body = b"Subject: under systemd\r\n\r\nx\r\n";
    let mut client = greeted(&machine);
    client.start_tls(NAME);
    client.say("EHLO client.test.example", 250);
    let id = client.deliver(&["b@example.com"], body);

    // The watchdog is heard of, with a time that does not have to be waited for.
    assert_ne!(machine.property(UNIT, "WatchdogTimestampMonotonic"), "0");

    // A configuration with a mistake is told and changes nothing; a right one is taken over.
    let config = machine.file("/etc/inrush/inrush.toml");
    let right = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{right}\nno_such_key = 1\n")).unwrap();
    assert!(!machine.run(["systemctl", "reload", "inrush"]).status.success());
    process::eventually("the mistake is in the journal", || machine.journal(UNIT).contains("no_such_key"));
    fs::write(&config, format!("{right}\n[[domain]]\nname = \"other.example\"\n")).unwrap();
    machine.run(["systemctl", "reload", "inrush"]).succeeded();
    process::eventually("the new domain is there", || {
        let mut client = greeted(&machine);
        client.say("MAIL FROM:<a@client.test.example>", 250);
        client.send(b"RCPT TO:<b@other.example>\r\n").unwrap();
        client.reply().unwrap().code == 250
    });

    // Killed, it comes back with what it had.
    machine.run(["systemctl", "kill", "--signal=KILL", "inrush"]).succeeded();
    process::eventually("it was started again", || {
        machine.property(UNIT, "NRestarts") == "1" && machine.property(UNIT, "ActiveState") == "active"
    });
    let listed = machine.run(["inrush", "log", "cat", "--data-dir", "/var/lib/inrush", "--no-trace", &id]);
    assert_eq!(listed.succeeded().stdout, body);

    // Asked to stop, it lets a transaction end.
    let mut idle = greeted(&machine);
    let mut running = greeted(&machine);
    running.envelope(&["b@example.com"]);
    running.say("DATA", 354);
    let mut stop = machine.command(["systemctl", "stop", "inrush"]).spawn().unwrap();
    assert!(idle.expect(421).text().contains("4.3.2"));
    running.send(b"Subject: the last one\r\n\r\n.\r\n").unwrap();
    let last = accepted(&running.expect(250));
    assert!(process::wait(&mut stop, process::PATIENCE).unwrap().success());
    assert_eq!(machine.property(UNIT, "Result"), "success");
    machine.run(["inrush", "log", "cat", "--data-dir", "/var/lib/inrush", &last]).succeeded();
}

#[test]
fn the_unit_on_io_uring() {
    serves_and_ends("io_uring");
}

#[test]
fn the_unit_on_epoll() {
    serves_and_ends("epoll");
}

/// Puts another certificate where the first one was.
fn renew(machine: &Machine, folder: &str) {
    let authority = Authority::new();
    let files = authority.issue(NAME);
    for (from, name) in [(&files.certificate, "fullchain.pem"), (&files.key, "privkey.pem")] {
        // In place: owner and mode stay.
        fs::write(machine.file(&format!("{folder}/{name}")), fs::read(from).unwrap()).unwrap();
    }
}

/// Credentials are read at the start.
#[test]
fn a_certificate_that_is_a_credential() {
    let machine = machine(&config("auto", CREDENTIALS, ""), "");
    let before = shown(&machine);
    renew(&machine, "/etc/inrush/tls");
    machine.run(["systemctl", "restart", "inrush"]).succeeded();
    assert_ne!(shown(&machine), before);
}

/// Files of a group that the service has are read again while it runs, as docs/operations.md says.
#[test]
fn a_certificate_of_a_group() {
    let before = "groupadd --system inrush-files\ncp -r /etc/inrush/tls /etc/mail-tls\nchmod 0755 /etc/mail-tls\n\
                  chgrp inrush-files /etc/mail-tls/*\nchmod 0640 /etc/mail-tls/*\n";
    let before = format!("{before}{}", drop_in("SupplementaryGroups=inrush-files\\n"));
    let machine = machine(&config("auto", "/etc/mail-tls/", ""), &before);
    let first = shown(&machine);
    renew(&machine, "/etc/mail-tls");
    process::eventually("the new certificate is shown", || shown(&machine) != first);
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
}

/// The new process takes over within the sandbox of the old one, and is what systemd looks after from then on.
#[test]
fn an_upgrade_under_the_unit() {
    let machine = machine(&config("auto", CREDENTIALS, ""), "");
    let before = machine.property(UNIT, "MainPID");
    let mut running = greeted(&machine);
    running.envelope(&["b@example.com"]);
    machine.run(["systemctl", "kill", "--signal=USR2", "--kill-whom=main", "inrush"]).succeeded();
    process::eventually("systemd looks after the new process", || {
        machine.property(UNIT, "MainPID") != before
    });
    running.say("DATA", 354);
    running.send(b"Subject: in the old one\r\n\r\nx\r\n.\r\n").unwrap();
    accepted(&running.expect(250));
    drop(running);
    process::eventually("the old process has ended", || machine.journal(UNIT).contains("upgrade: done"));
    // It has the same rights and no more, gives signs of life, is reloaded and stopped.
    for set in ["CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(&machine, set), "0000000000000400", "{set}");
    }
    let told = machine.property(UNIT, "WatchdogTimestampMonotonic");
    process::eventually("it gives a sign of life", || {
        machine.property(UNIT, "WatchdogTimestampMonotonic") != told
    });
    machine.run(["systemctl", "reload", "inrush"]).succeeded();
    greeted(&machine).deliver(&["b@example.com"], b"Subject: in the new one\r\n\r\nx\r\n");
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
    let mut running = greeted(&machine);
    running.envelope(&["b@example.com"]);
    running.say("DATA", 354);
    let mut stop = machine.command(["systemctl", "stop", "inrush"]).spawn().unwrap();
    process::eventually("it stops", || machine.journal(UNIT).matches("stopping").count() == 1);
    running.send(b"Subject: the last one\r\n\r\nx\r\n.\r\n").unwrap();
    accepted(&running.expect(250));
    assert!(process::wait(&mut stop, process::PATIENCE).unwrap().success());
    assert_eq!(machine.property(UNIT, "Result"), "success");
}

/// Both processes are asked to end, and transactions of both have their time.
#[test]
fn a_stop_in_the_middle_of_an_upgrade() {
    let machine = machine(&config("auto", CREDENTIALS, ""), "");
    let before = machine.property(UNIT, "MainPID");
    let in_data = || {
        let mut client = greeted(&machine);
        client.envelope(&["b@example.com"]);
        client.say("DATA", 354);
        client
    };
    let mut old = in_data();
    machine.run(["systemctl", "kill", "--signal=USR2", "--kill-whom=main", "inrush"]).succeeded();
    process::eventually("systemd looks after the new process", || {
        machine.property(UNIT, "MainPID") != before
    });
    let mut new = in_data();
    let mut stop = machine.command(["systemctl", "stop", "inrush"]).spawn().unwrap();
    process::eventually("it stops", || machine.journal(UNIT).contains("stopping"));
    for client in [&mut new, &mut old] {
        client.send(b"Subject: the last one\r\n\r\nx\r\n.\r\n").unwrap();
        accepted(&client.expect(250));
    }
    assert!(process::wait(&mut stop, process::PATIENCE).unwrap().success());
    assert_eq!(machine.property(UNIT, "Result"), "success");
    let listed = machine.run(["inrush", "log", "list", "--data-dir", "/var/lib/inrush"]).succeeded().text();
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

/// It dies after an upgrade, and is started again as it would be without one.
#[test]
fn a_death_after_an_upgrade() {
    let machine = machine(&config("auto", CREDENTIALS, ""), "");
    machine.run(["systemctl", "kill", "--signal=USR2", "--kill-whom=main", "inrush"]).succeeded();
    process::eventually("the old process has ended", || machine.journal(UNIT).contains("upgrade: done"));
    machine.run(["systemctl", "kill", "--signal=KILL", "inrush"]).succeeded();
    process::eventually("it was started again", || {
        machine.property(UNIT, "NRestarts") == "1" && machine.property(UNIT, "ActiveState") == "active"
    });
    greeted(&machine).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
}

/// With the socket unit nobody is refused while the gateway is away.
#[test]
fn ports_that_systemd_keeps() {
    let machine = machine(&config("auto", CREDENTIALS, ""), "");
    let unit = text("deploy/systemd/examples/inrush.socket");
    let unit = unit.replace("ListenStream=[::]:25", "ListenStream=127.0.0.1:25");
    machine.run(["systemctl", "stop", "inrush"]).succeeded();
    fs::write(machine.file("/etc/systemd/system/inrush.socket"), unit).unwrap();
    machine.run(["systemctl", "daemon-reload"]).succeeded();
    machine.run(["systemctl", "enable", "--now", "inrush.socket"]).succeeded();
    // Whoever comes first starts it.
    greeted(&machine).deliver(&["b@example.com"], b"Subject: first\r\n\r\nx\r\n");
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    let mut restart = machine.command(["systemctl", "restart", "inrush"]).spawn().unwrap();
    let mut greetings = 0;
    while restart.try_wait().unwrap().is_none() || greetings == 0 {
        // Said 421, or served; never refused.
        machine.inside(|| Client::open(at(25))).unwrap().reply().unwrap();
        greetings += 1;
    }
    greeted(&machine).deliver(&["b@example.com"], b"Subject: last\r\n\r\nx\r\n");
}

/// Mailboxes of another user, with the drop-in of docs/operations.md.
#[test]
fn maildirs_of_a_user() {
    let lines = "DynamicUser=no\\nUser=vmail\\nReadWritePaths=/srv/mail\\n";
    let page = text("docs/operations.md");
    let shown: Vec<&str> = lines.split("\\n").filter(|line| !line.is_empty()).collect();
    assert!(shown.iter().all(|line| page.contains(&format!("`{line}`"))), "{shown:?}");
    let before = format!("useradd --system vmail\ninstall -d -o vmail -m 0700 /srv/mail\n{}", drop_in(lines));
    let tables = "route = \"boxes\"\n[[route]]\nname = \"boxes\"\nkind = \"maildir\"\npath = \"/srv/mail/{domain}/{local}\"\n";
    let machine = machine(&config("auto", CREDENTIALS, tables), &before);
    greeted(&machine).deliver(&["joe@example.com"], b"Subject: in a mailbox\r\n\r\nx\r\n");
    let found =
        || machine.run(["find", "/srv/mail/example.com/joe/new", "-type", "f", "-user", "vmail"]).text();
    process::eventually("the message is in the mailbox of vmail", || {
        found().contains("/new/") && !found().contains("No such")
    });
}

/// What `systemd-analyze security` says, 0 best and 10 worst: never more than docs/operations.md says.
#[test]
fn the_exposure_is_what_is_written_down() {
    let said = text("docs/operations.md");
    let mark = "Overall exposure level for inrush.service: ";
    let written = said.split(mark).nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let written = (written.parse::<f64>().unwrap() * 10.0).round();
    let mut command = process::command("systemd-analyze", ["security", "--offline=true", "--no-pager"]);
    command.arg(format!("--threshold={written}")).arg(file("deploy/systemd/inrush.service"));
    let analyzed = process::finish(command).succeeded().text();
    assert!(analyzed.contains(mark), "{analyzed}");
}

/// Nothing in the unit is unknown to systemd, or means nothing.
#[test]
fn the_unit_is_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join(UNIT);
    // The program is not installed here.
    fs::write(&unit, text("deploy/systemd/inrush.service").replace("/usr/bin/inrush", "/bin/true")).unwrap();
    let mut command = process::command("systemd-analyze", ["verify", "--man=no", "--recursive-errors=no"]);
    command.arg(&unit);
    let verified = process::finish(command).succeeded().text();
    assert!(!verified.contains("inrush.service"), "{verified}");
}
