//! The dialogs of `tests/dialogs` over a socket: the same scripts that the session plays in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use inrush_dialog::{Expectation, Script, Step, Storage, Verdict};
use inrush_tests::server::Server;
use inrush_tests::settings::{Recipients, Settings};
use inrush_tests::tls::{Authority, Files, Stream, secure};
use inrush_tests::{binary, export, process};

/// Settings that steer the session alone and that no operator can set: the size of its pieces and buffers, extensions that are
/// always offered. A script about one of them is for memory only; a size of pieces makes no difference to what is seen.
const MEMORY_ONLY: &[&str] = &["output_octets_max", "envelope_octets_max", "chunking", "smtputf8", "dsn"];
const INVISIBLE: &[&str] = &["piece_octets_max"];

/// The server answers nothing more, not even what asks whether it is still there.
const SILENT: &[&str] = &["bdat_huge_number_swallows_all"];

/// An operator cannot set these lower: below it a script is for memory only.
const LEAST: &[(&str, u64)] =
    &[("message_bytes_max", 1024), ("header_bytes_max", 4096), ("hops_max", 100), ("errors_max", 1)];

/// What a server must be like for a script; scripts that need the same share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Needs {
    settings: Vec<(String, String)>,
    recipients: Vec<(String, bool)>,
}

/// `None` when only the session in memory can play it: a failing log, a verdict that is not known yet, a setting of its own.
fn needs(script: &Script) -> Option<Needs> {
    let fails = script.storage.iter().any(|storage| *storage != Storage::Ok);
    let later = script.recipients.iter().any(|(_, verdict)| *verdict == Verdict::Later);
    let too_low = |name: &str, value: &str| {
        let least = LEAST.iter().find(|(least, _)| *least == name);
        least.is_some_and(|(_, least)| value.parse::<u64>().is_ok_and(|value| value < *least))
    };
    let no_tls = script.settings.iter().any(|(name, value)| name == "tls" && value == "unavailable");
    let own = script
        .settings
        .iter()
        .any(|(name, value)| MEMORY_ONLY.contains(&name.as_str()) || too_low(name, value));
    if fails || later || own || no_tls || SILENT.contains(&script.name.as_str()) {
        return None;
    }
    let settings = script.settings.iter().filter(|(name, _)| !INVISIBLE.contains(&name.as_str()));
    // Who is taken need not be told from who is not named.
    let not_taken = script.recipients.iter().filter(|(_, verdict)| *verdict != Verdict::Ok);
    let recipients = not_taken.map(|(address, verdict)| (address.clone(), *verdict == Verdict::Relay));
    Some(Needs { settings: settings.cloned().collect(), recipients: recipients.collect() })
}

fn server(needs: &Needs, scripts: &[&Script], certificate: &Files, users: &Path) -> Server {
    let mut settings = Settings { hostname: "mx.example".into(), ..Settings::default() };
    let mut smtps =
        "[[listener]]\nname = \"smtps\"\naddress = [\"127.0.0.1:0\"]\ntls = \"implicit\"\n".to_owned();
    for (name, value) in &needs.settings {
        match name.as_str() {
            "tls" => settings.listener.push(format!("tls = \"{value}\"")),
            "kind" => {
                settings.listener.push(format!("kind = \"{value}\""));
                smtps.push_str(&format!("kind = \"{value}\"\n"));
            }
            "xclient" => {
                settings.listener.push("xclient_from = [\"127.0.0.1\"]".into());
                smtps.push_str("xclient_from = [\"127.0.0.1\"]\n");
            }
            "bare_newline" => {
                settings.listener.push(format!("bare_newline = \"{value}\""));
                smtps.push_str(&format!("bare_newline = \"{value}\"\n"));
            }
            name if name.ends_with("_bytes_max") || name.ends_with("_octets_max") => {
                settings.limits.push(format!("{name} = \"{value}B\""));
            }
            name => settings.limits.push(format!("{name} = {value}")),
        }
    }
    settings.domains = vec![("*".into(), Recipients::Any)];
    if !needs.recipients.is_empty() {
        // Who is not refused is listed; a domain that is refused as a whole is not named at all. One that nobody writes to
        // stands there always: without any, mail for all domains would be taken.
        let mut domains = BTreeMap::from([("nobody.example".to_owned(), BTreeSet::new())]);
        let refused = |address: &str| needs.recipients.iter().any(|(refused, _)| refused == address);
        let foreign = |domain: &str| {
            let in_it = |address: &str| domain_of(address).is_some_and(|theirs| theirs == domain);
            needs.recipients.iter().any(|(address, relay)| *relay && in_it(address))
        };
        let inputs = scripts.iter().map(|script| String::from_utf8_lossy(&script.input()).into_owned());
        let inputs: Vec<String> = inputs.collect();
        for address in inputs.iter().flat_map(|input| input.split(['<', '>', ':'])) {
            if let Some(domain) = domain_of(address) {
                let list = domains.entry(domain).or_default();
                // The others are there to be refused for their syntax.
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_' | '@');
                let one = address.find('@') == address.rfind('@') && !address.starts_with('@');
                if !refused(address) && address.chars().all(plain) && one {
                    list.insert(address.to_owned());
                }
            }
        }
        let domains = domains.into_iter().filter(|(domain, _)| !foreign(domain));
        let listed = |list: BTreeSet<String>| Recipients::Listed(list.into_iter().collect());
        settings.domains = domains.map(|(domain, list)| (domain, listed(list))).collect();
    }
    let file = users.display();
    let submission = format!("[submission]\nusers = \"{file}\"\nfailure_delay = 0\n");
    let tables = format!("[tls]\n{}", certificate.lines());
    Server::with(settings.tables(&tables).tables(&smtps).tables(&submission))
}

/// The domain of an address in lower case, unless it is there to be refused for its syntax.
fn domain_of(address: &str) -> Option<String> {
    let (_, domain) = address.rsplit_once('@')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']');
    (!domain.is_empty() && !domain.ends_with('.') && domain.chars().all(plain))
        .then(|| domain.to_ascii_lowercase())
}

#[test]
fn over_a_socket() {
    let scripts = Script::all(&binary::folder("dialogs")).unwrap();
    let mut groups: BTreeMap<Needs, Vec<&Script>> = BTreeMap::new();
    let mut in_memory_only = Vec::new();
    for script in &scripts {
        match needs(script) {
            Some(needs) => groups.entry(needs).or_default().push(script),
            None => in_memory_only.push(script.name.as_str()),
        }
    }
    // Most can be played; should that change, it is to be seen.
    assert!(in_memory_only.len() * 5 < scripts.len(), "{in_memory_only:?}");

    let authority = Authority::new();
    let certificate = authority.issue("mx.example");
    // The one user of the dialogs.
    let users = authority.folder().join("users");
    inrush_tests::users::write(&users, &[("joe@one.example", "")]);
    let mut failures = Vec::new();
    for (needs, scripts) in &groups {
        let server = server(needs, scripts, &certificate, &users);
        let mut failed = false;
        for script in scripts {
            let as_it_stands = [(server.mx(), script.settings.iter().any(|(_, value)| value == "implicit"))];
            let under_tls = [(server.listener("smtps"), true)];
            let under_tls = under_tls.iter().take(ways(script) - 1);
            for &(address, implicit) in as_it_stands.iter().chain(under_tls) {
                if let Err(error) = play(script, address, implicit) {
                    failures.push(format!("{} ({address}): {error}", script.name));
                    failed = true;
                }
            }
        }
        if !failed {
            check_messages(&server, scripts, &mut failures);
        }
    }
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), scripts.len(), failures.join("\n"));
}

fn play(script: &Script, address: SocketAddr, implicit: bool) -> Result<(), String> {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(process::PATIENCE)).unwrap();
    let mut stream = Stream::Plain(socket);
    let shake_hands = |stream: &mut Stream| {
        *stream = secure(stream.socket().try_clone()?, "mx.example")?;
        Ok(())
    };
    if implicit {
        shake_hands(&mut stream).map_err(|error: std::io::Error| error.to_string())?;
    }
    script.play(&mut stream, shake_hands)
}

/// How often a script is played: once more under TLS, if it is not about TLS or about what is offered, which is not the same there.
fn ways(script: &Script) -> usize {
    let about_tls = script.settings.iter().any(|(name, _)| name == "tls");
    // Under TLS another extension is offered.
    let lists_all = script.steps.iter().any(|step| {
        matches!(step, Step::Expect(Expectation::Lines(lines)) if lines.iter().any(|line| line == "250-8BITMIME"))
    });
    if about_tls || lists_all || script.name.contains("tls") { 1 } else { 2 }
}

/// As many messages as the scripts name, without and with TLS, and each body that they name as often.
fn check_messages(server: &Server, scripts: &[&Script], failures: &mut Vec<String>) {
    let mut stored = export::all(&server.data());
    let expected = scripts.iter().map(|script| script.messages.len() * ways(script)).sum::<usize>();
    if stored.len() != expected {
        failures.push(format!(
            "{} messages expected, {} stored: {:?}",
            expected,
            stored.len(),
            scripts[0].settings
        ));
    }
    for script in scripts {
        for message in script.messages.iter().filter_map(|message| message.body.as_ref()) {
            for _ in 0..ways(script) {
                let found = stored.iter().find(|(_, stored)| export::split(stored, message).is_ok());
                if let Some(id) = found.map(|(id, _)| id.clone()) {
                    stored.remove(&id);
                } else {
                    failures.push(format!("{}: not stored as sent: {}", script.name, message.escape_ascii()));
                }
            }
        }
    }
}
