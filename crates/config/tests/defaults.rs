//! The defaults, their dump and the document.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::time::Duration;

use inrush_admin::AdminSettings;
use inrush_config::{Config, documentation, dump_defaults};
use inrush_gateway::settings::{Engine, GatewaySettings};
use inrush_log::{Durability, LogSettings};
use inrush_proto::{BareNewline, Limits};

fn parse(text: &str) -> Config {
    Config::parse(Path::new("x.toml"), text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// Everything in `config` is the default of the part that owns it.
fn assert_defaults(config: &Config) {
    assert_eq!(config.gateway, GatewaySettings::default());
    assert_eq!(config.session.limits, Limits::default());
    assert_eq!(config.gateway.listeners[0].bare_newline, BareNewline::default());
    assert_eq!(config.session.hostname, GatewaySettings::default().hostname);
    assert_eq!(config.log, LogSettings::default());
    assert_eq!(config.admin, AdminSettings::default());
    assert_eq!(config.data_dir, Path::new("./inrush-data"));
    assert_eq!(config.node, 0);
    assert!(config.recipients.takes_every_domain());
    assert_eq!(config.recipients.domains(), 0);
}

#[test]
fn without_a_file_the_defaults_of_the_parts_are_in_force() {
    assert_defaults(&Config::load(None).unwrap());
    assert_defaults(&parse(""));
    let config = Config::default();
    assert_eq!(config.gateway.listeners[0].addresses[0].to_string(), "127.0.0.1:2525");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9925");
}

#[test]
fn the_dump_of_the_defaults_gives_exactly_the_defaults() {
    let text = dump_defaults();
    assert_defaults(&parse(&text));
    assert_eq!(parse(&text).dump(), Config::default().dump());
    // Each key stands there below its explanation.
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2).filter(|pair| !pair[1].starts_with('#') && pair[1].contains(" = ")) {
        assert!(pair[0].starts_with("# "), "{} lacks its explanation", pair[1]);
    }
}

#[test]
fn what_is_dumped_gives_the_same_again() {
    let text = r#"
        hostname = "mx1.example.com"
        data_dir = "/var/lib/\"odd\"/inrush"
        node = 7
        cores = 2
        engine = "epoll"
        [limits]
        message_bytes_max = "25MiB"
        idle_timeout = "90s"
        min_data_rate = 0
        [log]
        durability = "relaxed"
        relaxed_sync_interval = "250ms"
        segment_bytes = "16MiB"
        [[listener]]
        name = "a"
        address = ["127.0.0.1:2525", "[::1]:0"]
        bare_newline = "normalize"
        [[listener]]
        name = "b"
        address = ["[::]:25"]
        [[domain]]
        name = "example.com"
        [[domain]]
        name = "*"
        allow_open = true
    "#;
    let config = parse(text);
    assert_eq!(config.gateway.hostname, "mx1.example.com");
    assert_eq!(config.session.hostname, "mx1.example.com");
    assert_eq!(config.data_dir, Path::new("/var/lib/\"odd\"/inrush"));
    assert_eq!((config.node, config.gateway.cores, config.gateway.engine), (7, 2, Engine::Epoll));
    assert_eq!(config.session.limits.message_bytes_max, 25 << 20);
    let modes: Vec<BareNewline> =
        config.gateway.listeners.iter().map(|listener| listener.bare_newline).collect();
    assert_eq!(modes, [BareNewline::Normalize, BareNewline::Reject]);
    assert_eq!(config.gateway.timeouts.idle_timeout, Duration::from_secs(90));
    assert_eq!(config.gateway.timeouts.min_data_rate, 0);
    assert_eq!((config.log.durability, config.log.segment_bytes), (Durability::Relaxed, 16 << 20));
    assert_eq!(config.log.relaxed_sync_interval, Duration::from_millis(250));
    let names: Vec<&str> = config.gateway.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(config.gateway.listeners[0].addresses.len(), 2);
    assert!(config.recipients.takes_every_domain());

    let again = parse(&config.dump());
    assert_eq!(again.gateway, config.gateway);
    assert_eq!(again.session.limits, config.session.limits);
    assert_eq!((&again.log, &again.data_dir, again.node), (&config.log, &config.data_dir, config.node));
    assert_eq!(again.dump(), config.dump());
}

#[test]
fn the_document_is_the_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    if std::env::var_os("INRUSH_BLESS").is_some() {
        std::fs::write(path, documentation()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == documentation(),
        "docs/configuration.md is not the schema any more: INRUSH_BLESS=1 cargo test -p inrush-config writes it anew"
    );
}

#[test]
fn the_example_of_the_document_is_right() {
    let document = documentation();
    let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inrush.toml");
    std::fs::write(&path, example).unwrap();
    std::fs::write(folder.path().join("recipients.example.com"), "joe@example.com\n").unwrap();
    let made = rcgen::generate_simple_self_signed(["mx1.example.com".to_owned()]).unwrap();
    std::fs::create_dir(folder.path().join("tls")).unwrap();
    std::fs::write(folder.path().join("tls/fullchain.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("tls/privkey.pem"), made.signing_key.serialize_pem()).unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap().gateway.hostname, "mx1.example.com");
}
