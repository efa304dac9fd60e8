//! What operators ask the running gateway: who is connected, where a message is, what waits for whom; and that the description of the API is true.

use std::net::SocketAddr;

use inrush_tests::client::Client;
use inrush_tests::http;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::Authority;
use serde_json::Value;

use crate::delivery::{domain, outcome, route, send, settings, simple, text};

#[track_caller]
fn ask(server: &Server, path: &str) -> Value {
    let answer = http::get(server.admin(), path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The session of this client.
fn session(server: &Server, client: SocketAddr) -> Option<Value> {
    let all = ask(server, "/api/v1/sessions?limit=1000");
    assert_eq!(all["silent_cores"], serde_json::json!([]));
    let client = client.to_string();
    all["sessions"].as_array().unwrap().iter().find(|session| session["client"] == client.as_str()).cloned()
}

#[test]
fn sessions_show_what_they_do() {
    let authority = Authority::new();
    let tls = format!("[tls]\n{}", authority.issue("mx1.example.com").lines());
    let server = Server::with(Settings::default().listener("tls = \"starttls\"").tables(&tls));
    let mut plain = Client::greeted(server.mx());
    let address = plain.stream().local_addr().unwrap();
    let of = |client| session(&server, client).unwrap();
    let idle = of(address);
    assert_eq!(
        (&idle["listener"], &idle["phase"], &idle["last_command"]),
        (&"mx".into(), &"ready".into(), &"ehlo".into())
    );
    assert_eq!((&idle["tls"], &idle["messages"]), (&Value::Null, &0.into()));
    plain.deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
    plain.envelope(&["b@example.com"]);
    let busy = of(address);
    assert_eq!(
        (&busy["messages"], &busy["phase"], &busy["last_command"]),
        (&1.into(), &"envelope".into(), &"rcpt".into())
    );
    assert!(busy["octets"].as_u64().unwrap() > 100 && busy["age_seconds"].as_f64().unwrap() > 0.0, "{busy}");
    plain.say("DATA", 354);
    assert_eq!(of(address)["phase"], "data");
    let mut secure = Client::greeted(server.mx());
    secure.start_tls("mx1.example.com");
    let secured = of(secure.stream().local_addr().unwrap());
    assert_eq!(secured["tls"], "TLSv1.3");
    // The oldest first, as many as are asked for.
    let first = ask(&server, "/api/v1/sessions?limit=1");
    assert_eq!((&first["open"], first["sessions"].as_array().unwrap().len()), (&2.into(), 1));
    assert_eq!(first["sessions"][0]["client"], address.to_string());
    drop((plain, secure));
    process::eventually("they have left", || {
        ask(&server, "/api/v1/sessions")["sessions"] == serde_json::json!([])
    });
    assert_eq!(http::get(server.admin(), "/api/v1/sessions?limit=0").status, 400);
}

#[test]
fn a_filters_client_is_the_one_that_is_shown() {
    let server = Server::with(Settings::default().listener("xclient_from = [\"127.0.0.1\"]"));
    let mut filter = Client::greeted(server.mx());
    filter.say("XCLIENT ADDR=192.0.2.7 PORT=4321", 220);
    assert!(session(&server, "192.0.2.7:4321".parse().unwrap()).is_some());
}

/// The ids that a search has found.
fn ids(found: &Value) -> Vec<&str> {
    found["messages"].as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap()).collect()
}

#[test]
fn messages_are_found_wherever_they_are() {
    let (peer, slow) = (
        Peer::start(Script::smtp()),
        Peer::start(Script::smtp().on(When::at(Stage::Recipient), Answer::reply("450 4.2.0 later"))),
    );
    let server = Server::with(settings(&[
        route("out", "smtp", &[peer.address()], ""),
        route("slow", "smtp", &[slow.address()], ""),
        domain("fast.example", "out"),
        domain("slow.example", "slow"),
        "[queue]\nretry_first = \"1h\"\nretry_max = \"2h\"\n".to_owned(),
    ]));
    let sent = simple(&server, "one", &["b@fast.example"]);
    let waits =
        send(&server, "<Other@Client.test.example>", &["<b@slow.example>", "<c@slow.example>"], &text("two"));
    let null = send(&server, "<>", &["<d@fast.example>"], &text("three"));
    outcome(&server, &sent, "b@fast.example", "sent");
    outcome(&server, &waits, "c@slow.example", "deferred");
    outcome(&server, &null, "d@fast.example", "sent");
    let find = |query: &str| ask(&server, &format!("/api/v1/messages?{query}"));
    for (query, expected) in [
        ("sender=sender%40client.test.example", vec![&sent]),
        ("sender=Other%40CLIENT.test.example", vec![&waits]),
        ("sender=other%40client.test.example", vec![]),
        ("sender=%40client.test.example", vec![&waits, &sent]),
        ("sender=%3C%3E", vec![&null]),
        ("recipient=%40fast.example", vec![&null, &sent]),
        ("recipient=c%40slow.example", vec![&waits]),
        ("recipient=c%40slow.example&sender=%3C%3E", vec![]),
        (&format!("id={sent}"), vec![&sent]),
        (&format!("id={sent}&recipient=nobody%40fast.example"), vec![]),
    ] {
        let found = find(query);
        assert_eq!(ids(&found), expected, "{query}: {found}");
        assert_eq!((&found["more"], &found["cut"]), (&false.into(), &Value::Null), "{query}");
    }
    let found = find("recipient=c%40slow.example");
    let message = &found["messages"][0];
    assert_eq!(
        (&message["state"], &message["recipients_total"]),
        (&"deferred".into(), &2.into()),
        "{message}"
    );
    assert!(found["looked_at"]["octets"].as_u64().unwrap() > 0 && found["looked_at"]["since"].is_string());
    assert_eq!(find("sender=%3C%3E")["messages"][0]["state"], "not_queued");
    let since = message["accepted_at"].as_str().unwrap();
    let before = find(&format!("sender=%40client.test.example&until={since}"));
    assert_eq!(ids(&before), [sent.as_str()], "{before}");
    let one = find("sender=%40client.test.example&limit=1");
    assert_eq!((ids(&one), &one["more"]), (vec![waits.as_str()], &true.into()));
    assert_eq!(one["messages"][0]["state"], "deferred", "{one}");
    // The life of one that is done.
    let life = ask(&server, &format!("/api/v1/messages/{sent}"));
    assert_eq!((&life["recipients"][0]["status"], &life["in_log"]), (&"sent".into(), &true.into()));
    for (path, status) in [
        ("?", 400),
        ("?subject=x", 400),
        ("/nonsense", 400),
        ("/00000000FFFFFFFFF000", 404),
        ("?limit=5", 400),
    ] {
        assert_eq!(http::get(server.admin(), &format!("/api/v1/messages{path}")).status, status, "{path}");
    }
    // For whom it waits, and what was said last.
    let worst = ask(&server, "/api/v1/queue/destinations");
    let worst = &worst["destinations"][0];
    assert_eq!(
        (&worst["destination"], &worst["waiting"], &worst["last_reply"]),
        (&"slow".into(), &1.into(), &"450 4.2.0 later".into()),
        "{worst}"
    );
    assert_eq!(http::get(server.admin(), "/api/v1/queue/destinations?limit=x").status, 400);
    // Only what waits for this recipient is meant by a change.
    let held = http::post(server.admin(), "/api/v1/queue/hold?recipient=c%40slow.example", "X-Inrush: 1\r\n");
    assert_eq!(held.body, "{\"action\":\"hold\",\"done\":1,\"found\":1}\n");
    let states: Vec<_> = ask(&server, &format!("/api/v1/queue?id={waits}"))["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {}", entry["state"], entry["recipients"]))
        .collect();
    assert_eq!(states.len(), 2, "{states:?}");
    assert!(states.contains(&"\"hold\" [\"c@slow.example\"]".to_owned()), "{states:?}");
}

/// Whatever core took them: page by page, each message once, the newest first.
#[test]
fn a_search_goes_on_where_the_last_one_has_ended() {
    let server = Server::start();
    let mut sent: Vec<String> =
        (0..12).map(|number| simple(&server, &number.to_string(), &["b@example.com"])).collect();
    sent.reverse();
    let (mut told, mut until) = (Vec::new(), String::new());
    loop {
        let found = ask(&server, &format!("/api/v1/messages?recipient=%40example.com&limit=5{until}"));
        told.extend(ids(&found).into_iter().map(str::to_owned));
        if found["more"] == false {
            break;
        }
        until = format!("&until={}", found["looked_at"]["since"].as_str().unwrap());
        assert!(told.len() < 50, "{told:?}");
    }
    // The last one of a page may be told again: another may have been accepted in the same microsecond.
    told.dedup();
    assert_eq!(told, sent);
}

#[test]
fn without_a_relay_messages_are_found_in_the_log() {
    let server = Server::start();
    let id = simple(&server, "x", &["b@example.com"]);
    let found = ask(&server, "/api/v1/messages?recipient=b%40example.com");
    assert_eq!((ids(&found), &found["messages"][0]["state"]), (vec![id.as_str()], &"in_log".into()));
    let life = ask(&server, &format!("/api/v1/messages/{id}"));
    assert_eq!(life["session"]["listener"], "mx");
    assert_eq!(http::get(server.admin(), "/api/v1/queue").status, 404);
}

/// Every path that the description names is there, and what it says of the methods holds.
#[test]
fn the_description_of_the_api_is_true() {
    let peer = Peer::start(Script::smtp());
    let server = Server::with(settings(&[route("out", "smtp", &[peer.address()], ""), domain("*", "out")]));
    let id = simple(&server, "x", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "sent");
    let document = ask(&server, "/api/v1/openapi.json");
    let paths = document["paths"].as_object().unwrap();
    // The answers to these have no end, or are the end.
    let endless = ["/api/v1/events", "/api/v1/trace", "/api/v1/drain"];
    for (path, methods) in paths.iter().filter(|(path, _)| !endless.contains(&path.as_str())) {
        let named = path.replace("{id}", &id);
        if methods["get"].is_object() {
            let query = match path.as_str() {
                "/api/v1/messages" => "?sender=%3C%3E",
                "/api/v1/replay" => "?route=out&domain=example.com",
                _ => "",
            };
            assert_eq!(http::get(server.admin(), &format!("{named}{query}")).status, 200, "GET {path}");
        }
        let parameters = match path.as_str() {
            "/api/v1/log-level" => "level=info",
            "/api/v1/reload" => "",
            _ => "domain=nowhere.example&route=out",
        };
        let changed = http::post(server.admin(), &format!("{named}?{parameters}"), "X-Inrush: 1\r\n");
        if methods["post"].is_object() {
            assert_eq!(changed.status, 200, "POST {path}: {}", changed.body);
        } else {
            assert!(matches!(changed.status, 404 | 405), "POST {path}: {} {}", changed.status, changed.body);
        }
    }
    let drained = http::post(server.admin(), "/api/v1/drain?delay=1h", "X-Inrush: 1\r\n");
    assert_eq!(drained.status, 200, "{}", drained.body);
    // The text for people names them all.
    let text = std::fs::read_to_string(inrush_tests::binary::folder("../docs/api.md")).unwrap();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let path = path.replace("{id}", "ID");
            let action = path.strip_prefix("/api/v1/queue/").filter(|_| method == "POST");
            let row = match action {
                Some(action) => {
                    text.contains("`POST /api/v1/queue/ACTION`") && text.contains(&format!("`{action}`"))
                }
                None => text.contains(&format!("`{method} {path}`")),
            };
            assert!(row, "docs/api.md does not name {method} {path}");
        }
    }
}
