//! The dashboard in a real browser, under real load, and against senders and servers who would like to run something in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use inrush_tests::browser::{Browser, Looks};
use inrush_tests::client::Client;
use inrush_tests::http;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::server::Server;
use inrush_tests::smtp_sink::SmtpSink;
use inrush_tests::{binary, process};
use serde_json::{Value, json};

use crate::delivery::{domain, hand_over, route, send, settings, text};

const DESK: Looks = Looks { width: 1440, height: 900, dark: false };
const NIGHT: Looks = Looks { dark: true, ..DESK };
const PHONE: Looks = Looks { width: 375, height: 800, dark: false };

/// Scripts in every place that senders and other servers can fill.
const HOSTILE_SENDER: &str = "\"<script>window.pwned=1</script>\"@client.test.example";
const HOSTILE_RECIPIENT: &str = "\"'><img src=x onerror=window.pwned=1>\"@hostile.example";
const HOSTILE_REPLY: &str =
    "450 4.2.0 <script>window.pwned=1</script> \"quoted\" & '<b onclick=x>' \u{1b}[31mred";

/// Load that comes to its end, or is ended with the test.
struct Load(Child);

impl Load {
    fn start(server: &Server, flags: &[&str]) -> Self {
        let mut command = Command::new(binary::inrush_load());
        command.arg("run").arg(server.mx().to_string()).arg("--quiet").args(flags);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn page(server: &Server) -> String {
    format!("http://{}/", server.admin())
}

/// The page asks its own server and nobody else, and nothing in it goes wrong.
#[track_caller]
fn holds_together(browser: &Browser, server: &Server) {
    let origin = page(server);
    let strangers: Vec<_> = browser
        .requests()
        .into_iter()
        .filter(|url| !url.starts_with(&origin) && url != "about:blank")
        .collect();
    assert_eq!(strangers, [""; 0]);
    // Whether there are talkers is found out by asking.
    let mut troubles = browser.troubles();
    troubles.retain(|trouble| !trouble.contains("/api/v1/talkers?"));
    assert_eq!(troubles, [""; 0]);
    assert_eq!(browser.run("window.pwned === undefined"), true);
}

/// A gateway that hands on to `peer` and `sink`.
fn gateway(peer: SocketAddr, sink: SocketAddr) -> Server {
    Server::with(settings(&[
        route("out", "smtp", &[peer], ""),
        route("store", "smtp", &[sink], ""),
        domain("example.com", "store"),
        domain("hostile.example", "out"),
        "[queue]\nretry_first = \"1h\"\nretry_max = \"2h\"\n".to_owned(),
    ]))
}

fn hostile_peer() -> Peer {
    Peer::start(Script::smtp().on(When::at(Stage::Recipient), Answer::reply(HOSTILE_REPLY)))
}

/// Where pictures are kept that somebody wants to look at.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("INRUSH_PICTURES").map(PathBuf::from)
}

#[test]
fn numbers_move_under_load_in_any_colours_and_width() {
    let (peer, sink) = (hostile_peer(), SmtpSink::counting());
    let server = gateway(peer.address(), sink.address());
    for number in 0..12 {
        send(
            &server,
            &format!("<a{number}@client.test.example>"),
            &[&format!("<user{number}@hostile.example>")],
            &text("x"),
        );
    }
    let _idle = [Client::greeted(server.mx()), Client::greeted(server.mx())];
    let _load =
        Load::start(&server, &["-s", "6", "-D", "600s", "--rate", "150", "--to", "user{number}@example.com"]);
    let _refused =
        Load::start(&server, &["-s", "1", "-D", "600s", "--rate", "5", "--to", "nobody@elsewhere.example"]);
    let browser = Browser::start();
    browser.open(&page(&server), DESK);
    browser.wait_until("document.querySelector('#state-word').textContent.startsWith('ready')");
    let accepted = "Number(document.querySelector('#figures dd.note').textContent.replace(/\\D/g, ''))";
    let before = browser.run(accepted).as_f64().unwrap();
    browser.wait_until(&format!("{accepted} > {before} + 100"));
    browser.wait_until("document.querySelector('#refusals tbody').textContent.includes('relay_denied')");
    // Latencies, cores, routes, destinations: all of it is there.
    for part in ["#phases tbody", "#cores tbody", "#routes tbody", "#destinations tbody"] {
        browser.wait_until(&format!(
            "!/^(none|nothing.*)?$/.test(document.querySelector('{part}').textContent)"
        ));
    }
    browser.wait_until("document.querySelectorAll('.chart canvas').length === 4");
    browser.run("document.querySelector('#sessions-toggle').click()");
    browser.wait_until("document.querySelector('#sessions tbody').rows.length >= 2");
    browser.wait_until("document.querySelector('#sessions tbody').textContent.includes('mx')");
    // Charts draw what the samples bring: the label for those who do not see it moves with them.
    let label = "document.querySelector('#chart-messages').getAttribute('aria-label')";
    // A steady load is shown as what it is, second after second the same.
    let shown = browser.run(label);
    let _more =
        Load::start(&server, &["-s", "2", "-D", "600s", "--rate", "100", "--to", "user{number}@example.com"]);
    browser.wait_until(&format!("{label} !== {shown}"));
    // A pause holds the picture.
    browser.run("document.querySelector('#pause').click()");
    let held = browser.run(accepted);
    let reader = http::get(server.admin(), "/api/v1/status");
    assert_eq!(reader.status, 200);
    assert_eq!(browser.run(accepted), held);
    browser.run("document.querySelector('#pause').click()");
    browser.wait_until(&format!("{accepted} > {held}"));
    for (name, looks) in [("light", DESK), ("dark", NIGHT), ("phone", PHONE)] {
        browser.look(looks);
        browser.wait_until(&format!("innerWidth === {}", looks.width));
        browser.wait_until(
            "document.querySelector('.chart canvas').getBoundingClientRect().right <= innerWidth",
        );
        assert_eq!(
            browser.run("document.documentElement.scrollWidth <= innerWidth"),
            true,
            "{name}: it scrolls sideways"
        );
        let ground = browser.run("getComputedStyle(document.documentElement).backgroundColor");
        assert_eq!(ground == "rgb(16, 19, 22)", looks.dark, "{name}: {ground}");
        if let Some(folder) = pictures() {
            browser.screenshot(&folder.join(format!("{name}.png")), false);
            browser.screenshot(&folder.join(format!("{name}-whole.png")), true);
        }
    }
    // The colours that somebody has chosen go before those of the system.
    browser.look(DESK);
    browser.run("{ const pick = document.querySelector('#theme'); pick.value = 'dark'; pick.dispatchEvent(new Event('change')); }");
    assert_eq!(browser.run("getComputedStyle(document.documentElement).backgroundColor"), "rgb(16, 19, 22)");
    holds_together(&browser, &server);
}

#[test]
fn hostile_mail_is_text_and_is_held_after_a_question() {
    let (peer, sink) = (hostile_peer(), SmtpSink::counting());
    let server = gateway(peer.address(), sink.address());
    let mut client = Client::greeted(server.mx());
    let id = hand_over(
        &mut client,
        &format!("<{HOSTILE_SENDER}>"),
        &[&format!("<{HOSTILE_RECIPIENT}>")],
        &text("x"),
    );
    let state = || {
        let listed: Value = serde_json::from_str(&http::get(server.admin(), "/api/v1/queue").body).unwrap();
        listed["entries"][0]["state"].as_str().unwrap_or_default().to_owned()
    };
    process::eventually("it is deferred", || state() == "deferred");
    let browser = Browser::start();
    browser.open(&page(&server), DESK);
    // The reply of the other server, in the list of destinations.
    let destinations = "document.querySelector('#destinations tbody').textContent";
    browser.wait_until(&format!("{destinations}.includes('<script>window.pwned=1</script> \"quoted\" &')"));
    assert_eq!(
        browser.run(&format!("{destinations}.includes('\\\\u{{1b}}[31mred')")),
        true,
        "{}",
        browser.run(destinations)
    );
    let search = |field: &str, text: &str| {
        let text = Value::from(text);
        browser.run(&format!(
            "{{ const form = document.querySelector('#search'); form.reset(); form.elements.{field}.value = {text}; form.requestSubmit(); }}"
        ));
    };
    let life = "document.querySelector('#life').textContent";
    // By recipient, by sender, by id: always the same message with its whole life.
    for (field, wanted) in [("recipient", HOSTILE_RECIPIENT), ("sender", HOSTILE_SENDER), ("id", &id)] {
        browser.run("document.querySelector('#life').replaceChildren()");
        search(field, wanted);
        browser
            .wait_until(&format!("{life}.includes({}) && {life}.includes('450')", Value::from(id.as_str())));
        assert_eq!(browser.run(&format!("{life}.includes({})", Value::from(HOSTILE_SENDER))), true);
        assert_eq!(browser.run(&format!("{life}.includes({})", Value::from(HOSTILE_RECIPIENT))), true);
    }
    search("sender", "nobody@example.org");
    browser.wait_until("document.querySelector('#search-told').textContent.startsWith('Nothing found')");
    assert_eq!(browser.run("document.querySelectorAll('main script, main img').length"), 0);
    // Hold: asked first, and a no changes nothing.
    search("id", &id);
    browser.wait_until("document.querySelector('#life [data-action=hold]') !== null && !document.querySelector('#life').hidden");
    browser.run("document.querySelector('#life [data-action=hold]').click()");
    browser.wait_until("document.querySelector('#ask').open");
    assert_eq!(browser.run("document.querySelector('#ask-title').textContent"), "Hold 1 message?");
    // Enter alone is a no.
    assert_eq!(browser.run("document.activeElement.id"), "ask-no");
    browser.press("Enter");
    browser.wait_until("!document.querySelector('#ask').open");
    assert_eq!(state(), "deferred");
    browser.run("document.querySelector('#life [data-action=hold]').click()");
    browser.wait_until("document.querySelector('#ask').open");
    browser.press("Tab");
    assert_eq!(browser.run("document.activeElement.id"), "ask-yes");
    browser.press("Enter");
    process::eventually("it is held", || state() == "hold");
    browser.wait_until(&format!("{life}.includes('held by the operator')"));
    // And of a whole destination, from its row.
    browser.run("document.querySelector('#destinations [data-action=release]').click()");
    browser.wait_until("document.querySelector('#ask').open");
    browser.run("document.querySelector('#ask-yes').click()");
    process::eventually("it is not held any more", || state() != "hold");
    holds_together(&browser, &server);
}

/// What a server offers that has more than this one: the answers are made up, their texts hostile.
#[test]
fn more_is_shown_where_it_is_offered() {
    let server = Server::start();
    let browser = Browser::start();
    let name = "<img src=x onerror=window.pwned=1>";
    let talkers = json!({ "window_seconds": 300, "talkers": [
        { "name": name, "messages": 12_345, "refusals": 7, "bytes": 5_000_000, "over_by_at_most": 3 },
    ] });
    browser.answer("/api/v1/talkers", &talkers);
    browser.answer("/api/v1/status", &json!({ "offers": ["drain", "reload"] }));
    browser.answer("/api/v1/drain", &json!({}));
    browser.open(&page(&server), DESK);
    browser.wait_until("!document.querySelector('#talkers').hidden");
    let row = browser.run("[...document.querySelector('#talkers tbody').rows[0].cells].map((cell) => cell.textContent).join('|')");
    assert_eq!(row, format!("{name}|12,345|7|4.8 MiB|3"));
    browser.run("{ const by = document.querySelector('#talkers-by'); by.value = 'sender_domain'; by.dispatchEvent(new Event('change')); }");
    process::eventually("it is asked for", || {
        browser.requests().iter().any(|url| url.contains("by=sender_domain"))
    });
    // Drain is asked about first.
    browser
        .wait_until("!document.querySelector('#drain').hidden && !document.querySelector('#reload').hidden");
    browser.run("document.querySelector('#drain').click()");
    browser.wait_until("document.querySelector('#ask').open");
    browser.press("Escape");
    browser.wait_until("!document.querySelector('#ask').open");
    let drained = || browser.requests().iter().filter(|url| url.ends_with("/api/v1/drain")).count();
    assert_eq!(drained(), 0);
    browser.run("document.querySelector('#drain').click()");
    browser.wait_until("document.querySelector('#ask').open");
    browser.run("document.querySelector('#ask-yes').click()");
    browser.wait_until("document.querySelector('#told').textContent === 'drain: done'");
    assert_eq!(drained(), 1);
    holds_together(&browser, &server);
}

#[test]
fn without_offers_there_is_nothing_of_it() {
    let server = Server::start();
    let browser = Browser::start();
    browser.open(&page(&server), DESK);
    process::eventually("talkers were asked for", || {
        browser.requests().iter().any(|url| url.contains("/api/v1/talkers"))
    });
    let offered = http::get(server.admin(), "/api/v1/talkers?by=address&limit=12").status == 200;
    browser.wait_until(&format!("document.querySelector('#talkers').hidden !== {offered}"));
    let status: Value = serde_json::from_str(&http::get(server.admin(), "/api/v1/status").body).unwrap();
    for name in ["drain", "reload"] {
        let offered =
            status["offers"].as_array().is_some_and(|offers| offers.iter().any(|offer| offer == name));
        browser.wait_until(&format!("document.querySelector('#{name}').hidden !== {offered}"));
    }
}

#[test]
fn a_token_is_asked_for_and_stays_in_the_tab() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let token_file = format!("token_file = \"{}\"", file.display());
    let server =
        Server::with(inrush_tests::settings::Settings { admin: vec![token_file], ..Default::default() });
    let browser = Browser::start();
    browser.open(&page(&server), DESK);
    browser.wait_until("document.querySelector('#login').open");
    let try_token = |token: &str| {
        browser.run(&format!("document.querySelector('#token').value = '{token}'; document.querySelector('#login-form').requestSubmit()"));
    };
    try_token("wrong");
    browser.wait_until("document.querySelector('#login-told').textContent === 'That is not the token.'");
    try_token("0123456789abcdef");
    browser.wait_until("document.querySelector('#state-word').textContent === 'ready'");
    assert_eq!(browser.run("document.querySelector('#login').open"), false);
    assert_eq!(browser.run("Object.values(localStorage).join() + document.cookie"), "");
    let urls = browser.requests();
    assert!(urls.iter().all(|url| !url.contains("0123456789abcdef")), "{urls:?}");
}

#[test]
fn keys_reach_everything_and_the_end_of_the_server_is_said() {
    let mut server = Server::start();
    let browser = Browser::start();
    browser.open(&page(&server), DESK);
    browser.wait_until("document.querySelector('#state-word').textContent === 'ready'");
    // From one to the next, until it comes round: each is seen, and has a name.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        browser.press("Tab");
        let name = browser.run(
            "(() => { const at = document.activeElement; const outline = getComputedStyle(at).outlineStyle; \
             if (at === document.body) return ''; if (outline === 'none') return `${at.id} has no outline`; \
             return at.id || at.name || at.textContent; })()",
        );
        let name = name.as_str().unwrap_or_default().to_owned();
        assert!(!name.ends_with("has no outline"), "{name}");
        seen.insert(name);
    }
    for id in ["pause", "theme", "phase", "id", "sender", "recipient", "sessions-toggle"] {
        assert!(seen.contains(id), "{id}: {seen:?}");
    }
    let unnamed = browser.run(
        "[...document.querySelectorAll('button, input, select')].filter((one) => !one.closest('dialog') \
         && !(one.textContent.trim() || one.labels?.[0]?.textContent.trim() || one.getAttribute('aria-label'))).map((one) => one.id).join()",
    );
    assert_eq!(unnamed, "");
    assert_eq!(browser.run("[...document.querySelectorAll('table')].every((one) => one.tHead.rows[0].cells.length > 1 && one.closest('[aria-labelledby], [aria-label]'))"), true);
    holds_together(&browser, &server);
    server.stop();
    browser.wait_until("document.querySelector('#state-word').textContent.startsWith('no connection')");
}
